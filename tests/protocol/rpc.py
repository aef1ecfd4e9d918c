"""What lies between controllers and servers: requests to agents, sessions of SQL, what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ha_tasks.errors import AgentUnreachable, HaTasksError, ServiceUnreachable
from ha_tasks.model.cluster import Revoked
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.self_fence import Standing
from ha_tasks.model.switchover import Transaction
from ha_tasks.ports.host import Authority, NodeStatus
from ha_tasks.ports.postgres import NodeReading
from tests.protocol.agents import AgentDied
from tests.protocol.servers import Server
from tests.protocol.turns import Actor

if TYPE_CHECKING:
    from tests.protocol.world import World


class Fate(StrEnum):
    """What becomes of one request to an agent."""

    ARRIVES = "arrives"
    LOST = "lost"
    UNANSWERED = "done, and its answer is lost"
    LATE = "comes later, when nobody waits any more"
    TWICE = "comes a second time later"
    STALLS = "stands still between two of its effects"
    KILLS = "the agent dies between two of its effects"


@dataclass(eq=False)
class Letter:
    """A request on its way."""

    node: str
    verb: str
    by: Authority
    timeout_s: float
    arguments: dict[str, str]


class SimAgents:
    """Implements ``DatabaseAgent``: each verb is one request to the node's agent."""

    def __init__(self, world: World) -> None:
        self._world = world

    def status(self, node: str, *, timeout_s: float = 0.5) -> NodeStatus:
        world = self._world
        world.point()
        host = world.hosts[node]
        if world.fate("status")[0] is Fate.LOST or not host.answers or host.commands is None:
            world.clock.advance(timeout_s)
            raise AgentUnreachable(f"the agent of {node} does not answer")
        return host.commands.status()

    def tell(self, node: str, standing: Standing, *, timeout_s: float = 0.5) -> None:
        self.status(node, timeout_s=timeout_s)

    def fence(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        self._ask(node, "fence", by, timeout_s)

    def revoke(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> Revoked:
        return Revoked(node=node, **self._ask(node, "revoke", by, timeout_s))

    def follow(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        self._ask(node, "follow", by, timeout_s, upstream=upstream)

    def promote(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> int:
        return int(self._ask(node, "promote", by, timeout_s, sync_setting=sync_setting)["timeline"])

    def set_sync(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        self._ask(node, "set_sync", by, timeout_s, sync_setting=sync_setting)

    def start_primary(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        self._ask(node, "start_primary", by, timeout_s, sync_setting=sync_setting)

    def start_standby(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        self._ask(node, "start_standby", by, timeout_s, upstream=upstream)

    def stop(self, node: str, by: Authority, *, timeout_s: float = 15.0) -> Revoked:
        return Revoked(node=node, **self._ask(node, "stop", by, timeout_s))

    def demote(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 15.0) -> None:
        self._ask(node, "demote", by, timeout_s, upstream=upstream)

    def restart_standby(self, node: str, key: str, by: Authority, *, timeout_s: float = 60.0) -> None:
        self._ask(node, "restart_standby", by, timeout_s, key=key)

    def rejoin(self, node: str, upstream: str, by: Authority, job: str, *, timeout_s: float = 120.0) -> Json:
        answer = self._ask(node, "rejoin", by, timeout_s, upstream=upstream, job=job)
        return {"method": answer["method"], "kept": answer["kept"]}

    def _ask(self, node: str, verb: str, by: Authority, timeout_s: float, **arguments: str) -> Any:
        world = self._world
        world.reached(verb)
        letter = Letter(node, verb, by, timeout_s, arguments)
        fate, where = world.fate(verb)
        if fate is Fate.TWICE:
            world.mail.append(letter)
        if fate is Fate.KILLS:
            world.hosts[node].dies_in = where
        answer: Any = None
        if fate is Fate.STALLS and world.hosts[node].answers:
            answer = self._stalled(letter, where)
        elif fate in (Fate.LOST, Fate.LATE) or not world.hosts[node].answers:
            # A frozen agent has taken the request all the same, and finds it when it wakes.
            if fate is not Fate.LOST and world.hosts[node].commands is not None:
                world.mail.append(letter)
        else:
            answer = self.deliver(letter)
        if answer is None or fate is Fate.UNANSWERED:
            world.clock.advance(timeout_s)
            world.reached(f"{verb} answered")
            raise AgentUnreachable(f"the agent of {node} does not answer")
        world.reached(f"{verb} answered")
        if isinstance(answer, HaTasksError):
            raise answer
        return answer

    def deliver(self, letter: Letter) -> Any:
        """The agent does it: its answer or its error; None when it died of it, or is not there."""
        host = self._world.hosts[letter.node]
        if host.commands is None:
            return None
        try:
            if letter.verb == "rejoin":
                return host.commands.rejoin(letter.by, letter.timeout_s, **letter.arguments)
            return getattr(host.commands, letter.verb)(letter.by, letter.timeout_s, **letter.arguments)
        except AgentDied:
            return None
        except HaTasksError as error:
            return error

    def _stalled(self, letter: Letter, points: int) -> Any:
        answers: list[Any] = []
        actor = Actor(self._world.turns, lambda: answers.append(self.deliver(letter)))
        self._world.stalled.append((letter.node, actor))
        if not actor.run(points + 1):
            return None
        self._world.stalled.remove((letter.node, actor))
        return answers[0] if answers else None


class SimControl:
    """Implements ``PostgresControl``: what a session of SQL sees and does."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._net = world.net

    def flush_lsn(self, service: Service, node: Instance) -> int:
        return self._primary(node.name).lsn

    def flushed_past(self, service: Service, primary: Instance, lsn: int) -> frozenset[str]:
        senders = self._asked(primary.name).senders
        return frozenset(s.standby.name for s in senders if s.flushed >= lsn)

    def streaming(self, service: Service, primary: Instance) -> frozenset[str]:
        return frozenset(s.standby.name for s in self._asked(primary.name).senders)

    def receiving(self, service: Service, primary: Instance) -> frozenset[str]:
        return frozenset(s.standby.name for s in self._asked(primary.name).senders if s.alive)

    def sync_setting(self, service: Service, primary: Instance) -> str:
        return self._primary(primary.name).loaded[1]

    def checkpoint(self, service: Service, primary: Instance) -> None:
        self._primary(primary.name)

    def end_walsenders(self, service: Service, primary: Instance, names: Collection[str]) -> None:
        self._asked(primary.name)
        self._net.end_senders(primary.name, set(names))

    def transactions(
        self, service: Service, primary: Instance, older_than_s: float
    ) -> tuple[Transaction, ...]:
        self._asked(primary.name)
        return ()

    def reading(self, service: Service, node: Instance) -> NodeReading:
        raise ServiceUnreachable("nothing here is judged by readings")

    def system_identifier(self, service: Service, node: Instance) -> str:
        self._asked(node.name)
        return f"{service.name}-7000000000000000000"

    def write_canary(self, service: Service, entry: str, token: str, timeout_s: float) -> str:
        self._world.point()
        ready = [name for name, state in self._world.haproxy.states("pg_write").items() if state == "ready"]
        node = ready[0] if len(ready) == 1 else None
        row = self._net.write(node) if node else None
        self._net.flow()
        if node is None or row not in self._net.acknowledged:
            raise ServiceUnreachable(f"nobody acknowledged behind {entry}")
        return node

    def _primary(self, name: str) -> Server:
        server = self._asked(name)
        if server.in_recovery:
            raise ServiceUnreachable(f"{name} is in recovery")
        return server

    def _asked(self, name: str) -> Server:
        self._world.point()
        server = self._net.servers[name]
        if not server.awake:
            raise ServiceUnreachable(f"{name} does not answer")
        return server


class Point:
    """Stands before a repository: whoever calls it reaches a point first."""

    def __init__(self, inner: Any, point: Callable[[str], None]) -> None:
        self._inner, self._point = inner, point

    def __getattr__(self, name: str) -> Any:
        self._point(name)
        return getattr(self._inner, name)
