"""A primary that is frozen, wholly or in part: one failover, nothing lost, a woken node that says nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ha_tasks.embedded.inventory import CLUSTER
from ha_tasks.model.incident import IncidentKind
from tests.benchmarks.failover.__main__ import tried
from tests.benchmarks.failover.faults import FAULTS
from tests.benchmarks.failover.ours import OurSystem, on_wheel

pytestmark = pytest.mark.full

OUTAGE_S = 15.0
"""On a noisy machine; `make bench-failover` measures on a quiet one."""


@pytest.fixture(scope="module")
def platform() -> Iterator[OurSystem]:
    """A whole demo, with three nodes."""
    system = on_wheel("ours", apart=False)
    try:
        system.start()
        yield system
    finally:
        system.stop()


@pytest.mark.parametrize(
    ("fault", "evidence"),
    [("hoststop", ("E3",)), ("pgstop", ("E3", "E4")), ("pmstop", ("E4",))],
)
def test_a_frozen_primary_is_replaced_once_and_nothing_is_lost_when_it_wakes(
    platform: OurSystem, fault: str, evidence: tuple[str, ...]
) -> None:
    """The host with its agent, the database alone, the postmaster alone: woken 16 s later, watched on."""
    store = platform.store
    before = {run.id for run in store.journal.recent(1000)}

    trial = tried(platform, FAULTS[fault], 1)

    runs = [r for r in store.journal.recent(1000) if r.id not in before]
    failovers = [r for r in runs if r.plan.playbook == "postgres-failover"]
    (incident,) = [
        i
        for i in store.incidents.recent(100)
        if i.service == CLUSTER and i.kind is IncidentKind.PRIMARY_DOWN and i.run in {r.id for r in runs}
    ]
    assert len(failovers) == 1
    assert str(incident.evidence["verdict"])[:2] in evidence
    assert trial.successor not in (None, trial.primary)
    assert (trial.lost, trial.lost_direct, trial.stale) == (0, 0, 0)
    assert trial.outage_s is not None
    assert trial.outage_s <= OUTAGE_S
