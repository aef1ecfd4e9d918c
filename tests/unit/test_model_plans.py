"""A plan's hash and its predicted duration: values in, values out."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.errors import UsageError
from ha_tasks.model.forecast import Forecast, Spread, forecast, spread
from ha_tasks.model.plan_hash import hash_word, is_named, plan_changes, plan_hash
from ha_tasks.model.playbook import GuardSettings, Plan, UndoPolicy, VerifySettings
from ha_tasks.model.run import Phase, Run, RunState, Step, StepState
from ha_tasks.names import ActionName, RecoveryType
from ha_tasks.store.plans import plan_from_json, plan_to_json
from tests.plans import NOW, at, plan_of, planned

PLAN = replace(plan_of(), situation={"rotation": ["web1", "web2"]})
FIRST = PLAN.steps[0]


def with_step(**changes: object) -> Plan:
    return replace(PLAN, steps=(replace(FIRST, **changes), *PLAN.steps[1:]))


def test_a_hash_is_sha_256_over_what_the_plan_is_and_the_same_everywhere():
    assert re.fullmatch("[0-9a-f]{64}", plan_hash(PLAN))
    assert plan_hash(plan_from_json(plan_to_json(PLAN))) == plan_hash(PLAN)
    assert plan_hash(replace(PLAN, situation=dict(reversed(PLAN.situation.items())))) == plan_hash(PLAN)


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAN, service="other"),
        replace(PLAN, scope="other"),
        replace(PLAN, playbook="other"),
        replace(PLAN, version=2),
        replace(PLAN, sha256="1" * 64),
        replace(PLAN, recovery_type=RecoveryType.FAILOVER),
        replace(PLAN, targets=("web2",)),
        replace(PLAN, steps=PLAN.steps[:-1]),
        replace(PLAN, steps=(PLAN.steps[1], PLAN.steps[0], *PLAN.steps[2:])),
        replace(PLAN, guards=GuardSettings(min_healthy=0)),
        replace(PLAN, verify=VerifySettings(data=True)),
        replace(PLAN, mitigates=True),
        replace(PLAN, situation={"rotation": ["web1"]}),
        with_step(action=ActionName.SPARE_IN),
        with_step(args={"instance": "web2"}),
        with_step(undo=UndoPolicy.KEEP),
        with_step(timeout_s=16.0),
        with_step(attempts=3),
        with_step(point_of_no_return=True),
        with_step(provider="acme 1.1"),
    ],
)
def test_whatever_decides_what_is_done_gives_another_hash(other: Plan):
    assert plan_hash(other) != plan_hash(PLAN)
    assert plan_changes(PLAN, other)


def test_the_sentence_that_sums_it_up_decides_nothing():
    assert plan_hash(replace(PLAN, summary="said in another way")) == plan_hash(PLAN)
    assert plan_changes(PLAN, replace(PLAN, summary="said in another way")) == ()


@pytest.mark.parametrize("length", [8, 12, 64])
def test_a_plan_is_named_by_the_beginning_of_its_hash(length: int):
    word = plan_hash(PLAN)[:length]

    assert is_named(PLAN, word)
    assert is_named(PLAN, f" {word.upper()} ")
    assert not is_named(PLAN, ("0" if word[0] != "0" else "1") + word[1:])


@pytest.mark.parametrize("word", ["", "1234567", "12345xyz", "a" * 65, "--------"])
def test_what_is_no_hash_is_a_usage_error(word: str):
    with pytest.raises(UsageError, match="is no hash of a plan; write its first 8 digits or more"):
        hash_word(word)


def test_what_has_changed_is_told_thing_by_thing():
    sets = [{"quorum": 1, "members": ["pg2", "pg3"]}]
    before = replace(PLAN, situation={"primary": "pg1", "sets": sets, "unfinished": []})
    narrower = [{"quorum": 1, "members": ["pg3"]}]
    pending = [{"candidate": "pg3"}]
    after = replace(
        with_step(args={"instance": "web2"}, timeout_s=20.0),
        targets=("web2", "web3"),
        situation={"primary": "pg2", "sets": narrower, "unfinished": pending},
    )
    grown = replace(after, steps=(*after.steps, planned(4, ActionName.PUT_BACK)))

    assert plan_changes(before, grown) == (
        ("targets", "web1", "web2, web3"),
        ("step step-1.args.instance", "web1", "web2"),
        ("step step-1.timeout_s", "15.0", "20.0"),
        ("step step-4", "nothing", "a step put_back"),
        ("situation.primary", "pg1", "pg2"),
        ("situation.sets", "ANY 1 (pg2, pg3)", "ANY 1 (pg3)"),
        ("situation.unfinished", "nothing", "candidate pg3"),
    )


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([], None),
        ([3.0], Spread(n=1, median_s=3.0, p90_s=3.0)),
        ([4.0, 1.0], Spread(n=2, median_s=2.5, p90_s=4.0)),
        ([float(n) for n in range(1, 11)], Spread(n=10, median_s=5.5, p90_s=9.0)),
        ([float(n) for n in range(1, 101)], Spread(n=100, median_s=50.5, p90_s=90.0)),
    ],
)
def test_median_and_the_value_that_nine_of_ten_did_not_exceed(seconds: list[float], expected: Spread | None):
    assert spread(seconds) == expected


def ran(
    number: int, took_s: float, *, state: RunState = RunState.SUCCEEDED, step_state=StepState.DONE
) -> Run:
    """A run whose first step took ``took_s`` seconds, and the whole ten times that."""
    steps = tuple(
        Step(planned=s, state=step_state, started_at=NOW, ended_at=at(took_s if s.no == 1 else 1.0))
        for s in PLAN.steps[:2]
    )
    return Run(
        id=number,
        incident=number,
        plan=PLAN,
        state=state,
        phase=Phase.DO,
        position=3,
        fence=1,
        steps=steps,
        mode="auto",
        requested_by="test",
        reason="test",
        created_at=NOW,
        updated_at=NOW,
        ended_at=at(took_s * 10),
    )


def test_without_history_the_limits_stand_for_what_is_not_known():
    assert forecast(PLAN, [], {}) == Forecast(
        steps={"step-1": None, "step-2": None, "step-3": None},
        whole=None,
        expected_s=45.0,
        limit_s=45.0,
        guessed=True,
    )


def test_earlier_runs_tell_from_the_failure_to_the_end_and_each_step():
    found = forecast(PLAN, [ran(1, 2.0), ran(2, 4.0)], {1: NOW - timedelta(seconds=3)})

    assert found.steps["step-1"] == Spread(n=2, median_s=3.0, p90_s=4.0)
    assert found.steps["step-3"] is None
    assert found.whole == Spread(n=2, median_s=31.5, p90_s=40.0)
    assert (found.expected_s, found.limit_s, found.guessed) == (31.5, 45.0, False)


def test_a_run_that_failed_tells_about_its_done_steps_only():
    failed = ran(1, 2.0, state=RunState.ROLLED_BACK)
    undone = ran(2, 9.0, state=RunState.ROLLED_BACK, step_state=StepState.UNDONE)
    other = replace(ran(3, 7.0), plan=replace(PLAN, playbook="another"))
    alone = replace(ran(4, 1.0), incident=None, plan=replace(PLAN, playbook="another"))

    found = forecast(PLAN, [failed, undone, other, alone], {})

    assert found.whole is None
    assert found.steps["step-1"] == Spread(n=1, median_s=2.0, p90_s=2.0)
    assert found.expected_s == 2.0 + 1.0 + 15.0
    assert found.guessed
    assert forecast(replace(PLAN, playbook="another"), [alone], {}).whole == Spread(
        n=1, median_s=10.0, p90_s=10.0
    )
