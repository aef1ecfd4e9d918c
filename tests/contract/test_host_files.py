"""The contract of versioned files of a host: on the fake and on a real agent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.errors import ActionFailed, AgentRefused, AgentUnreachable, StaleAuthority
from tests.fakes.host import FakeFileAgents
from tests.integration.agent_nodes import unit_agent

CONF = ("app", "conf")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Side:
    """Agents, and how a test writes what a deployment would. A check refuses what says ``broken``."""

    agents: FakeFileAgents | HostAgents
    home: Path | None = None

    def write(self, text: str, *, staged: bool = False) -> str:
        digest = sha(text)
        if self.home is not None:
            (self.home / ("web.conf.new" if staged else "web.conf")).write_text(text)
        elif isinstance(self.agents, FakeFileAgents):
            where = self.agents.staged if staged else self.agents.places
            where[CONF] = digest  # type: ignore[index]
            if "broken" in text:
                self.agents.refused.add(digest)
        return digest

    def put(self, digest: str, fence: int = 1) -> object:
        return self.agents.put_file(*CONF, digest, "run-1-1", fence=fence, timeout_s=5)


@pytest.fixture(params=["fake", "real"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    if request.param == "fake":
        yield Side(FakeFileAgents({CONF: None}))
        return
    more = (
        '[files.conf]\npath = "web.conf"\nstaged = "web.conf.new"\nreload = ["true"]\n'
        'check = ["/bin/sh", "-c", "! grep -q broken {}"]'
    )
    with unit_agent(tmp_path, host="app", unit="web1", more=more) as agents:
        yield Side(agents, tmp_path)


def test_a_content_is_kept_exchanged_and_put_back(side):
    first = side.write("first")
    assert side.agents.keep_file(*CONF) == {"digest": first}
    second = side.write("second", staged=True)
    assert side.agents.keep_file(*CONF, staged=True) == {"digest": second}

    answers = [side.put(digest, fence) for fence, digest in enumerate((second, second, first), start=1)]

    assert answers == [{"digest": second}, {"digest": second}, {"digest": first}]
    assert side.agents.file_status(*CONF) == {
        "digest": first,
        "staged": second,
        "loaded": first,
        "untold": False,
        "fence": 3,
    }


def test_what_is_not_there_and_what_was_never_kept_is_said(side):
    assert side.agents.file_status(*CONF)["digest"] is None
    with pytest.raises(ActionFailed, match="there is nothing"):
        side.agents.keep_file(*CONF)
    with pytest.raises(ActionFailed, match="is not kept on this host"):
        side.put(sha("never"))
    with pytest.raises(AgentRefused, match="there is no file other"):
        side.agents.file_status("app", "other")
    if isinstance(side.agents, FakeFileAgents):
        side.agents.silent.add("elsewhere")
    with pytest.raises(AgentUnreachable):
        side.agents.file_status("elsewhere", "conf")


def test_what_its_check_refuses_changes_nothing(side):
    first, broken = side.write("first"), side.write("broken", staged=True)
    side.agents.keep_file(*CONF, staged=True)

    with pytest.raises(ActionFailed, match="its check refuses"):
        side.put(broken)

    assert side.agents.file_status(*CONF)["digest"] == first


def test_a_file_is_not_exchanged_under_a_fence_that_is_lower_than_one_it_has_seen(side):
    first = side.write("first")
    side.agents.keep_file(*CONF)
    second = side.write("second", staged=True)
    side.agents.keep_file(*CONF, staged=True)
    side.put(second, fence=7)

    with pytest.raises(StaleAuthority):
        side.put(first, fence=6)

    assert side.agents.file_status(*CONF)["digest"] == second
