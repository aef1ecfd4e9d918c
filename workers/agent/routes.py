"""What can be asked of the agent: paths, arguments, answers. No HTTP here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from urllib.parse import unquote

from ha_tasks.adapters.host_readings import this_machine
from ha_tasks.errors import AgentRefused, HaTasksError, UsageError
from ha_tasks.model.plain import Json
from ha_tasks.model.self_fence import Standing
from ha_tasks.ports.host import Authority
from workers.agent.commands import DatabaseCommands
from workers.agent.files import Files
from workers.agent.units import Units
from workers.agent.verbs import KEEP_FILE, NODE_VERBS, PUT_FILE, STANDING, UNIT_VERB, VERBS

_NODE = re.compile(r"/v1/nodes/([^/]+)(?:/([^/]+)(?:/([^/]+))?)?")
_RESOURCES = re.compile(r"/v1/hosts/([^/]+)/resources")
_UNIT = re.compile(r"/v1/hosts/([^/]+)/units/([^/]+)(/restart)?")
_FILE = re.compile(r"/v1/hosts/([^/]+)/files/([^/]+)(/keep|/put)?")
_LONGEST_S = 3600.0
_LONGEST_WATCH_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP status and a JSON body."""

    status: int
    body: Json


class Routes:
    """Answers requests that are known to be genuine. Every error becomes a reply."""

    def __init__(
        self,
        *,
        host: str,
        node: str,
        database: DatabaseCommands | None,
        units: Units,
        files: Files,
        allow: Collection[str] = VERBS,
    ) -> None:
        self._host = host
        self._allow = frozenset(allow)
        self._node = node
        self._database = database
        self._units = units
        self._files = files

    def answer(self, method: str, path: str, body: bytes) -> Reply:
        """The reply; errors as ``{"reason", "detail"}`` that the client raises again."""
        try:
            return Reply(status=200, body=self._do(method, path, body))
        except HaTasksError as error:
            reason = "passing_failure" if error.retryable and not _is_refusal(error) else error.reason
            return Reply(status=_status_of(error), body={"reason": reason, "detail": str(error)})

    def _do(self, method: str, path: str, body: bytes) -> Json:
        node, unit = _NODE.fullmatch(path), _UNIT.fullmatch(path)
        if node and method == "GET":
            return self._read_node(*map(_plain, node.groups()))
        if node and method == "POST" and node[2] == STANDING and not node[3]:
            return self._hear(_plain(node[1]), _object(body))
        if node and method == "POST" and not node[3]:
            return self._command(_plain(node[1]), _plain(node[2]), _object(body))
        if unit and method == ("POST" if unit[3] else "GET"):
            return self._do_unit(_plain(unit[1]), _plain(unit[2]), _object(body) if unit[3] else None)
        file = _FILE.fullmatch(path)
        if file and method == ("POST" if file[3] else "GET"):
            return self._do_file(_plain(file[1]), _plain(file[2]), file[3] or "", body)
        resources = _RESOURCES.fullmatch(path)
        if resources and method == "GET":
            return self._read_host(_plain(resources[1]))
        raise AgentRefused(f"{method} {path} is nothing that this agent knows")

    def _read_host(self, host: str) -> Json:
        if host != self._host:
            raise AgentRefused(f"this is the agent of {self._host}, not of {host}")
        return this_machine().to_json()

    def _read_node(self, node: str, what: str, job: str) -> Json:
        database = self._database_of(node)
        if not what:
            return asdict(database.status())
        if what == "jobs" and job:
            return database.job(job)
        if what == "exit" and job.isdecimal():
            return database.await_exit(min(float(job), _LONGEST_WATCH_S))
        raise AgentRefused(f"a node has no {what!r} to read")

    def _command(self, node: str, verb: str, body: Json) -> Json:
        database = self._database_of(node)
        self._require_allowed(verb)
        by = Authority(epoch=_whole(body, "epoch"), fence=_whole(body, "fence"))
        timeout_s = _seconds(body)
        arguments = {name: _text(body, name) for name in NODE_VERBS[verb]}
        _nothing_else(body)
        do: Callable[..., Json] = getattr(database, verb)
        return do(by, timeout_s, **arguments)

    def _hear(self, node: str, body: Json) -> Json:
        database = self._database_of(node)
        standing = Standing(
            epoch=_whole(body, "epoch"), primary=_text(body, "primary"), steady=_truth(body, "steady")
        )
        _nothing_else(body)
        return database.hear(standing)

    def _do_unit(self, host: str, unit: str, restart: Json | None) -> Json:
        self._require_mine(host)
        if restart is None:
            return self._units.status(unit)
        self._require_allowed(UNIT_VERB)
        key, fence, timeout_s = _text(restart, "key"), _whole(restart, "fence"), _seconds(restart)
        _nothing_else(restart)
        return self._units.restart(unit, key, fence=fence, timeout_s=timeout_s)

    def _do_file(self, host: str, file: str, verb: str, asked: bytes) -> Json:
        self._require_mine(host)
        if not verb:
            return self._files.status(file)
        body = _object(asked)
        if verb == "/keep":
            self._require_allowed(KEEP_FILE)
            staged = _truth(body, "staged")
            _nothing_else(body)
            return self._files.keep(file, staged=staged)
        self._require_allowed(PUT_FILE)
        digest, key, fence = _text(body, "digest"), _text(body, "key"), _whole(body, "fence")
        timeout_s = _seconds(body)
        _nothing_else(body)
        return self._files.put(file, digest, key, fence=fence, timeout_s=timeout_s)

    def _require_mine(self, host: str) -> None:
        if host != self._host:
            raise AgentRefused(f"this is the agent of {self._host}, not of {host}")

    def _require_allowed(self, verb: str) -> None:
        if verb not in VERBS:
            raise AgentRefused(f"{verb!r} is no verb of this agent")
        if verb not in self._allow:
            raise AgentRefused(f"{verb!r} is not allowed on {self._host}; add it to allow in agent.toml")

    def _database_of(self, node: str) -> DatabaseCommands:
        if self._database is None or node != self._node:
            raise AgentRefused(f"this is the agent of {self._node or 'no database'}, not of {node}")
        return self._database


def _is_refusal(error: HaTasksError) -> bool:
    return isinstance(error, AgentRefused)


def _status_of(error: HaTasksError) -> int:
    if isinstance(error, UsageError):
        return 400
    if _is_refusal(error):
        return 409
    return 503 if error.retryable else 500


def _plain(part: str | None) -> str:
    return unquote(part or "")


def _object(body: bytes) -> Json:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise AgentRefused("the body is no JSON") from error
    if not isinstance(value, dict):
        raise AgentRefused("the body is no JSON object")
    return value


def _whole(body: Json, name: str) -> int:
    value = body.pop(name, None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise AgentRefused(f"{name} must be a whole number, not {value!r}")
    return value


def _truth(body: Json, name: str) -> bool:
    value = body.pop(name, None)
    if not isinstance(value, bool):
        raise AgentRefused(f"{name} must be true or false, not {value!r}")
    return value


def _seconds(body: Json) -> float:
    value = body.pop("timeout_s", None)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _LONGEST_S:
        raise AgentRefused(f"timeout_s must be more than 0 and at most {_LONGEST_S:.0f}, not {value!r}")
    return float(value)


def _text(body: Json, name: str) -> str:
    value = body.pop(name, None)
    if not isinstance(value, str) or len(value) > 1000:
        raise AgentRefused(f"{name} must be a text of at most 1000 letters")
    return value


def _nothing_else(body: Json) -> None:
    if body:
        raise AgentRefused(f"{', '.join(sorted(body))}: unknown in this request")
