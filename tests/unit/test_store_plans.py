"""What is written as JSON comes back equal; moments and words too."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from ha_tasks.model.cluster import SyncSet, Unfinished
from ha_tasks.model.playbook import Acceptance, GuardSettings, Plan, PlannedStep, UndoPolicy, VerifySettings
from ha_tasks.names import ActionName, RecoveryType
from ha_tasks.store.columns import Moment, Words
from ha_tasks.store.outbox import Posting, owed
from ha_tasks.store.plans import (
    plan_from_json,
    plan_to_json,
    sets_from_json,
    sets_to_json,
    unfinished_from_json,
    unfinished_to_json,
)
from tests.plans import NOW, plan_of

DIALECT = sqlite.dialect()
quick = settings(deadline=None, max_examples=50)
seconds = st.floats(0, 1e6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)
planned_steps = st.builds(
    PlannedStep,
    no=st.integers(1, 9),
    id=st.text(),
    action=st.sampled_from(ActionName),
    args=st.dictionaries(st.text(), json_values, max_size=2),
    undo=st.sampled_from(UndoPolicy),
    timeout_s=seconds,
    attempts=st.integers(1, 9),
    point_of_no_return=st.booleans(),
    provider=st.text(),
)
plans = st.builds(
    Plan,
    service=st.text(),
    scope=st.text(),
    playbook=st.text(),
    version=st.integers(),
    sha256=st.text(),
    recovery_type=st.sampled_from(RecoveryType),
    targets=st.lists(st.text(), max_size=3).map(tuple),
    steps=st.lists(planned_steps, max_size=2).map(tuple),
    guards=st.builds(GuardSettings, cooldown_s=seconds, min_healthy=st.integers(), max_targets=st.integers()),
    verify=st.builds(VerifySettings, within_s=seconds, good_probes=st.integers(), data=st.booleans()),
    mitigates=st.booleans(),
    summary=st.text(),
)
members = st.lists(st.text(), max_size=5, unique=True).map(tuple)
sync_sets = members.flatmap(
    lambda names: st.integers(0, len(names)).map(lambda quorum: SyncSet(quorum=quorum, members=names))
)
unfinished = st.builds(Unfinished, epoch=st.integers(), candidate=st.text(), sync_set=sync_sets)


def through_json(value: Any) -> Any:
    """As a JSON column keeps it."""
    return json.loads(json.dumps(value))


@quick
@given(plan=plans)
def test_a_plan_comes_back(plan: Plan):
    assert plan_from_json(through_json(plan_to_json(plan))) == plan


@quick
@given(sets=st.lists(sync_sets).map(tuple), waiting=st.lists(unfinished).map(tuple))
def test_sets_and_unfinished_promotions_come_back(sets: tuple[SyncSet, ...], waiting: tuple[Unfinished, ...]):
    assert sets_from_json(through_json(sets_to_json(sets))) == sets
    assert unfinished_from_json(through_json(unfinished_to_json(waiting))) == waiting


def assert_every_field_is_written(value: Any, written: Any) -> None:
    """A field that is added to the model and forgotten here would be lost on the way through the store."""
    assert {field.name for field in fields(value)} == set(written)
    for name, part in written.items():
        inner = getattr(value, name)
        if is_dataclass(inner):
            assert_every_field_is_written(inner, part)
        if name == "steps":
            assert_every_field_is_written(inner[0], part[0])


def test_every_field_of_a_plan_is_written():
    plan = replace(plan_of(), accepts=Acceptance(bytes=5, primary_at=9, off=("pg1",)))
    assert_every_field_is_written(plan, plan_to_json(plan))
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan
    promotion = Unfinished(epoch=2, candidate="pg2", sync_set=SyncSet(quorum=0, members=()))
    assert_every_field_is_written(promotion, unfinished_to_json([promotion])[0])


def test_a_plan_of_an_older_version_has_the_defaults_of_what_it_does_not_name():
    body = plan_to_json(plan_of())
    del body["verify"]["max_latency_ratio"]
    del body["guards"]["max_targets"]
    del body["situation"]
    for step in body["steps"]:
        del step["provider"]

    assert plan_from_json(body) == plan_of()


@quick
@given(moment=st.datetimes(timezones=st.just(UTC)), hours=st.integers(-23, 23))
def test_a_moment_comes_back_to_the_microsecond_from_any_zone(moment: datetime, hours: int):
    column = Moment()
    try:
        elsewhere = moment.astimezone(timezone(timedelta(hours=hours)))
    except OverflowError:
        return

    kept = column.process_bind_param(elsewhere, DIALECT)

    back = column.process_result_value(kept, DIALECT)
    assert back == moment
    assert back is not None
    assert back.tzinfo is UTC


@quick
@given(one=st.datetimes(timezones=st.just(UTC)), other=st.datetimes(timezones=st.just(UTC)))
def test_kept_moments_compare_as_moments_do(one: datetime, other: datetime):
    column = Moment()
    kept_one, kept_other = (column.process_bind_param(moment, DIALECT) for moment in (one, other))

    assert kept_one is not None
    assert kept_other is not None
    assert (kept_one < kept_other) is (one < other)


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        Moment().process_bind_param(NOW.replace(tzinfo=None), DIALECT)


@quick
@given(words=st.text(st.characters(codec=None), max_size=20))
def test_words_from_outside_can_always_be_kept(words: str):
    kept = Words().process_bind_param(words, DIALECT)

    assert kept is not None
    assert "\0" not in kept
    kept.encode("utf-8")
    assert kept == words or set(words) & {"\0", *map(chr, range(0xD800, 0xE000))}


def test_nothing_is_nothing():
    assert Words().process_bind_param(None, DIALECT) is None
    assert Moment().process_bind_param(None, DIALECT) is None
    assert Moment().process_result_value(None, DIALECT) is None


@pytest.mark.parametrize(
    ("due", "offered", "sent", "lease", "is_owed"),
    [
        (None, 99, None, None, True),
        (None, 99.1, None, None, False),
        (None, 90, 95, None, True),
        (None, 90, 95.1, None, False),
        (100, None, None, None, True),
        (100.1, None, None, None, False),
        (None, 50, 50, 100.1, False),
        (None, 50, 50, 100, True),
        (None, 99.9, None, 99, False),
        (None, 98, 98.1, 97, False),
        (None, 98, None, 97, True),
    ],
    ids=[
        "unsent for long",
        "unsent, but not for long",
        "sent, and nobody came",
        "sent a moment ago",
        "a retry that is due",
        "a retry that is not due",
        "a living executor",
        "a dead executor",
        "a dead executor, and a message that was handed out since",
        "a dead executor, and a message that was sent since",
        "a dead executor, and a message that was handed out since and not sent",
    ],
)
def test_a_message_is_owed(
    due: float | None, offered: float | None, sent: float | None, lease: float | None, is_owed: bool
):
    def moment(second: float | None) -> datetime | None:
        return None if second is None else NOW + timedelta(seconds=second)

    posting = Posting(
        due=moment(due), offered_at=moment(offered), sent_at=moment(sent), lease_until=moment(lease)
    )

    assert owed(posting, NOW + timedelta(seconds=100), unsent_after_s=1, silent_after_s=5) is is_owed
