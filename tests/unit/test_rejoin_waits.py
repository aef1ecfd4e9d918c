"""A rejoin is begun when it can be done: not against a silent host, nor behind a primary that is gone."""

from __future__ import annotations

import pytest

from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.model.evidence import NO_SESSION_FOR
from ha_tasks.model.guards import Guard
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.recovery.recovery_orchestrator import RETRY_AFTER
from tests.unit.builders import database
from tests.unit.guarded_world import GuardedWorld

RUNNING = {"postmaster": "running", "epoch": 1, "stopped": "", "unanswered_s": 0.0, "self_fenced": ""}
PRIMARY = {"in_recovery": False, "agent": RUNNING}
STANDBY = {"in_recovery": True, "receiving": True, "agent": RUNNING}


@pytest.fixture
def world():
    made = GuardedWorld(database(), cooldown_s=0.0)
    made.cluster()
    made.health.facts |= {"pg1": PRIMARY, "pg2": STANDBY, "pg3": STANDBY}
    made.rounds(4)
    return made


def lose(world, node):
    """The host is gone with its agent: both refuse."""
    world.health.kinds[node] = OutcomeKind.REFUSED
    world.health.facts[node] = {"agent": None}


def crash(world, node):
    """PostgreSQL is gone, its agent lives."""
    world.health.kinds[node] = OutcomeKind.REFUSED
    world.health.facts[node] = {"agent": RUNNING | {"postmaster": "exited"}}


def test_what_an_agent_said_before_it_fell_silent_is_no_reason_to_begin(world):
    lose(world, "pg3")
    world.rounds(4)

    assert world.runs == ()
    assert world.of("db").state is IncidentState.BLOCKED
    assert world.refused(Guard.HOST_SILENT) == 1


def test_it_begins_by_itself_once_the_agent_is_back(world):
    lose(world, "pg3")
    world.rounds(12)
    crash(world, "pg3")
    world.rounds(2)

    assert [r.plan.playbook for r in world.runs] == ["postgres-rejoin"]


def test_one_vantage_that_hears_the_agent_is_enough(world):
    crash(world, "pg3")
    deaf, hearing = world.health.vantages
    world.health.vantages = (deaf,)
    look = world.health.look

    def seen(services):
        found = look(services)
        world.health.vantages, before = (hearing,), world.health.facts["pg3"]
        world.health.facts["pg3"] = {"agent": None}
        found += look(services)
        world.health.vantages, world.health.facts["pg3"] = (deaf,), before
        return found

    world.health.look = seen
    world.rounds(4)

    assert [r.plan.playbook for r in world.runs] == ["postgres-rejoin"]


def test_it_is_not_begun_behind_a_primary_that_does_not_answer_and_is_not_yet_known_to_be_gone(world):
    crash(world, "pg3")
    # Its agent says that it runs, so nothing proves as yet that it is gone.
    world.health.kinds["pg1"] = OutcomeKind.TIMEOUT
    world.rounds(4)

    assert world.runs == ()
    assert world.refused(Guard.UPSTREAM_FIRST) == 1
    assert "the primary pg1 does not answer" in world.story(world.of("db"))[-1]

    world.health.kinds["pg1"] = OutcomeKind.OK
    world.rounds(2)
    assert [r.plan.playbook for r in world.runs] == ["postgres-rejoin"]


def test_a_primary_that_dies_in_its_midst_is_found_out_before_the_rejoin_gives_up():
    """It fails for good, and nobody begins it again, when its attempts are over before the failover is."""
    (rejoin,) = [p for p in load_playbooks(()) if p.name == "postgres-rejoin"]
    (first,) = [s for s in rejoin.steps if s.action == "checkpoint_primary"]

    assert first.attempts * RETRY_AFTER > NO_SESSION_FOR
