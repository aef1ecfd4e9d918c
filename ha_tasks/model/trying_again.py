"""When a recovery that is about a standby, and failed for good, is begun again by itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from ha_tasks.model.incident import ABOUT_STANDBYS, Incident, IncidentState
from ha_tasks.model.run import Run, RunState

TRIES = 5
FIRST_AFTER = timedelta(seconds=30)
"""As the cool-down of postgres-rejoin; doubled before each further try. All take a quarter of an hour: a disk
that is full is not filled for ever, and a host that was repaired is not forgotten."""

BEGUN_AGAIN = "begun again by itself"
"""What the line says by which a try is counted: the incident's story outlives whoever wrote it."""


def wait_before(tries: int) -> timedelta:
    """How long after the end of the last run, when it was begun again ``tries`` times before."""
    return FIRST_AFTER * (1 << tries)


def is_left_lying(incident: Incident, run: Run) -> bool:
    """True for an escalated one whose run did what it could and failed.

    The service writes all the while, and nothing of such a run is taken back, so to begin it again does no
    harm. One that a switch or a person has ended is theirs; one whose way back failed is a person's.
    """
    escalated = incident.state is IncidentState.ESCALATED and incident.holds_key
    return (
        escalated
        and incident.kind in ABOUT_STANDBYS
        and run.state is RunState.ROLLED_BACK
        and run.fence > 0
        and run.ended_at is not None
    )


def tries_told(story: Iterable[str]) -> int:
    """How often it was begun again, by the lines of its story."""
    return sum(BEGUN_AGAIN in line for line in story)


def is_due(run: Run, tries: int, now: datetime) -> bool:
    """True once the back-off after the run's end is over."""
    return run.ended_at is not None and now - run.ended_at >= wait_before(tries)
