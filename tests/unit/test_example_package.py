"""The worked example of a package with actions, as it stands in examples/: installed, linted and run."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_tasks.bootstrap.actions import shipped_traits
from ha_tasks.bootstrap.own_actions import Actions, OwnActions, load
from ha_tasks.cli.plan import subject
from ha_tasks.disaster_recovery.lint import errors, findings
from ha_tasks.disaster_recovery.playbooks import load_playbooks, read_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import ActionFailed
from ha_tasks.model.plan_hash import plan_hash
from ha_tasks.model.playbook import Plan
from ha_tasks.model.run import RunState
from ha_tasks.names import ActionName
from ha_tasks.ports.action import ActionTools
from ha_tasks.ports.repositories import NewRun
from ha_tasks.workflows.preview import preview
from tests.docs.pages import ROOT
from tests.fakes.action import FakeAction
from tests.fakes.clock import FakeClock
from tests.own_packages import install
from tests.unit.builders import platform, web
from tests.unit.test_recovery_orchestrator import World, planned

EXAMPLE = ROOT / "examples" / "acme-actions"
PROJECT = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
PLATFORM = platform(web())


@pytest.fixture
def cdn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The CDN of the example; its package is installed, as pip would, for this test."""
    points = PROJECT["entry-points"]["ha_tasks.actions"]
    install(tmp_path, PROJECT["name"], points, version=PROJECT["version"])
    for directory in (tmp_path, EXAMPLE, EXAMPLE / "tests"):
        monkeypatch.syspath_prepend(str(directory))
    from cdn_server import running_cdn

    with running_cdn() as running:
        yield running


def own(url: str) -> OwnActions:
    return load(
        lambda name: ActionTools(
            name=name,
            platform=PLATFORM,
            clock=FakeClock(),
            settings={"url": url},
            secret=lambda _: "acme-token",
        )
    )


def plan_of(loaded: OwnActions) -> Plan:
    playbooks = load_playbooks([EXAMPLE / "playbooks"])
    planner = RecoveryPlanner(PLATFORM, playbooks, loaded.traits)
    return planner.create_recovery_plan(INCIDENT)


INCIDENT = subject(web(), (), None, "web1", FakeClock().now())


class Recovery(World):
    """A run of the example's playbook: its own action for real, the others as fakes."""

    def __init__(self, loaded: OwnActions) -> None:
        super().__init__(planned(1, ActionName.TAKE_OUT))
        plan = plan_of(loaded)
        fakes = {str(a): FakeAction(self.log, str(a)) for a in ActionName}
        self.actions = Actions({**fakes, **loaded.actions})
        new = NewRun(
            plan=plan,
            incident=None,
            mode="auto",
            requested_by="test",
            reason="test",
            idempotency_key="example",
        )
        self.finish()
        self.run, message = self.store.journal.create(new, self.clock.now())
        self.log.clear()
        self.worker = self.executor("h/w2/2")
        self.worker.send(message)


def test_its_own_tests_pass():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=EXAMPLE,
        env={**os.environ, "PYTHONPATH": str(EXAMPLE), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_its_playbook_has_no_finding(cdn):
    actions = {**shipped_traits(), **own(cdn.url).traits}

    assert errors(findings(read_playbooks([EXAMPLE / "playbooks"]), actions, PLATFORM)) == ()


def test_its_action_is_in_the_plan_with_its_package_and_its_difference(cdn):
    loaded = own(cdn.url)
    plan = plan_of(loaded)

    steps = preview(plan, web(), INCIDENT, Recovery(loaded).actions)

    assert (plan.playbook, plan.steps[0].provider) == ("acme-web", "acme-actions 1.0")
    (change,) = steps[0].difference.changes
    assert (change.what, change.before, change.after) == ("cdn zone www", "pass", "shield")
    assert cdn.modes == {"www": "pass"}
    assert len(plan_hash(plan)) == 64


def test_a_recovery_runs_it_as_its_own_tasks_and_ends_with_the_cdn_open(cdn):
    world = Recovery(own(cdn.url))
    tasks, modes = [], []
    while world.state.ended_at is None:
        tasks.append(world.broker.messages[0].task)
        world.deliver()
        modes.append(cdn.modes["www"])

    assert world.state.state is RunState.SUCCEEDED
    assert tasks[0] == tasks[4] == "ha.step.acme.cdn_mode"
    assert modes == ["shield", "shield", "shield", "shield", "pass", "pass"]
    assert cdn.fences["www"] == world.state.fence - 1


def test_a_recovery_that_fails_gives_back_what_was_captured(cdn):
    cdn.modes["www"] = "half"
    world = Recovery(own(cdn.url))
    world.actions[ActionName.RESTART_INSTANCE].fail = [ActionFailed("no such unit")]

    world.finish()

    assert world.state.state is RunState.ROLLED_BACK
    assert cdn.modes == {"www": "half"}
