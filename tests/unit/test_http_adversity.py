"""An HTTP instance that takes its time."""

from __future__ import annotations

from ha_tasks.errors import DeadlineExceeded
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.run import RunState
from tests.unit.builders import web
from tests.unit.test_detection import REFUSED, World


def test_an_instance_that_starts_slowly_is_waited_for_as_often_as_the_playbook_says():
    """Given up at the first deadline it would stay out of rotation for good, healthy or not."""
    world = World(web())
    world.health.kinds["web1"] = REFUSED
    late = [DeadlineExceeded("web1 answers after its restart: not within 10.0 s")] * 2
    world.actions["restart_instance"].fail = late
    world.rounds(3)
    world.drive()

    assert world.store.journal.recent()[0].state is RunState.SUCCEEDED
    assert world.incidents[0].state is IncidentState.RESOLVED
