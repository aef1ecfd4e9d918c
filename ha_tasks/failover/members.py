"""Servers that registered themselves, on one balancer: added, moved to their address, taken away again."""

from __future__ import annotations

from collections.abc import Iterable

from ha_tasks.errors import BalancerError
from ha_tasks.model.balancer import Member, ServerState, ServerStatus
from ha_tasks.ports.balancer import BalancerControl


def settle(
    control: BalancerControl,
    actual: Iterable[ServerStatus],
    members: Iterable[Member],
    refusals: list[BalancerError],
) -> bool:
    """True when the balancer has other servers now. Idempotent; what it refuses goes to ``refusals``.

    Raises BalancerUnreachable.
    """
    known = {(status.backend, status.server): status for status in actual}
    changed = False
    for member in members:
        try:
            changed |= _settle(control, known.get((member.backend, member.server)), member)
        except BalancerError as error:
            refusals.append(error)
    return changed


def _settle(control: BalancerControl, status: ServerStatus | None, member: Member) -> bool:
    if member.state is None:
        unused = status is not None and status.admin is ServerState.MAINT and not status.sessions
        if unused:
            control.delete_server(member.backend, member.server)
        return unused
    if status is None:
        control.add_server(member.backend, member.server, member.address)
    elif status.address != member.address:
        control.move_server(member.backend, member.server, member.address)
    else:
        return False
    return True
