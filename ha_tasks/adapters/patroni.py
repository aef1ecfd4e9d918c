"""Patroni's REST API. Implements ports.cluster_manager.ClusterManager.

Reading needs no login there, changes may. The URLs are those of the inventory: addresses that a member
tells are never followed, so the password goes nowhere else.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.secure_wire import context_of, wire_to
from ha_tasks.adapters.tls_errors import about_tls
from ha_tasks.errors import ManagerRefused, ManagerUnreachable, UsageError
from ha_tasks.model.led_by_others import LedCluster, Member, MemberRole
from ha_tasks.model.platform import PatroniApi, Service
from ha_tasks.ports.clock import Clock

MOST_BODY_BYTES = 1 << 20
_ROLES = {
    "leader": MemberRole.LEADER,
    "standby_leader": MemberRole.LEADER,
    "sync_standby": MemberRole.SYNC_STANDBY,
    "quorum_standby": MemberRole.SYNC_STANDBY,
}
"""Anything else is a replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    body: Mapping[str, str] | None = None
    login: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self, to: SplitResult) -> bytes:
        """For a server at that URL."""
        payload = b"" if self.body is None else json.dumps(self.body).encode()
        headers = {"Host": to.netloc, "User-Agent": "ha_tasks", "Connection": "close", **self.login}
        if self.body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(payload))}
        first = f"{self.method} {to.path.rstrip('/')}{self.path} HTTP/1.1"
        head = "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items()), "", ""])
        return head.encode("latin-1", errors="replace") + payload


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    text: str


class PatroniManager:
    """``password`` is asked for each change, so that it can be changed; it answers None without a login."""

    def __init__(self, *, password: Callable[[Service], str | None], clock: Clock) -> None:
        self._password = password
        self._clock = clock

    def report(self, service: Service, *, timeout_s: float = 2.0) -> LedCluster:
        """See the port. Every member is asked side by side; the first good answer counts."""
        api, deadline = _api(service), Deadline(self._clock, timeout_s)
        failures: list[str] = []
        with ThreadPoolExecutor(max_workers=len(api.urls), thread_name_prefix="patroni") as pool:
            request = _Request(method="GET", path="/cluster")
            asked = [pool.submit(self._call, service, url, request, deadline) for url in api.urls]
            for done in as_completed(asked):
                try:
                    return _cluster(done.result())
                except ManagerUnreachable as error:
                    failures.append(str(error))
        raise ManagerUnreachable("; ".join(dict.fromkeys(failures)))

    def switchover(self, service: Service, leader: str, candidate: str, *, timeout_s: float = 60.0) -> str:
        """See the port. A member that takes no connection is passed over; once one was asked, that counts."""
        api, deadline = _api(service), Deadline(self._clock, timeout_s)
        body = {"leader": leader, "candidate": candidate}
        request = _Request(method="POST", path="/switchover", body=body, login=self._login(service, api))
        failures: list[str] = []
        for url in api.urls:
            try:
                answer = self._call(service, url, request, deadline)
            except _NotAsked as error:
                failures.append(str(error))
                continue
            if answer.status != 200:
                raise ManagerRefused(f"{urlsplit(url).netloc}: {_why(answer, service)}")
            return answer.text.strip()
        raise ManagerUnreachable("; ".join(failures))

    def _login(self, service: Service, api: PatroniApi) -> Mapping[str, str]:
        if api.user is None:
            return {}
        pair = f"{api.user}:{self._password(service) or ''}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    @staticmethod
    def _call(service: Service, url: str, request: _Request, deadline: Deadline) -> _Answer:
        """Over a connection of its own. Raises ManagerUnreachable; _NotAsked before anything was sent."""
        parts, api = urlsplit(url), _api(service)
        try:
            trust = context_of(api.tls) if parts.scheme == "https" else None
            wire = wire_to(parts, deadline, trust)
        except OSError as error:
            raise _NotAsked(f"{parts.netloc}: {_told(error, service)}") from error
        with wire:
            try:
                wire.send(request.to_bytes(parts))
                response = http.client.HTTPResponse(wire, method=request.method)  # type: ignore[arg-type] # it only reads
                response.begin()
                text = response.read(MOST_BODY_BYTES).decode("utf-8", errors="replace")
            except (OSError, http.client.HTTPException) as error:
                raise ManagerUnreachable(f"{parts.netloc}: {_told(error, service)}") from error
        return _Answer(status=response.status, text=text)


class _NotAsked(ManagerUnreachable):
    """Nothing was sent: another member may be asked instead."""


def _api(service: Service) -> PatroniApi:
    if service.patroni is None:
        raise UsageError(f"{service.name} has no [services.{service.name}.patroni] in the inventory")
    return service.patroni


def _cluster(answer: _Answer) -> LedCluster:
    """What GET /cluster says; ManagerUnreachable when it is something else (a member without its store)."""
    try:
        content = json.loads(answer.text)
        members = tuple(map(_member, content["members"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManagerUnreachable(f"HTTP {answer.status}, and no word about the cluster") from error
    leader = next((m.name for m in members if m.role is MemberRole.LEADER), None)
    return LedCluster(leader=leader, members=members, paused=bool(content.get("pause", False)))


def _member(content: Mapping[str, Any]) -> Member:
    lag, timeline = content.get("lag"), content.get("timeline")
    return Member(
        name=str(content["name"]),
        role=_ROLES.get(str(content.get("role")), MemberRole.REPLICA),
        state=str(content.get("state", "unknown")),
        timeline=timeline if isinstance(timeline, int) else None,
        lag_bytes=lag if isinstance(lag, int) else None,
        pending_restart=bool(content.get("pending_restart", False)),
    )


def _why(answer: _Answer, service: Service) -> str:
    if answer.status in (401, 403):
        key = f"services.{service.name}.patroni"
        return f"it does not take our login (HTTP {answer.status}): mend {key}.user and {key}.password"
    return answer.text.strip()[:300] or f"HTTP {answer.status}"


def _told(error: Exception, service: Service) -> str:
    tls = about_tls(error, f"services.{service.name}.patroni")
    if tls:
        return tls
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return "not HTTP" if isinstance(error, http.client.HTTPException) else type(error).__name__
