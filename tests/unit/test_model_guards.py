"""The guards: each says no for its reason, and they are asked in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ha_tasks.model.data_risk import UNKNOWN, Loss
from ha_tasks.model.guards import PASSED, Guard, GuardFacts, Upstream, refusal
from ha_tasks.model.maintenance import Window
from ha_tasks.model.playbook import Approval, GuardSettings
from ha_tasks.model.switch import OBSERVE, STOP, Switch, shown
from tests.plans import NOW, at, plan_of

SETTINGS = GuardSettings(min_healthy=1, max_targets=2, max_share=0.5)
PLAN = replace(plan_of(), guards=SETTINGS, targets=("web1", "web2"))
FREE = GuardFacts(now=NOW, plan=PLAN, running=1, runs_last_hour=59, healthy_others=1, pool=4)
"""The facts under which every guard lets the plan run, if only just."""

OFF = Switch(name=STOP, scope="", actor="anna", reason="", since=NOW)
LOOKING = Switch(name=OBSERVE, scope="web", actor="ben", reason="first week", since=NOW)
WINDOW = Window(id=7, scope="web", actor="anna", reason="new disks", created_at=NOW)

REFUSED: dict[Guard, tuple[dict[str, Any], str]] = {
    Guard.STOP_SWITCH: (
        {"stopped": OFF},
        "automation is switched off, by anna; let it act again: ha-tasks switch on",
    ),
    Guard.OBSERVE_ONLY: (
        {"observing": LOOKING},
        "observe-only, nothing is changed for web, by ben (first week); "
        "let it act again: ha-tasks switch on web",
    ),
    Guard.REVISION: (
        {"revision_problem": "this process has revision 3, applied is 4"},
        "this process has revision 3, applied is 4",
    ),
    Guard.MAINTENANCE: (
        {"maintenance": (WINDOW, at(1))},
        "maintenance until 12:00:01 UTC (new disks); end it: ha-tasks maintenance end 7",
    ),
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
    Guard.JUST_PROMOTED: (
        {"promoted_at": at(-4)},
        "the primary was promoted 4 s ago and is left alone for 10 s; not to wait: ha-tasks recover web",
    ),
    Guard.CONCURRENT: ({"running": 2}, "2 recoveries are running"),
    Guard.GLOBAL_RATE: ({"runs_last_hour": 60}, "60 recoveries within the last hour"),
    Guard.BLAST_RADIUS: ({"healthy_others": 0}, "only 0 other healthy instances, 1 needed"),
    Guard.UPSTREAM_FIRST: (
        {"upstreams": (Upstream(service="db", incident=3), Upstream(service="cache", incident=4))},
        "it depends on db (I-3), cache (I-4), which must be recovered first",
    ),
    Guard.FROZEN: (
        {"frozen_by": 9},
        "incident 9 left it half recovered; when mended: ha-tasks ack I-9",
    ),
    Guard.HOST_SILENT: ({"silent_host": "app"}, "the agent on app does not answer"),
    Guard.DURABILITY: (
        {"stalled": "ANY 1 (pg2)"},
        "nobody of ANY 1 (pg2) receives WAL: commits wait until one is back (policy durability); "
        'to go on without a standby: policy = "availability" in [services.web.postgres]',
    ),
    Guard.DATA_LOSS: (
        {"possible_loss": Loss(bytes=4096, seconds=2.5), "rpo_s": 1.0},
        "4096 bytes (2.5 s) may be lost, the RPO is 1 s",
    ),
    Guard.APPROVAL: (
        {"plan": replace(PLAN, guards=replace(SETTINGS, approval=Approval.ALWAYS))},
        "http-instance-down runs only when a person has approved it",
    ),
}


def test_every_guard_is_in_the_table():
    assert list(REFUSED) == list(Guard)


def test_a_standby_waits_for_a_primary_that_is_silent_before_that_is_an_incident():
    no = refusal(replace(FREE, silent_primary="pg1"))

    assert no is not None
    assert (no.guard, no.detail) == (Guard.UPSTREAM_FIRST, "the primary pg1 does not answer")


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
        {"cooling_until": NOW},
        {"promoted_at": at(-10)},
        {"max_running": 3, "running": 2},
        {"plan": replace(PLAN, guards=replace(SETTINGS, min_healthy=0)), "healthy_others": 0},
        {"plan": replace(PLAN, targets=("web1",)), "taken_out": frozenset({"web2"})},
        {"taken_out": frozenset({"web1", "web2"})},
        {"possible_loss": Loss(bytes=4096, seconds=1.0), "rpo_s": 1.0},
        {"possible_loss": Loss(bytes=4096, seconds=2.5), "accepted_bytes": 4096},
        {"plan": replace(PLAN, guards=replace(SETTINGS, approval=Approval.ALWAYS)), "approved": True},
    ],
    ids=[
        "nothing",
        "cooled down",
        "promoted a while ago",
        "room for one more",
        "none needed",
        "half of it may be out",
        "only its own targets are out",
        "within the RPO",
        "the loss is accepted",
        "approved",
    ],
)
def test_a_plan_that_nothing_speaks_against_may_run(facts: dict[str, Any]):
    assert refusal(replace(FREE, **facts)) is None


@pytest.mark.parametrize(
    ("facts", "guard", "detail"),
    [
        ({"plan": replace(PLAN, targets=())}, Guard.TARGETS, "the plan has no target"),
        (
            {"maintenance": (replace(WINDOW, reason=""), at(1))},
            Guard.MAINTENANCE,
            "maintenance until 12:00:01 UTC; end it: ha-tasks maintenance end 7",
        ),
        (
            {"taken_out": frozenset({"web3"})},
            Guard.BLAST_RADIUS,
            "web3 of web is still out, at most 2 of 4 at a time; put back what is healthy: ha-tasks ack web",
        ),
        (
            {"possible_loss": UNKNOWN, "accepted_bytes": 10**9},
            Guard.DATA_LOSS,
            "how much would be lost is not known: no position of the primary, or of a standby, was seen",
        ),
        (
            {"possible_loss": Loss(bytes=4097, seconds=0.1), "rpo_s": 60.0, "accepted_bytes": 4096},
            Guard.DATA_LOSS,
            "4097 bytes (0.1 s) may be lost, the RPO is 60 s, and only 4096 are accepted",
        ),
    ],
    ids=["no target", "no reason", "too many out", "unknown loss", "more than was accepted"],
)
def test_a_guard_says_what_exactly_is_wrong(facts: dict[str, Any], guard: Guard, detail: str):
    no = refusal(replace(FREE, **facts))

    assert no is not None
    assert (no.guard, no.detail) == (guard, detail)


def test_one_instance_may_always_be_out_however_small_the_pool():
    alone = replace(plan_of(), guards=GuardSettings(min_healthy=0), targets=("web1",))

    assert refusal(replace(FREE, plan=alone, pool=1)) is None
    no = refusal(replace(FREE, plan=alone, pool=2, taken_out=frozenset({"web2"})))
    assert no is not None
    assert no.guard is Guard.BLAST_RADIUS


def test_the_first_guard_in_order_speaks():
    facts = FREE
    for guard in reversed(Guard):
        facts = replace(facts, **REFUSED[guard][0])

        no = refusal(facts)

        assert no is not None
        assert no.guard is guard


def test_a_person_says_yes_to_an_approval_and_to_a_loss_that_is_known_and_to_nothing_else():
    said = {guard: refusal(replace(FREE, **facts)) for guard, (facts, _) in REFUSED.items()}
    unknown = refusal(replace(FREE, possible_loss=UNKNOWN))

    assert {g for g, no in said.items() if no and no.approvable} == {Guard.DATA_LOSS, Guard.APPROVAL}
    assert unknown is not None
    assert not unknown.approvable


@pytest.mark.parametrize("guard", Guard)
@pytest.mark.parametrize("mode", ["auto", "manual", "drill"])
def test_what_is_asked_for_by_hand_passes_maintenance_and_cool_down_and_never_the_rest(
    guard: Guard, mode: str
):
    passed = {
        "manual": {Guard.MAINTENANCE, Guard.COOL_DOWN, Guard.JUST_PROMOTED},
        "drill": {Guard.JUST_PROMOTED},
        "auto": set(),
    }[mode]

    no = refusal(replace(FREE, **REFUSED[guard][0]), PASSED.get(mode, ()))

    assert (no is None) == (guard in passed)


def test_a_scope_is_shown_as_a_word():
    assert shown("") == "everything"
    assert shown("web") == "web"
