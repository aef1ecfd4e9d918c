"""Long jobs are done once per id, and what is asked of the agent is checked strictly."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from ha_tasks.errors import ActionFailed, PassingFailure, StaleAuthority
from ha_tasks.model.progress import Progress
from ha_tasks.model.system_health import HostReading
from ha_tasks.ports.host import Authority
from tests.integration.agent_nodes import wait_until
from workers.agent.config import FileConfig
from workers.agent.files import Files
from workers.agent.jobs import Jobs
from workers.agent.ledger import Ledger
from workers.agent.routes import Routes
from workers.agent.units import Units

BY = Authority(epoch=2, fence=1)


def jobs(directory: Path) -> Jobs:
    return Jobs(directory / "jobs", Ledger(directory / "ledger.json"), timeout_s=30)


def ended(it: Jobs, job: str):
    wait_until(lambda: it.state(job)["state"] in {"done", "failed"})
    return it.state(job)


def test_a_job_is_done_once_and_reported_for_ever(tmp_path):
    it, calls = jobs(tmp_path), []

    def work(*_):
        calls.append(1)
        return {"method": "start", "kept": ""}

    it.ask("a", BY, work)
    done = ended(it, "a")

    assert done == {"id": "a", "state": "done", "method": "start", "kept": ""}
    assert it.ask("a", BY, work) == done == it.last()
    assert jobs(tmp_path).ask("a", BY, work) == done
    assert len(calls) == 1


def test_asking_again_while_it_runs_renews_its_authority(tmp_path):
    it, go = jobs(tmp_path), threading.Event()

    def work(warrant, _):
        warrant.wait_until(go.is_set, "the test lets it go on")
        return {"epoch": warrant.by.epoch}

    it.ask("a", BY, work)
    assert it.ask("a", Authority(epoch=3, fence=1), work)["state"] == "running"
    with pytest.raises(StaleAuthority):
        it.ask("a", BY, work)
    go.set()

    assert ended(it, "a")["epoch"] == 3


def test_a_job_that_runs_says_how_far_it_is_and_one_that_is_over_does_not(tmp_path):
    it, go = jobs(tmp_path), threading.Event()

    def work(warrant, tell):
        tell(Progress(doing="a copy", done_bytes=1, of_bytes=4))
        warrant.wait_until(go.is_set, "the test lets it go on")
        return {"method": "basebackup"}

    it.ask("a", BY, work)
    wait_until(lambda: "progress" in it.last())
    told = it.last()["progress"]
    go.set()

    assert told == {"doing": "a copy", "done_bytes": 1, "of_bytes": 4, "percent": 25}
    assert ended(it, "a") == {"id": "a", "state": "done", "method": "basebackup"}


def test_another_job_calls_the_running_one_off(tmp_path):
    it = jobs(tmp_path)
    it.ask("a", BY, lambda warrant, _: warrant.wait_until(lambda: False, "never"))
    it.ask("b", BY, lambda *_: {})

    assert ended(it, "a")["reason"] == "agent_refused"
    assert ended(it, "b")["state"] == "done"
    assert it.last()["id"] == "b"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ActionFailed("no"), "action_failed"),
        (PassingFailure("not yet"), "passing_failure"),
        (KeyError("x"), "action_failed"),
    ],
)
def test_a_job_that_failed_says_why_and_is_done_anew_when_it_is_asked_for_again(tmp_path, error, reason):
    it = jobs(tmp_path)

    def fail(*_):
        raise error

    it.ask("a", BY, fail)
    assert ended(it, "a")["reason"] == reason
    it.ask("a", BY, lambda *_: {"method": "start"})

    wait_until(lambda: it.state("a")["state"] == "done")


def test_a_job_of_a_dead_agent_is_interrupted_and_can_be_asked_for_again(tmp_path):
    it, go = jobs(tmp_path), threading.Event()
    it.ask("a", BY, lambda warrant, _: warrant.wait_until(go.is_set, "the end") or {})
    later = Jobs(tmp_path / "jobs", Ledger(tmp_path / "other.json"), timeout_s=30)

    assert later.state("a") == {"id": "a", "state": "interrupted"}
    assert later.state("b")["state"] == "unknown"
    assert later.ask("a", BY, lambda *_: {"method": "start"})["state"] in {"running", "done"}
    go.set()
    ended(it, "a")


class Database:
    """Takes every verb and says what it was told."""

    def follow(self, by, timeout_s, *, upstream):
        return {"by": [by.epoch, by.fence], "timeout_s": timeout_s, "upstream": upstream}

    def status(self):
        raise PassingFailure("not now")


def routes(tmp_path) -> Routes:
    units = Units({}, tmp_path)
    conf = FileConfig(name="conf", path=tmp_path / "conf", reload=("true",))
    files = Files({"conf": conf}, tmp_path, units)
    return Routes(host="pg1", node="pg1", database=Database(), units=units, files=files)


BODY = {"epoch": 1, "fence": 2, "timeout_s": 0.5, "upstream": "pg2"}


def test_a_command_reaches_its_verb(tmp_path):
    reply = routes(tmp_path).answer("POST", "/v1/nodes/pg1/follow", json.dumps(BODY).encode())

    assert (reply.status, reply.body) == (200, {"by": [1, 2], "timeout_s": 0.5, "upstream": "pg2"})


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/nodes/pg2/follow", {}),
        ("/v1/nodes/pg1/destroy", {}),
        ("/v1/nodes/pg1/status", {}),
        ("/v1/nodes/pg1/_start", {}),
        ("/v1/nodes/pg1", {}),
        ("/v2/nodes/pg1/follow", {}),
        ("/v1/nodes/pg1/follow", {"epoch": "1"}),
        ("/v1/nodes/pg1/follow", {"epoch": True}),
        ("/v1/nodes/pg1/follow", {"fence": -1}),
        ("/v1/nodes/pg1/follow", {"timeout_s": 0}),
        ("/v1/nodes/pg1/follow", {"timeout_s": 1e9}),
        ("/v1/nodes/pg1/follow", {"upstream": None}),
        ("/v1/nodes/pg1/follow", {"force": True}),
        ("/v1/hosts/pg2/units/web1/restart", {}),
        ("/v1/hosts/pg1/units/web1/restart", {}),
        ("/v1/hosts/pg2/files/conf/keep", {"staged": False}),
        ("/v1/hosts/pg1/files/other/put", {}),
        ("/v1/hosts/pg1/files/conf/keep", {"staged": "no"}),
        ("/v1/hosts/pg1/files/conf/keep", {"staged": False}),
        ("/v1/hosts/pg1/files/conf/put", {"digest": "0" * 64}),
        ("/v1/hosts/pg1/files/conf/put", {"path": "/etc/passwd"}),
        ("/v1/hosts/pg1/files/conf/remove", {}),
    ],
)
def test_whatever_else_is_asked_is_refused(tmp_path, path, change):
    reply = routes(tmp_path).answer("POST", path, json.dumps({**BODY, **change}).encode())

    assert (reply.status, reply.body["reason"]) == (409, "agent_refused")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
def test_a_body_that_is_no_object_is_refused(tmp_path, body):
    assert routes(tmp_path).answer("POST", "/v1/nodes/pg1/follow", body).status == 409


def test_an_error_travels_with_its_reason(tmp_path):
    reply = routes(tmp_path).answer("GET", "/v1/nodes/pg1", b"")

    assert (reply.status, reply.body) == (503, {"reason": "passing_failure", "detail": "not now"})


def test_an_agent_tells_what_its_machine_uses(tmp_path):
    reply = routes(tmp_path).answer("GET", "/v1/hosts/pg1/resources", b"")

    reading = HostReading.from_json(json.loads(json.dumps(reply.body)))
    assert reply.status == 200
    assert 0.0 < reading.memory < 1.0
    assert 0.0 <= reading.disks["/"] <= 1.0
    assert 0.0 < reading.descriptors <= 1.0
    assert routes(tmp_path).answer("GET", "/v1/hosts/pg2/resources", b"").status == 409
