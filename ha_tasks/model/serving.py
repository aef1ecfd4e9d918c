"""What the availability ledger is told of a service, by the verdicts on who serves it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ha_tasks.model.evidence import Remedy
from ha_tasks.model.health import ServiceHealth, ServiceState
from ha_tasks.model.platform import Service, ServiceKind
from ha_tasks.model.verdict import Verdict, VerdictState


def nobody_serves(service: Service, verdicts: Sequence[Verdict]) -> bool:
    """A database that others lead, of which every node was seen and none has taken writes lately. Pure."""
    seen = [v for v in verdicts if v.state is not VerdictState.BLIND]
    return service.kind is ServiceKind.POSTGRES and len(seen) == len(service.instances)


def ledger_entry(
    health: ServiceHealth, serving: Sequence[Verdict]
) -> tuple[ServiceState, float | None] | None:
    """What the availability ledger is told; None: nothing, the failure is not confirmed yet. Pure.

    ``serving``: verdicts on those that get the traffic. Too few vantages on any of them is unknown time.
    """
    if not serving or any(v.state is VerdictState.BLIND for v in serving):
        return ServiceState.UNKNOWN, None
    confirmed = all(v.state is VerdictState.FAILED or v.remedy is Remedy.CHANGE_SET for v in serving)
    if health.state is ServiceState.UNAVAILABLE and not confirmed:
        return None
    return health.state, health.score
