"""A PostgreSQL cluster with its agents, in memory: enough of both to see what a failover does to them.

A commit is acknowledged only when the quorum of the primary's own synchronous setting receives it, as
the real server does; agents refuse lower (epoch, fence) pairs, as the real ones do.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from ha_tasks.errors import (
    AgentRefused,
    AgentUnreachable,
    PassingFailure,
    ServiceUnreachable,
    StaleAuthority,
)
from ha_tasks.model.cluster import Revoked
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.switchover import Transaction
from ha_tasks.ports.host import Authority, NodeStatus, Postmaster


@dataclass
class ToyNode:
    """``agent`` and ``running`` False: silent, dead. ``log`` is its evidence of effects."""

    name: str
    running: bool = True
    agent: bool = True
    primary: bool = False
    timeline: int = 1
    lsn: int = 1000
    upstream: str | None = None
    left: str | None = None
    on_disk: int = 1
    sync_setting: str = ""
    epoch: tuple[int, int] = (0, 0)
    promotion_begun: int | None = None
    log: list[str] = field(default_factory=list)
    stop_hangs: bool = False
    stopping: bool = False
    restarts: list[str] = field(default_factory=list)
    system: str = "7000000000000000000"
    history: tuple[tuple[int, int], ...] = ()


class ToyCluster:
    """Implements ports/host.py's DatabaseAgent and ports/postgres.py's PostgresControl."""

    def __init__(self, primary: str = "pg1", standbys: Collection[str] = ("pg2", "pg3")) -> None:
        names = sorted(standbys)
        setting = f"ANY 1 ({', '.join(names)})"
        self.nodes = {primary: ToyNode(primary, primary=True, sync_setting=setting)}
        self.nodes |= {name: ToyNode(name, upstream=primary) for name in names}
        self.behind_entry: str | None = primary
        self.checkpoints = 0
        self.long: list[Transaction] = []

    def commit(self, node: str) -> bool:
        """One commit there: True when it is acknowledged."""
        primary = self.nodes[node]
        if not (primary.running and primary.primary) or primary.stopping:
            return False
        primary.lsn += 10
        match = re.match(r"ANY (\d+) \((.*)\)", primary.sync_setting)
        quorum, members = (int(match[1]), match[2].split(", ")) if match else (0, [])
        got = [m for m in members if self._receives(m, node)]
        for name, other in self.nodes.items():
            if name != node and self._receives(name, node):
                other.lsn, other.timeline = primary.lsn, primary.timeline
        return len(got) >= quorum

    def _receives(self, name: str, upstream: str) -> bool:
        node = self.nodes[name]
        beyond = node.lsn > dict(self.nodes[upstream].history).get(node.timeline, node.lsn)
        return node.running and not node.primary and node.upstream == upstream and not beyond

    def _hears(self, name: str) -> bool:
        upstream = self.nodes.get(self.nodes[name].upstream or "")
        return upstream is not None and upstream.running

    # the agents

    def status(self, node: str, *, timeout_s: float = 0.5) -> NodeStatus:
        toy = self._agent(node)
        return NodeStatus(
            node=node,
            postmaster=Postmaster.RUNNING if toy.running else Postmaster.EXITED,
            in_recovery=not toy.primary if toy.running else None,
            epoch=toy.epoch[0],
            promotion_begun=toy.promotion_begun,
            upstream=toy.upstream,
            job={},
            timeline=toy.timeline,
            lsn=toy.lsn,
            receiving=self._hears(node) if toy.running and not toy.primary else None,
            fence=toy.epoch[1],
            left=toy.left,
            timeline_on_disk=max(toy.on_disk, toy.timeline),
            history=toy.history,
        )

    def fence(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        self._command(node, by, "fence").running = False

    def revoke(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> Revoked:
        toy = self._command(node, by, "revoke")
        if not toy.running:
            raise AgentRefused(f"{node}: no postmaster")
        if toy.primary and toy.promotion_begun is None:
            raise AgentRefused(f"{node} is a primary, and this agent did not promote it")
        toy.left, toy.upstream = toy.upstream or toy.left, None
        return Revoked(
            node=node,
            timeline=toy.timeline,
            lsn=toy.lsn,
            followed=toy.left,
            begun=toy.promotion_begun,
            system=toy.system,
        )

    def follow(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        toy = self._command(node, by, f"follow {upstream}")
        if not toy.running:
            raise AgentRefused(f"{node}: no postmaster")
        if toy.promotion_begun is not None:
            raise AgentRefused(f"{node} has begun a promotion: it must rejoin")
        toy.upstream = upstream

    def promote(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> int:
        toy = self._command(node, by, "promote")
        toy.promotion_begun = by.epoch
        toy.sync_setting = sync_setting
        if not toy.primary:
            toy.history = (*toy.history, (toy.timeline, toy.lsn))
            toy.primary, toy.upstream, toy.timeline = True, None, toy.timeline + 1
            toy.log.append("promoted")
        return toy.timeline

    def set_sync(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        self._command(node, by, f"set_sync {sync_setting}").sync_setting = sync_setting

    def start_primary(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        toy = self._command(node, by, "start_primary")
        toy.running = toy.primary = True
        toy.stopping = False
        toy.sync_setting = sync_setting

    def start_standby(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        toy = self._command(node, by, "start_standby")
        toy.running, toy.primary, toy.upstream = True, False, upstream

    def stop(self, node: str, by: Authority, *, timeout_s: float = 15.0) -> Revoked:
        toy = self._command(node, by, "stop")
        if not toy.primary:
            raise AgentRefused(f"{node} is a standby")
        if toy.stop_hangs:
            toy.stopping = True
            raise PassingFailure(f"not in time: PostgreSQL of {node} shuts down")
        if toy.running:
            toy.lsn += 10
            for name in [n for n in self.nodes if self._receives(n, node)]:
                self.nodes[name].lsn, self.nodes[name].timeline = toy.lsn, toy.timeline
            toy.running = False
        return Revoked(node=node, timeline=toy.timeline, lsn=toy.lsn - 10)

    def demote(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 15.0) -> None:
        toy = self._command(node, by, f"demote {upstream}")
        if toy.running and (toy.primary or toy.upstream != upstream):
            raise AgentRefused(f"{node} runs, and not behind {upstream}")
        source = self.nodes[upstream]
        if not (source.running and source.primary):
            raise PassingFailure(f"{upstream} is no primary")
        toy.running, toy.primary, toy.upstream, toy.promotion_begun = True, False, upstream, None
        toy.timeline, toy.lsn = source.timeline, source.lsn

    def restart_standby(self, node: str, key: str, by: Authority, *, timeout_s: float = 60.0) -> None:
        toy = self._command(node, by, "restart_standby")
        if not toy.running or toy.primary:
            raise AgentRefused(f"{node} is no running standby")
        if key not in toy.restarts:
            toy.restarts.append(key)

    def rejoin(self, node: str, upstream: str, by: Authority, job: str, *, timeout_s: float = 120.0) -> Json:
        toy = self._command(node, by, "rejoin")
        source = self.nodes[upstream]
        toy.running, toy.primary, toy.upstream, toy.promotion_begun = True, False, upstream, None
        toy.timeline, toy.lsn, toy.history = source.timeline, source.lsn, source.history
        return {"method": "rewind", "kept": ""}

    def _agent(self, node: str) -> ToyNode:
        toy = self.nodes[node]
        if not toy.agent:
            raise AgentUnreachable(f"the agent of {node} does not answer")
        return toy

    def _command(self, node: str, by: Authority, verb: str) -> ToyNode:
        toy = self._agent(node)
        if (by.epoch, by.fence) < toy.epoch:
            raise StaleAuthority(f"{node} has seen {toy.epoch}")
        toy.epoch = (by.epoch, by.fence)
        toy.log.append(verb)
        return toy

    # by SQL

    def flush_lsn(self, service: Service, node: Instance) -> int:
        return self._asked(node.name).lsn

    def flushed_past(self, service: Service, primary: Instance, lsn: int) -> frozenset[str]:
        self.commit(primary.name)
        return frozenset(
            n for n in self.nodes if self._receives(n, primary.name) and self.nodes[n].lsn >= lsn
        )

    def streaming(self, service: Service, primary: Instance) -> frozenset[str]:
        self._asked(primary.name)
        return frozenset(n for n in self.nodes if self._receives(n, primary.name))

    def receiving(self, service: Service, primary: Instance) -> frozenset[str]:
        return self.streaming(service, primary)

    def sync_setting(self, service: Service, primary: Instance) -> str:
        return self._asked(primary.name).sync_setting

    def checkpoint(self, service: Service, primary: Instance) -> None:
        self._asked(primary.name)
        self.checkpoints += 1

    def end_walsenders(self, service: Service, primary: Instance, names: Collection[str]) -> None:
        self._asked(primary.name).log.append(f"end_walsenders {', '.join(sorted(names))}")

    def transactions(
        self, service: Service, primary: Instance, older_than_s: float
    ) -> tuple[Transaction, ...]:
        self._asked(primary.name)
        return tuple(t for t in self.long if t.age_s > older_than_s)

    def system_identifier(self, service: Service, node: Instance) -> str:
        self._asked(node.name)
        return f"{service.name}-7000000000000000000"

    def write_canary(self, service: Service, entry: str, token: str, timeout_s: float) -> str:
        node = self.behind_entry
        if node is None or not self.commit(node):
            raise ServiceUnreachable(f"nobody acknowledged behind {entry}")
        return node

    def _asked(self, node: str) -> ToyNode:
        if not self.nodes[node].running:
            raise ServiceUnreachable(f"{node} does not answer")
        return self.nodes[node]
