"""A Redis or Valkey service asked from inside: INFO of each server, a key written and read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import uuid4

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.looking import side_by_side
from ha_tasks.adapters.redis_probe import without_password
from ha_tasks.adapters.resp import RespError, command, reply
from ha_tasks.adapters.wire import Wire
from ha_tasks.errors import HaTasksError
from ha_tasks.model.database_health import redis_examined
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.system_health import DOWN, IMPAIRED, WELL, Examined, judged
from ha_tasks.ports.clock import Clock

CANARY = "canary"
KEPT_MS = 60_000
_REFUSALS = (
    "NOREPLICAS: a replica is missing; MISCONF: its disk; OOM: maxmemory; READONLY: it is a replica now"
)


class RedisDepth:
    """Implements ports.checks.DeepCheck. A server of a cluster is asked, and nothing is written to it: the
    canary's slot may be another's.
    """

    def __init__(self, *, clock: Clock, password: Callable[[Service], str | None] = without_password) -> None:
        self._clock = clock
        self._password = password

    def examine(self, service: Service, timeout_s: float) -> Sequence[Examined]:
        """See the port. The canary is one key per server, gone after a minute."""
        found = side_by_side(lambda node: self._node(service, node, timeout_s), service.instances)
        return [each for examined in found for each in examined]

    def _node(self, service: Service, node: Instance, timeout_s: float) -> list[Examined]:
        subject = f"{service.name}/{node.name}"
        deadline = Deadline(self._clock, timeout_s)
        try:
            with Wire(node.address, deadline) as wire:
                return self._asked(service, subject, wire)
        except (OSError, HaTasksError) as error:  # the latter: a password that cannot be read
            problem = f"it does not answer: {error}"
            remedy = (
                "see: ha-tasks status; is it running, and does the password of [services.NAME.redis] fit?"
            )
            # One of several that is silent: whether the service still serves, its own health tells.
            score = DOWN if len(service.instances) == 1 else IMPAIRED
            return [Examined(subject=subject, check="info", score=score, problem=problem, remedy=remedy)]

    def _asked(self, service: Service, subject: str, wire: Wire) -> list[Examined]:
        reader, password = wire.reader(), self._password(service)
        if password is not None:
            wire.send(command("AUTH", password))
            reply(reader)
        wire.send(command("INFO"))
        said = fields(reply(reader) or "")
        examined = redis_examined(subject, said)
        primary = said.get("role") == "master" and said.get("cluster_enabled", "0") == "0"
        if primary and is_ours(service):
            key, token = f"ha_tasks:health:{subject}", str(uuid4())
            wire.send(command("SET", key, token, "PX", str(KEPT_MS)) + command("GET", key))
            examined.append(_canary(subject, token, lambda: (reply(reader), reply(reader))[1]))
        return examined


def _canary(subject: str, token: str, read_back: Callable[[], str | None]) -> Examined:
    try:
        found = read_back()
        problem = "" if found == token else "it took a key and did not give it back"
    except RespError as error:
        problem = f"it refuses writes: {error}"
    return judged(subject, CANARY, DOWN if problem else WELL, problem=problem, remedy=_REFUSALS)


def fields(info: str) -> Mapping[str, str]:
    """What INFO says: name -> text."""
    lines = (line.partition(":") for line in info.splitlines() if not line.startswith("#"))
    return {name: text.strip() for name, colon, text in lines if colon}
