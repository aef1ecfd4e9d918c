"""Services in numbers: what is not known is absent, and a counter never falls."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_tasks.model.availability import ServiceState
from ha_tasks.model.platform import Check
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.monitoring.services import stale_after_s
from tests.unit.builders import outcome, web
from tests.unit.metrics_reading import Stage


def counted(stage: Stage) -> dict[tuple[str, ...], float]:
    return stage.scrape().get("ha_service_seconds_total", {})


def test_services_that_serve_are_up_and_have_their_score():
    stage = Stage()
    stage.judge("web", "available", 1.0)
    stage.judge("db", "degraded", 0.6)

    found = stage.scrape()

    assert found["ha_service_up"] == {("web",): 1, ("db",): 1}
    assert found["service_health_score"] == {("web",): 1.0, ("db",): 0.6}


def test_a_service_that_is_down_is_0():
    stage = Stage()
    stage.judge("web", "unavailable", 0.0)

    found = stage.scrape()

    assert found["ha_service_up"] == {("web",): 0}
    assert found["service_health_score"] == {("web",): 0.0}


def test_a_service_that_nobody_has_judged_lately_has_neither_state_nor_score():
    stage = Stage()
    stage.judge("web", "available", 1.0)
    stage.clock.advance(stale_after_s(web()) + 0.1)
    stage.judge("db", "available", 1.0)

    found = stage.scrape()

    assert found["ha_service_up"] == {("db",): 1}
    assert found["service_health_score"] == {("db",): 1.0}


def test_a_service_that_is_known_to_be_unknown_is_absent_too():
    stage = Stage()
    stage.judge("web", "available", 1.0)
    stage.judge("web", "unknown", None)

    found = stage.scrape()

    assert "ha_service_up" not in found
    assert "service_health_score" not in found


def test_a_service_that_left_the_inventory_is_not_exported():
    stage = Stage()
    stage.judge("gone", "available", 1.0)

    found = stage.scrape()

    assert "ha_service_up" not in found
    assert "system_availability_percentage" not in found


def test_availability_is_absent_until_something_was_judged():
    assert "system_availability_percentage" not in Stage().scrape()


def test_availability_falls_while_nobody_looks():
    stage = Stage()
    stage.judge("web", "available")
    stage.judge("db", "available")
    stage.clock.advance(9.0)
    before = stage.scrape()["system_availability_percentage"][()]
    stage.clock.advance(31.0)

    after = stage.scrape()["system_availability_percentage"][()]

    assert (before, after) == (100.0, 0.0)


def test_seconds_are_exported_once_they_are_settled():
    stage = Stage()
    stage.judge("web", "available")
    for _ in range(40):
        stage.clock.advance(1.0)
        stage.judge("web", "available")

    seconds = counted(stage)

    assert seconds["web", "available"] == 20.0
    assert seconds["web", "unknown"] == 0.0


def test_a_restarted_sidecar_counts_the_same():
    stage = Stage()
    for state, lasts in (("available", 50), ("unavailable", 7), ("available", 60)):
        stage.judge("web", state, 1.0 if state == "available" else 0.0)
        for _ in range(lasts):
            stage.clock.advance(1.0)
            stage.judge("web", state)
            stage.scrape()
    kept = counted(stage)

    fresh = Stage(ledger=stage.store.ledger, clock=stage.clock)

    assert counted(fresh) == kept
    assert kept["web", "unavailable"] == 7.0


def test_a_failure_that_is_back_dated_lets_no_counter_fall():
    stage = Stage()
    stage.judge("web", "available")
    falls = []
    before: dict[tuple[str, ...], float] = {}
    for second in range(70):
        stage.clock.advance(1.0)
        state = "unavailable" if 20 <= second < 40 else "available"
        stage.judge("web", state, ago_s=3.0 if second == 20 else 0.0)
        now = counted(stage)
        falls += [key for key in before if now[key] < before[key]]
        before = now

    assert falls == []
    assert before["web", "unavailable"] == 23.0


def test_a_long_outage_stays_an_outage_though_its_state_is_back_dated():
    stage = Stage()
    stage.judge("web", "available")
    for second in range(60):
        stage.clock.advance(1.0)
        stage.store.observations.record([outcome("web1", second + 1, OutcomeKind.REFUSED, service="web")])
        stage.judge("web", "unavailable", 0.0, ago_s=float(second))

    found = stage.scrape()

    assert found["ha_service_up"] == {("web",): 0}
    assert found["ha_service_seconds_total"]["web", "unavailable"] == 39.0
    assert found["ha_service_seconds_total"]["web", "unknown"] == 0.0


def test_time_in_which_the_probers_were_dead_is_counted_as_unknown():
    stage = Stage()
    stage.judge("web", "available")
    stage.clock.advance(100.0)

    seconds = counted(stage)

    assert seconds["web", "available"] == 0.0
    assert seconds["web", "unknown"] == 80.0


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(0.1, 8.0), st.none() | st.sampled_from(list(ServiceState)), st.floats(0.0, 4.0)),
        max_size=40,
    )
)
def test_no_counter_of_seconds_ever_falls_and_none_is_counted_twice(story):
    stage = Stage()
    stage.judge("web", "available")
    before: dict[tuple[str, ...], float] = {}
    for advance_s, state, ago_s in story:
        stage.clock.advance(advance_s)
        if state is not None:
            stage.judge("web", state.value, ago_s=ago_s)
        now = counted(stage)

        assert all(now[key] >= value for key, value in before.items())
        assert sum(now.values()) <= stage.clock.elapsed_s + 4.0 + 1e-6
        before = now


@pytest.mark.parametrize(("interval_s", "expected"), [(0.5, 10.0), (5.0, 15.0), (60.0, 180.0)])
def test_a_judgement_is_fresh_for_three_probe_intervals_and_ten_seconds_at_least(interval_s, expected):
    assert stale_after_s(replace(web(), check=Check(interval_s=interval_s))) == expected
