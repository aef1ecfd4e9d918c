"""The client of the host agents: ports.host over signed HTTP.

Each call has one deadline and is made once: whoever calls decides about trying again.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

from ha_tasks.adapters.agent_signing import (
    NONCE_HEADER,
    SIGNATURE_HEADER,
    SKEW_S,
    answer_is_genuine,
    signed_request,
)
from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.wire import Wire
from ha_tasks.errors import (
    ActionFailed,
    AgentRefused,
    AgentUnreachable,
    HaTasksError,
    PassingFailure,
    Refused,
    StaleAuthority,
)
from ha_tasks.model.clocks import clock_fault
from ha_tasks.model.cluster import Revoked
from ha_tasks.model.plain import Json
from ha_tasks.model.self_fence import Standing
from ha_tasks.model.system_health import HostReading
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import Authority, NodeStatus, Postmaster

_ERRORS: Mapping[str, type[HaTasksError]] = {
    kind.reason: kind for kind in (StaleAuthority, AgentRefused, PassingFailure, ActionFailed)
}
_POLL_S = 0.1
_ROUND_TRIP_S = 2.0
"""Longest wait for one answer about a job, or past the time that was asked for."""


class HostAgents:
    """Implements ports.host.DatabaseAgent, UnitAgent and FileAgent, and ports.checks.HostResources.

    ``urls``: host name -> base URL of its agent; ``hosts``: instance name -> host name. Besides what the
    port says: PassingFailure when the agent tried and may succeed later, ActionFailed when it will not.
    Whoever answers without a valid signature counts as nobody: AgentUnreachable.
    """

    def __init__(
        self,
        *,
        urls: Mapping[str, str],
        hosts: Mapping[str, str],
        key: bytes,
        clock: Clock | None = None,
        others: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``others``: node, ``host/unit`` or ``host/file`` that others lead -> what refuses commands."""
        self._urls = dict(urls)
        self._hosts = dict(hosts)
        self._key = key
        self._clock = clock or SystemClock()
        self._others = dict(others)

    def status(self, node: str, *, timeout_s: float = 0.5) -> NodeStatus:
        """See ports.host. Reads only."""
        answer = self._ask_node("GET", node, "", None, timeout_s)
        known = {f.name: answer[f.name] for f in fields(NodeStatus) if f.name in answer}
        known["postmaster"] = Postmaster(answer["postmaster"])
        if known.get("history") is not None:
            known["history"] = tuple((int(timeline), int(lsn)) for timeline, lsn in known["history"])
        return NodeStatus(**known)

    def await_exit(self, node: str, *, within_s: int = 5) -> Postmaster:
        """See ports.host. Reads only."""
        answer = self._ask_node("GET", node, f"/exit/{within_s}", None, within_s + _ROUND_TRIP_S)
        return Postmaster(answer["postmaster"])

    def tell(self, node: str, standing: Standing, *, timeout_s: float = 0.5) -> None:
        """See ports.host. Idempotent."""
        self._ask_node("POST", node, "/standing", asdict(standing), timeout_s)

    def fence(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        """See ports.host. Fenced, idempotent."""
        self._command(node, "fence", by, timeout_s)

    def revoke(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> Revoked:
        """See ports.host. Fenced, idempotent."""
        answer = self._command(node, "revoke", by, timeout_s)
        known = {f.name: answer[f.name] for f in fields(Revoked) if f.name in answer}
        return Revoked(**{**known, "node": node})

    def follow(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        """See ports.host. Fenced, idempotent."""
        self._command(node, "follow", by, timeout_s, upstream=upstream)

    def promote(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> int:
        """See ports.host. Fenced, idempotent."""
        return int(self._command(node, "promote", by, timeout_s, sync_setting=sync_setting)["timeline"])

    def set_sync(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        """See ports.host. Fenced, idempotent."""
        self._command(node, "set_sync", by, timeout_s, sync_setting=sync_setting)

    def start_primary(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        """See ports.host. Fenced, idempotent."""
        self._command(node, "start_primary", by, timeout_s, sync_setting=sync_setting)

    def start_standby(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        """See ports.host. Fenced, idempotent."""
        self._command(node, "start_standby", by, timeout_s, upstream=upstream)

    def stop(self, node: str, by: Authority, *, timeout_s: float = 15.0) -> Revoked:
        """See ports.host. Fenced, idempotent."""
        answer = self._command(node, "stop", by, timeout_s)
        return Revoked(node=node, timeline=int(answer["timeline"]), lsn=int(answer["lsn"]))

    def demote(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 15.0) -> None:
        """See ports.host. Fenced, idempotent."""
        self._command(node, "demote", by, timeout_s, upstream=upstream)

    def restart_standby(self, node: str, key: str, by: Authority, *, timeout_s: float = 60.0) -> None:
        """See ports.host. Fenced, idempotent by ``key``."""
        self._command(node, "restart_standby", by, timeout_s, key=key)

    def drop_slot(self, node: str, slot: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        """See ports.host. Fenced, idempotent."""
        self._command(node, "drop_slot", by, timeout_s, slot=slot)

    def rejoin(self, node: str, upstream: str, by: Authority, job: str, *, timeout_s: float = 120.0) -> Json:
        """See ports.host. Fenced, idempotent by ``job``; polls until the job has ended.

        An agent that is restarted meanwhile is asked for the same job again.
        """
        deadline = Deadline(self._clock, timeout_s)
        state = self._request_job(node, upstream, by, job, deadline)
        while state["state"] != "done":
            if state["state"] == "failed":
                raise _ERRORS.get(str(state.get("reason")), ActionFailed)(f"{node}: {state['detail']}")
            self._pause(deadline, f"job {job} on {node} is still {state['state']}")
            state = self._poll_job(node, upstream, by, job, deadline)
        return {"method": state["method"], "kept": state["kept"]}

    def restart_unit(self, host: str, unit: str, key: str, *, fence: int, timeout_s: float = 15.0) -> Json:
        """See ports.host. Fenced, idempotent by ``key``."""
        self._must_be_ours(f"{host}/{unit}")
        body = {"key": key, "fence": fence, "timeout_s": timeout_s}
        return self._ask(host, "POST", f"{_unit_path(host, unit)}/restart", body, timeout_s)

    def unit_status(self, host: str, unit: str, *, timeout_s: float = 1.0) -> Json:
        """See ports.host. Reads only."""
        return self._ask(host, "GET", _unit_path(host, unit), None, timeout_s)

    def file_status(self, host: str, file: str, *, timeout_s: float = 5.0) -> Json:
        """See ports.host. Reads only."""
        return self._ask(host, "GET", _file_path(host, file), None, timeout_s)

    def keep_file(self, host: str, file: str, *, staged: bool = False, timeout_s: float = 5.0) -> Json:
        """See ports.host. Idempotent."""
        return self._ask(host, "POST", f"{_file_path(host, file)}/keep", {"staged": staged}, timeout_s)

    def put_file(
        self, host: str, file: str, digest: str, key: str, *, fence: int, timeout_s: float = 30.0
    ) -> Json:
        """See ports.host. Fenced, idempotent."""
        self._must_be_ours(f"{host}/{file}")
        body = {"digest": digest, "key": key, "fence": fence, "timeout_s": timeout_s}
        return self._ask(host, "POST", f"{_file_path(host, file)}/put", body, timeout_s)

    def resources(self, host: str, *, timeout_s: float = 1.0) -> HostReading:
        """See ports.checks.HostResources. An agent of an earlier version: AgentRefused."""
        told = self._ask(host, "GET", f"/v1/hosts/{quote(host, safe='')}/resources", None, timeout_s)
        return HostReading.from_json(told)

    def _command(self, node: str, verb: str, by: Authority, timeout_s: float, **arguments: str) -> Json:
        body = {**asdict(by), "timeout_s": timeout_s, **arguments}
        return self._ask_node("POST", node, f"/{verb}", body, timeout_s)

    def _request_job(self, node: str, upstream: str, by: Authority, job: str, deadline: Deadline) -> Json:
        body = {**asdict(by), "upstream": upstream, "job": job, "timeout_s": _ROUND_TRIP_S}
        return self._ask_node("POST", node, "/rejoin", body, min(_ROUND_TRIP_S, _left(deadline)))

    def _poll_job(self, node: str, upstream: str, by: Authority, job: str, deadline: Deadline) -> Json:
        """What has become of the job. An agent that is away may come back before the deadline."""
        path = f"/jobs/{quote(job, safe='')}"
        try:
            state = self._ask_node("GET", node, path, None, min(_ROUND_TRIP_S, _left(deadline)))
            if state["state"] == "interrupted":
                return self._request_job(node, upstream, by, job, deadline)
        except AgentUnreachable as error:
            return {"state": f"unknown ({error})"}
        return state

    def _pause(self, deadline: Deadline, what: str) -> None:
        if _left(deadline) <= _POLL_S:
            raise AgentUnreachable(what)
        self._clock.pause(_POLL_S)

    def _must_be_ours(self, what: str) -> None:
        """The last line: whoever has forgotten to ask before is refused here. Raises Refused."""
        if what in self._others:
            raise Refused(self._others[what])

    def _ask_node(self, method: str, node: str, rest: str, body: Json | None, timeout_s: float) -> Json:
        if method == "POST":
            self._must_be_ours(node)
        path = f"/v1/nodes/{quote(node, safe='')}{rest}"
        return self._ask(self._hosts.get(node, node), method, path, body, timeout_s)

    def _ask(self, host: str, method: str, path: str, body: Json | None, timeout_s: float) -> Json:
        """One request, one verified answer; errors of the agent are raised as what they were there."""
        url = self._urls.get(host)
        if url is None:
            raise AgentUnreachable(f"no host {host} with an agent is in the inventory")
        payload = b"" if body is None else json.dumps(body).encode()
        status, answer = self._exchange(
            host, url, method=method, path=path, body=payload, timeout_s=timeout_s
        )
        value = json.loads(answer)
        if status >= 300:
            kind = _ERRORS.get(str(value.get("reason")), ActionFailed)
            raise kind(f"{host}: {value.get('detail', status)}")
        return dict(value)

    def _exchange(
        self, host: str, url: str, *, method: str, path: str, body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        headers = signed_request(self._key, method=method, path=path, body=body, now=time.time)
        try:
            with Wire(urlsplit(url).netloc, Deadline(self._clock, timeout_s)) as wire:
                wire.send(_request(method, path, headers, body))
                response = _response(wire, method)
                answer = response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise AgentUnreachable(f"the agent of {host} did not answer: {error or 'no answer'}") from error
        genuine = answer_is_genuine(
            self._key,
            nonce=headers[NONCE_HEADER],
            status=response.status,
            body=answer,
            signature=response.getheader(SIGNATURE_HEADER, ""),
        )
        if not genuine:
            raise AgentUnreachable(_stranger(host, response.status, response.getheader("Date")))
        return response.status, answer


def _request(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.0", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _response(wire: Any, method: str) -> http.client.HTTPResponse:  # noqa: ANN401 - a socket's makefile is all that is used
    response = http.client.HTTPResponse(wire, method=method)
    response.begin()
    return response


def _stranger(host: str, status: int, date: str | None) -> str:
    """``date``: its clock to the second, as HTTP tells it."""
    if status == http.client.UNAUTHORIZED:
        refused = f"the agent of {host} does not take our signature"
        now = datetime.now(UTC)
        fault = clock_fault(host, _seconds_of(date), now - timedelta(seconds=1), now, tolerated_s=SKEW_S)
        return f"{refused}: {fault or 'it has another key'}"
    return f"who answers for the agent of {host} does not have the key (status {status})"


def _seconds_of(date: str | None) -> float | None:
    """Of a Date header; None without one, or when it is none."""
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def _left(deadline: Deadline) -> float:
    """Seconds left; 0 when there are none."""
    try:
        return deadline.left_s()
    except TimeoutError:
        return 0.0


def _unit_path(host: str, unit: str) -> str:
    return f"/v1/hosts/{quote(host, safe='')}/units/{quote(unit, safe='')}"


def _file_path(host: str, file: str) -> str:
    return f"/v1/hosts/{quote(host, safe='')}/files/{quote(file, safe='')}"
