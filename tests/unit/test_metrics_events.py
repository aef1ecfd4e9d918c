"""How far behind each destination of events is."""

from __future__ import annotations

from tests.unit.metrics_reading import Stage


def test_lag_is_the_age_of_the_oldest_event_that_was_not_told():
    stage = Stage()
    now = stage.clock.now()
    stage.store.cursors.begin("exchange", 0, now)
    stage.store.cursors.begin("gone-from-the-inventory", 0, now)

    assert stage.scrape()["ha_event_lag_seconds"] == {("exchange",): 0.0}

    stage.store.audit.append(actor="h/a", verb="run.created", object="run 1", now=now)
    stage.clock.advance(90)
    assert stage.scrape()["ha_event_lag_seconds"] == {("exchange",): 90.0}
