"""Host agents in memory: nodes of one PostgreSQL cluster, units, and versioned files."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ha_tasks.errors import ActionFailed, AgentRefused, AgentUnreachable, PassingFailure, StaleAuthority
from ha_tasks.model.cluster import Revoked
from ha_tasks.model.plain import Json
from ha_tasks.model.replication_slots import slot_name
from ha_tasks.model.self_fence import Standing
from ha_tasks.ports.host import Authority, NodeStatus, Postmaster

SEGMENT = 16 * 1024 * 1024


@dataclass
class FakeNode:
    """What an agent knows of its node; tests may set any of it. ``standby`` is None without data."""

    standby: bool | None = None
    postmaster: Postmaster = Postmaster.ABSENT
    timeline: int = 1
    lsn: int = SEGMENT
    upstream: str | None = None
    left: str | None = None
    sync_setting: str = ""
    promotion_begun: int | None = None
    highest: tuple[int, int] = (0, 0)
    jobs: dict[str, Json] = field(default_factory=dict)
    last_job: str = ""
    starts: int = 0
    restarted: str = ""
    history: tuple[tuple[int, int], ...] = ()
    binary: str = "18.1"
    told: list[Standing] = field(default_factory=list)
    self_fenced: str = ""
    slots: dict[str, bool] = field(default_factory=dict)
    """Physical ones, and whether each is read."""

    @property
    def runs(self) -> bool:
        return self.postmaster is Postmaster.RUNNING


SYSTEM = "7000000000000000000"
"""System identifier of the data of all nodes."""


class FakeHostAgents:
    """See ports/host.py. ``silent`` names nodes and hosts whose agents do not answer."""

    def __init__(self, *, primary: str, others: Collection[str] = (), units: Collection[str] = ()) -> None:
        self.nodes = {primary: FakeNode(standby=False), **{name: FakeNode() for name in others}}
        self.silent: set[str] = set()
        self.commands: list[tuple[str, str]] = []
        self._units: dict[str, list[str]] = {unit: [] for unit in units}
        self._pids: dict[tuple[str, str], int] = {}
        self._fences: dict[str, int] = {}

    # ports.host.DatabaseAgent

    def status(self, node: str, *, timeout_s: float = 0.5) -> NodeStatus:
        it = self._agent(node)
        return NodeStatus(
            node=node,
            postmaster=it.postmaster,
            in_recovery=it.standby if it.runs else None,
            epoch=it.highest[0],
            promotion_begun=it.promotion_begun,
            upstream=it.upstream,
            job=it.jobs.get(it.last_job, {}),
            timeline=it.timeline,
            lsn=it.lsn if it.runs else None,
            receiving=it.upstream is not None if it.runs and it.standby else None,
            fence=it.highest[1],
            history=it.history,
            binary=it.binary,
            unanswered_s=0.0 if it.runs else None,
            self_fenced=it.self_fenced,
            store_heard_s=0.0 if it.told else None,
            clock=time.time(),
            left=it.left,
            timeline_on_disk=it.timeline,
        )

    def await_exit(self, node: str, *, within_s: int = 5) -> Postmaster:
        it = self._agent(node)
        ends = time.monotonic() + within_s
        while it.runs and time.monotonic() < ends:
            time.sleep(0.01)
        return self._agent(node).postmaster

    def tell(self, node: str, standing: Standing, *, timeout_s: float = 0.5) -> None:
        self._agent(node).told.append(standing)

    def fence(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        it = self._command(node, by, "fence")
        if it.runs:
            it.postmaster = Postmaster.EXITED

    def revoke(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> Revoked:
        it = self._command(node, by, "revoke")
        if it.standby and it.upstream is not None:
            it.left, it.upstream = it.upstream, None
        self._require(it.runs, f"PostgreSQL of {node} does not run")
        self._require(it.standby or it.promotion_begun is not None, f"{node} is a primary")
        return Revoked(
            node=node,
            timeline=it.timeline,
            lsn=it.lsn,
            followed=it.left,
            begun=it.promotion_begun,
            system=SYSTEM,
        )

    def follow(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        it = self._command(node, by, "follow")
        self._require(it.runs, f"PostgreSQL of {node} does not run")
        self._require_clean_standby(node)
        self._require_peer(node, upstream)
        it.upstream = upstream

    def promote(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> int:
        it = self._command(node, by, "promote")
        self._require(it.runs, f"PostgreSQL of {node} does not run")
        self._require(it.standby or it.promotion_begun is not None, f"{node} is a primary already")
        if it.standby:
            it.history = (*it.history, (it.timeline, it.lsn))
            it.standby, it.upstream, it.timeline = False, None, it.timeline + 1
        it.promotion_begun, it.sync_setting = by.epoch, sync_setting
        return it.timeline

    def set_sync(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        it = self._command(node, by, "set_sync")
        self._require(it.runs and not it.standby, f"{node} is no running primary")
        it.sync_setting = sync_setting

    def start_primary(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        it = self._command(node, by, "start_primary")
        self._require(it.standby is False, f"{node} has no data of a primary")
        if not it.runs:
            it.postmaster, it.sync_setting = Postmaster.RUNNING, sync_setting

    def start_standby(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        it = self._command(node, by, "start_standby")
        self._require_clean_standby(node)
        self._require_peer(node, upstream)
        it.postmaster, it.upstream = Postmaster.RUNNING, upstream

    def stop(self, node: str, by: Authority, *, timeout_s: float = 15.0) -> Revoked:
        it = self._command(node, by, "stop")
        self._require(it.standby is False, f"{node} is a standby")
        if it.runs:
            it.postmaster = Postmaster.EXITED
            last, it.lsn = it.lsn, it.lsn + 120
            for other in self.nodes.values():
                if other.runs and other.upstream == node:
                    other.lsn = it.lsn
            return Revoked(node=node, timeline=it.timeline, lsn=last)
        return Revoked(node=node, timeline=it.timeline, lsn=it.lsn - 120)

    def demote(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 15.0) -> None:
        it = self._command(node, by, "demote")
        self._require_peer(node, upstream)
        source = self.nodes[upstream]
        if it.runs:
            self._require(
                bool(it.standby) and it.upstream == upstream, f"{node} runs, and not behind {upstream}"
            )
        else:
            self._require(it.standby is False, f"{node} has the data of a standby")
            if source.standby or not source.runs:
                raise PassingFailure(f"{upstream} is no primary")
            self._require(source.lsn >= it.lsn, f"{upstream} does not have the end of {node}")
        self._stand_behind(it, upstream)

    def restart_standby(self, node: str, key: str, by: Authority, *, timeout_s: float = 60.0) -> None:
        it = self._command(node, by, "restart_standby")
        self._require(it.runs, f"PostgreSQL of {node} does not run")
        self._require_clean_standby(node)
        self._require(it.upstream is not None, f"{node} follows nobody")
        it.starts += it.restarted != key
        it.restarted = key

    def drop_slot(self, node: str, slot: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        it = self._command(node, by, "drop_slot")
        self._require(it.runs, f"PostgreSQL of {node} does not run")
        owner = next((name for name in self.nodes if slot_name(name) == slot), None)
        self._require(owner is None, f"slot {slot} is {owner}'s")
        self._require(slot.startswith("ha_"), f"slot {slot} is none of ours")
        self._require(not it.slots.get(slot, False), f"slot {slot} is read by somebody")
        it.slots.pop(slot, None)

    def rejoin(self, node: str, upstream: str, by: Authority, job: str, *, timeout_s: float = 120.0) -> Json:
        it = self._command(node, by, "rejoin")
        self._require_peer(node, upstream)
        if job not in it.jobs:
            it.jobs[job] = {"id": job, "state": "done", "method": self._method(it), "kept": ""}
            it.last_job = job
            self._stand_behind(it, upstream)
        return {name: it.jobs[job][name] for name in ("method", "kept")}

    # ports.host.UnitAgent

    def restart_unit(self, host: str, unit: str, key: str, *, fence: int, timeout_s: float = 15.0) -> Json:
        starts = self._unit(host, unit)
        if fence < self._fences.get(unit, 0):
            raise StaleAuthority(f"{unit} has seen fence {self._fences[unit]}")
        self._fences[unit] = fence
        if key not in starts:
            starts.append(key)
            self._pids[unit, key] = 1000 + len(self._pids)
        return {"pid": self._pids[unit, key]}

    def unit_status(self, host: str, unit: str, *, timeout_s: float = 1.0) -> Json:
        starts = self._unit(host, unit)
        pid = self._pids[unit, starts[-1]] if starts else None
        return {
            "running": pid is not None,
            "pid": pid,
            "starts": len(starts),
            "fence": self._fences.get(unit, 0),
        }

    # inside

    def _agent(self, name: str) -> FakeNode:
        if name not in self.nodes or name in self.silent:
            raise AgentUnreachable(f"the agent of {name} does not answer")
        return self.nodes[name]

    def _command(self, node: str, by: Authority, verb: str) -> FakeNode:
        it = self._agent(node)
        if (by.epoch, by.fence) < it.highest:
            raise StaleAuthority(f"{node} has seen epoch {it.highest[0]}, fence {it.highest[1]}")
        it.highest = (by.epoch, by.fence)
        self.commands.append((verb, node))
        return it

    def _unit(self, host: str, unit: str) -> list[str]:
        if host in self.silent:
            raise AgentUnreachable(f"the agent of {host} does not answer")
        self._require(unit in self._units, f"there is no unit {unit} on {host}")
        return self._units[unit]

    def _method(self, it: FakeNode) -> str:
        if it.standby is None:
            return "basebackup"
        return "start" if it.standby and it.promotion_begun is None else "rewind"

    def _stand_behind(self, it: FakeNode, upstream: str) -> None:
        source = self.nodes[upstream]
        it.standby, it.postmaster, it.upstream = True, Postmaster.RUNNING, upstream
        it.timeline, it.lsn, it.promotion_begun, it.sync_setting = source.timeline, source.lsn, None, ""
        it.history = source.history

    def _require_clean_standby(self, node: str) -> None:
        it = self.nodes[node]
        self._require(it.promotion_begun is None, f"{node} began a promotion; it can only rejoin")
        self._require(bool(it.standby), f"{node} has no data of a standby; it can only rejoin")

    def _require_peer(self, node: str, upstream: str) -> None:
        self._require(upstream in self.nodes and upstream != node, f"{upstream} is no peer of {node}")

    @staticmethod
    def _require(holds: bool, why: str) -> None:
        if not holds:
            raise AgentRefused(why)


class FakeFileAgents:
    """``ports.host.FileAgent`` in memory. ``places``: (host, file) -> digest there; ``staged``: what waits.

    ``refused``: digests that the check of their file refuses; ``deaf``: files whose reload fails.
    ``put``: told of each exchange, as (host, file, digest).
    """

    def __init__(self, places: Mapping[tuple[str, str], str | None]) -> None:
        self.places = dict(places)
        self.staged: dict[tuple[str, str], str] = {}
        self.silent: set[str] = set()
        self.refused: set[str] = set()
        self.deaf: set[str] = set()
        self.told: list[tuple[str, str, str]] = []
        self.put: Callable[[str, str, str], None] = lambda *_: None
        self._kept: set[tuple[str, str, str]] = set()
        self._loaded: dict[tuple[str, str], str] = {}
        self._untold: set[tuple[str, str]] = set()
        self._fences: dict[tuple[str, str], int] = {}

    def file_status(self, host: str, file: str, *, timeout_s: float = 5.0) -> Json:
        place = self._place(host, file)
        return {
            "digest": self.places[place],
            "staged": self.staged.get(place),
            "loaded": self._loaded.get(place),
            "untold": place in self._untold,
            "fence": self._fences.get(place, 0),
        }

    def keep_file(self, host: str, file: str, *, staged: bool = False, timeout_s: float = 5.0) -> Json:
        place = self._place(host, file)
        digest = self.staged.get(place) if staged else self.places[place]
        if digest is None:
            raise ActionFailed(f"{file}: there is nothing")
        self._kept.add((*place, digest))
        return {"digest": digest}

    def put_file(
        self, host: str, file: str, digest: str, key: str, *, fence: int, timeout_s: float = 30.0
    ) -> Json:
        place = self._place(host, file)
        if fence < self._fences.get(place, 0):
            raise StaleAuthority(f"{file} has seen fence {self._fences[place]}")
        self._fences[place] = fence
        if (*place, digest) not in self._kept:
            raise ActionFailed(f"{file}: content {digest[:12]} is not kept on this host")
        if self.places[place] != digest:
            if digest in self.refused:
                raise ActionFailed(f"{file}: its check refuses content {digest[:12]}, nothing was changed")
            self.places[place] = digest
        self._loaded.pop(place, None)
        self._untold.add(place)
        if file in self.deaf:
            raise ActionFailed(f"{file}: its reload failed")
        self.told.append((host, file, digest))
        self._loaded[place] = digest
        self._untold.discard(place)
        self.put(host, file, digest)
        return {"digest": digest}

    def _place(self, host: str, file: str) -> tuple[str, str]:
        if host in self.silent:
            raise AgentUnreachable(f"the agent of {host} does not answer")
        if (host, file) not in self.places:
            raise AgentRefused(f"there is no file {file} here")
        return host, file
