"""The table of drills: each can be injected, followed and judged, and says what it does."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest

from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.scenario import Deed, Outcome, Scenario, Victim, expected_of
from ha_tasks.model.scenarios import FAILOVER_STEPS, SCENARIOS
from ha_tasks.names import ActionName

EVERY = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
NEEDS_NAMED = {Deed.DARKEN: "root", Deed.PARTITION: "root", Deed.LOCK_STORE: "SQLite"}


@EVERY
def test_a_scenario_says_what_it_does(scenario: Scenario) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", scenario.name)
    assert len(scenario.summary) > 20
    for fault in (*scenario.faults, *scenario.mid_run):
        assert NEEDS_NAMED.get(fault.deed, "") in scenario.needs


@EVERY
def test_a_scenario_that_is_not_followed_to_its_end_lasts_for_a_stated_time(scenario: Scenario) -> None:
    if scenario.outcome in (Outcome.NOTHING, Outcome.SERVICE_GOES_ON):
        assert scenario.lasts_s is not None
        assert scenario.mid_run == ()


@EVERY
def test_only_rounds_and_runs_in_progress_hit_what_is_not_known_before(scenario: Scenario) -> None:
    at_first = {fault.victim for fault in scenario.faults}

    assert not at_first & {Victim.WORKER, Victim.BOUNDARY}
    assert (Victim.ACTIVE in at_first) == (scenario.kind is ServiceKind.HTTP)


@EVERY
def test_no_scenario_passes_when_the_timeline_moved_otherwise_than_expected(scenario: Scenario) -> None:
    expected = expected_of(scenario, "db", "web1")
    if scenario.kind is ServiceKind.POSTGRES:
        promoted = scenario.outcome is Outcome.FAILOVER
        assert ("timeline.db" in expected.grown_by_one) == promoted
        assert ("timeline.db" in expected.unchanged) != promoted


def test_the_controller_is_killed_at_each_step_of_the_shipped_playbook() -> None:
    playbook = tomllib.loads((files("ha_tasks") / "playbooks" / "postgres-failover.toml").read_text())
    steps = [step["action"] for step in playbook["step"]]

    assert [*steps, str(ActionName.VERIFY_SERVICE)] == [str(step) for step in FAILOVER_STEPS]
    boundaries = [fault.boundary for fault in SCENARIOS["controller-killed-at-each-step"].rounds]
    assert boundaries == [f"do.{step}.done" for step in FAILOVER_STEPS]
