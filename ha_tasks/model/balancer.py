"""Servers of a load balancer: what is wanted and what is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ServerState(StrEnum):
    """Administrative state of a server in HAProxy's words."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """A server as HAProxy sees it: ``up`` is its operational state by health check."""

    backend: str
    server: str
    address: str
    admin: ServerState
    up: bool
    weight: int
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedServer:
    """What the control plane wants; the higher generation wins. The truth is in SQL, not in HAProxy."""

    backend: str
    server: str
    state: ServerState
    generation: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A server that registered itself at ``ip:port``: it is added to the balancers, which do not know it.

    ``state``: while nothing else is wanted of it; None: it is gone, and is taken away once nobody uses it.
    """

    backend: str
    server: str
    address: str
    state: ServerState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A difference between wanted and actual, on the balancer of that name."""

    backend: str
    server: str
    wanted: ServerState
    actual: ServerState
    balancer: str = ""


def latest(wanted: Iterable[WantedServer]) -> dict[tuple[str, str], WantedServer]:
    """What is wanted of each (backend, server): the row of the highest generation."""
    rows: dict[tuple[str, str], WantedServer] = {}
    for row in sorted(wanted, key=lambda w: w.generation):
        rows[row.backend, row.server] = row
    return rows


def with_members(
    wanted: Iterable[WantedServer], members: Iterable[Member], actual: Iterable[ServerStatus]
) -> tuple[WantedServer, ...]:
    """What is wanted of all servers: of a member its own state, unless another was wanted of it.

    A member that is gone gets no new request, and goes to maintenance when its last session has ended,
    whatever was wanted of it before.
    """
    rows = latest(wanted)
    busy = {(status.backend, status.server) for status in actual if status.sessions}
    for member in members:
        key = (member.backend, member.server)
        if member.state is None:
            rows[key] = _row(member, ServerState.DRAIN if key in busy else ServerState.MAINT)
        elif key not in rows:
            rows[key] = _row(member, member.state)
    return tuple(rows.values())


def _row(member: Member, state: ServerState) -> WantedServer:
    return WantedServer(
        backend=member.backend, server=member.server, state=state, generation=0, reason="it registered itself"
    )


def drift(
    wanted: Iterable[WantedServer], actual: Iterable[ServerStatus], balancer: str = ""
) -> tuple[Drift, ...]:
    """What must change for the balancer to be as wanted; servers unknown to it are left out.

    Servers to be taken out come first, so that a backend never has two servers where one is wanted.
    """
    states = {(status.backend, status.server): status.admin for status in actual}
    found = [
        Drift(backend=key[0], server=key[1], wanted=row.state, actual=states[key], balancer=balancer)
        for key, row in latest(wanted).items()
        if key in states and states[key] is not row.state
    ]
    return tuple(sorted(found, key=lambda d: (d.wanted is ServerState.READY, d.backend, d.server)))
