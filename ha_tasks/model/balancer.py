"""Servers of a load balancer: what is wanted and what is."""

from __future__ import annotations

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
class Drift:
    """A difference between wanted and actual."""

    backend: str
    server: str
    wanted: ServerState
    actual: ServerState


def drift(wanted: tuple[WantedServer, ...], actual: tuple[ServerStatus, ...]) -> tuple[Drift, ...]:
    """What must change for the balancer to be as wanted; servers unknown to it are left out."""
    states = {(status.backend, status.server): status.admin for status in actual}
    return tuple(
        Drift(backend=w.backend, server=w.server, wanted=w.state, actual=states[w.backend, w.server])
        for w in wanted
        if (w.backend, w.server) in states and states[w.backend, w.server] is not w.state
    )
