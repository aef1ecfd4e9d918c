"""How much acknowledged data a failover could lose, by what the probes saw last. Pure.

Nothing can be lost while a safe promotion is in sight (R + W > N, see model/cluster.py). Otherwise the
gap is between the furthest position that the primary was seen at and that of the furthest standby.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ha_tasks.model.cluster import Cluster, promotion_is_safe
from ha_tasks.model.probe import ProbeOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What may be lost. None: it is not known. ``seconds``: as time, up to the first failed probe.

    Both are lower bounds: nobody saw what the primary wrote after its last good probe.
    """

    bytes: int | None
    seconds: float | None
    primary_at: int | None = None
    """The furthest position at which the primary was seen, in bytes."""

    @property
    def known(self) -> bool:
        """True when a person can be told what the price is."""
        return self.bytes is not None and self.seconds is not None


UNKNOWN = Loss(bytes=None, seconds=None)


def possible_loss(outcomes: Sequence[ProbeOutcome], cluster: Cluster, fault_at: datetime) -> Loss | None:
    """None when nothing acknowledged can be lost; UNKNOWN when a position was never seen.

    ``outcomes``: of the cluster's nodes since a while before the fault, oldest first.
    """
    nodes = _standbys(outcomes, cluster.primary)
    if promotion_is_safe(cluster.sets, list(nodes)):
        return None
    return gap(outcomes, cluster, fault_at)


def gap(outcomes: Sequence[ProbeOutcome], cluster: Cluster, fault_at: datetime) -> Loss:
    """What lies between the primary and the furthest standby, whether or not it could be lost."""
    nodes = _standbys(outcomes, cluster.primary)
    written = [o for o in outcomes if o.target.instance == cluster.primary and o.ok and _lsn(o) is not None]
    positions = [lsn for o in nodes.values() if (lsn := _lsn(o)) is not None]
    if not written or not positions:
        return UNKNOWN
    end, best = max(_known(written)), max(positions)
    return Loss(bytes=max(0, end - best), seconds=_seconds(written, best, fault_at), primary_at=end)


def _standbys(outcomes: Iterable[ProbeOutcome], primary: str) -> dict[str, ProbeOutcome]:
    """The latest outcome of each standby whose latest probe was answered by a standby."""
    latest = {o.target.instance: o for o in outcomes if o.target.instance != primary}
    return {name: o for name, o in latest.items() if o.ok and o.facts.get("in_recovery") is True}


def _seconds(written: Sequence[ProbeOutcome], best: int, fault_at: datetime) -> float:
    """Since the primary was last seen where the best standby is; since it was first seen, if it never was."""
    had = [o.sent_at for o in written if (_lsn(o) or 0) <= best]
    return max(0.0, (fault_at - max(had, default=written[0].sent_at)).total_seconds())


def _known(outcomes: Iterable[ProbeOutcome]) -> list[int]:
    return [lsn for o in outcomes if (lsn := _lsn(o)) is not None]


def _lsn(outcome: ProbeOutcome) -> int | None:
    value = outcome.facts.get("lsn")
    return value if isinstance(value, int) else None
