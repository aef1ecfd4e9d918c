"""The guards: each says no for its reason, and they are asked in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ha_tasks.model.guards import Guard, GuardFacts, refusal
from ha_tasks.model.playbook import GuardSettings
from tests.plans import NOW, at, plan_of

PLAN = replace(plan_of(), guards=GuardSettings(min_healthy=1, max_targets=2), targets=("web1", "web2"))
FREE = GuardFacts(now=NOW, plan=PLAN, running=1, runs_last_hour=59, healthy_others=1)
"""The facts under which every guard lets the plan run, if only just."""

REFUSED: dict[Guard, tuple[dict[str, Any], str]] = {
    Guard.STOP_SWITCH: ({"stopped_by": "anna"}, "automation is switched off by anna"),
    Guard.OBSERVE_ONLY: ({"observe_only": True}, "observe-only: nothing is changed automatically"),
    Guard.MAINTENANCE: ({"maintenance_until": at(1)}, "maintenance until 12:00:01 UTC"),
    Guard.BLIND: ({"blind": True}, "too few fresh vantages to judge"),
    Guard.TARGETS: (
        {"plan": replace(PLAN, targets=("web1", "web2", "web3"))},
        "3 targets, at most 2 allowed",
    ),
    Guard.ACTIVE_LEASE: ({"active_run": 41}, "run 41 is active on web/web1"),
    Guard.COOL_DOWN: (
        {"cooling_until": at(90)},
        "web/web1 cools down for 90 s; end it with: ha-tasks ack web/web1",
    ),
    Guard.JUST_PROMOTED: ({"promoted_recently": True}, "the primary was promoted only just now"),
    Guard.CONCURRENT: ({"running": 2}, "2 recoveries are running"),
    Guard.GLOBAL_RATE: ({"runs_last_hour": 60}, "60 recoveries within the last hour"),
    Guard.BLAST_RADIUS: ({"healthy_others": 0}, "only 0 other healthy instances, 1 needed"),
    Guard.UPSTREAM_FIRST: (
        {"failed_upstreams": ("db", "cache")},
        "it depends on db, cache, which must be recovered first",
    ),
    Guard.FROZEN: (
        {"frozen_by": 9},
        "incident 9 left it half recovered; when mended: ha-tasks ack I-9",
    ),
    Guard.HOST_SILENT: ({"silent_host": "app"}, "the agent on app does not answer"),
}


def test_every_guard_is_in_the_table():
    assert list(REFUSED) == list(Guard)


@pytest.mark.parametrize("guard", Guard)
def test_a_guard_says_no_for_its_reason(guard: Guard):
    facts, detail = REFUSED[guard]

    no = refusal(replace(FREE, **facts))

    assert no is not None
    assert (no.guard, no.detail) == (guard, detail)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"maintenance_until": NOW},
        {"cooling_until": NOW},
        {"max_running": 3, "running": 2},
        {"plan": replace(PLAN, guards=GuardSettings(min_healthy=0, max_targets=2)), "healthy_others": 0},
    ],
    ids=["nothing", "maintenance is over", "cooled down", "room for one more", "none needed"],
)
def test_a_plan_that_nothing_speaks_against_may_run(facts: dict[str, Any]):
    assert refusal(replace(FREE, **facts)) is None


def test_a_plan_without_targets_is_refused():
    no = refusal(replace(FREE, plan=replace(PLAN, targets=())))

    assert no is not None
    assert (no.guard, no.detail) == (Guard.TARGETS, "the plan has no target")


def test_the_first_guard_in_order_speaks():
    facts = FREE
    for guard in reversed(Guard):
        # Both of these are facts of the plan, so they are put together.
        facts = replace(facts, **REFUSED[guard][0])

        no = refusal(facts)

        assert no is not None
        assert no.guard is guard
