"""The PostgreSQL cluster of the stack: founded at the first start, brought up again at a later one.

Only the host agents start PostgreSQL; this asks them, with the authority that is recorded in the store.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ha_tasks.embedded.background import side_by_side
from ha_tasks.embedded.binaries import Binary
from ha_tasks.embedded.founding import Foundation
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import APP_ROLE, CLUSTER, CONTROL_ROLE, DATABASE, WEB
from ha_tasks.embedded.layout import DEFAULT_STANDBYS, node_names, nodes_at, nodes_of
from ha_tasks.embedded.node_files import AGENT_ROLE, REPLICATION_ROLE
from ha_tasks.embedded.secret_files import read
from ha_tasks.embedded.unprivileged import Way
from ha_tasks.errors import ServiceUnreachable, StartFailed
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.ports.host import Authority

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System

FIRST_PRIMARY = node_names(DEFAULT_STANDBYS)[0]
ROLES = {
    REPLICATION_ROLE: "pg-replication",
    CONTROL_ROLE: "pg-control",
    AGENT_ROLE: "pg-agent",
    APP_ROLE: "pg-app",
}
"""Role -> its secret. Nobody logs in as superuser: it has no password."""
REJOIN_TIMEOUT_S = 90.0
STREAMING_TIMEOUT_S = 30.0
SHUTDOWN_TIMEOUT_S = 6.0


def make_first_data(home: Home, binary: Binary, way: Way, major: int) -> None:
    """Lays the data of the first primary, roles included, unless there is data. Idempotent.

    Raises StartFailed for the data of an earlier version of ours, whose roles are others, and for that
    of another version of PostgreSQL than ``major``.
    """
    if home.secret("pg-superuser").exists():
        raise StartFailed(
            f"{home.root} was made by an earlier version, whose agents were superusers: "
            "start afresh with `ha-tasks demo --stop --purge`"
        )
    versions = {_version_of(home, node) for node in nodes_at(home)} - {None}
    if versions - {str(major)}:
        raise StartFailed(
            f"the data of {home.root} is that of PostgreSQL {', '.join(sorted(filter(None, versions)))}, and "
            f"{binary.path} is {major}: choose the other with --postgres, or start afresh with "
            "`ha-tasks demo --stop --purge`"
        )
    if any(home.data_dir(node).exists() for node in nodes_at(home)):
        return
    Foundation(
        bin_dir=binary.directory,
        way=way,
        passwords={role: read(home.secret(name)) for role, name in ROLES.items()},
        database=DATABASE,
        owner=APP_ROLE,
        log=home.log_of("initdb"),
    ).lay(home.data_dir(FIRST_PRIMARY))


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresCluster:
    """Brings the cluster up through the agents. Every method is idempotent."""

    home: Home
    system: System
    ports: dict[str, int]

    @property
    def _nodes(self) -> tuple[str, ...]:
        return nodes_of(self.ports)

    def bring_up(self) -> None:
        """Returns once a primary and its standbys stream. Raises an error of the tree."""
        try:
            cluster = self.system.store.clusters.get(CLUSTER)
        except KeyError:
            self._found()
        else:
            self._resume(cluster)

    def _found(self) -> None:
        """The recorded row is written last: until then a later start does all of this again.

        The same way leads back when the store was lost: above every epoch that an agent has seen.
        """
        self._outdo_the_agents()
        primary = self._only_primary()
        by = self._authority(
            epoch=1 + max(self.system.agents.status(node, timeout_s=5.0).epoch for node in self._nodes)
        )
        standbys = tuple(node for node in self._nodes if node != primary)
        sync_set = sync_set_of(standbys)
        self.system.agents.start_primary(primary, "", by)
        self._rejoin(standbys, primary, by)
        self.system.agents.set_sync(primary, sync_set.setting(), by)
        self._await_streaming(primary, standbys)
        cluster = Cluster(
            name=CLUSTER, epoch=by.epoch, primary=primary, state=ClusterState.STEADY, sets=(sync_set,)
        )
        self.system.store.clusters.register(cluster, self.system.clock.now())

    def _outdo_the_agents(self) -> None:
        """Fences go on above those that the agents remember, also when the store was lost."""
        seen = (self.system.agents.unit_status("app", unit)["fence"] for unit in WEB)
        self.system.store.journal.raise_fence(max(seen))

    def _only_primary(self) -> str:
        """By the data directories alone: the store knows nothing."""
        found = [n for n in self._nodes if self.home.data_dir(n).exists() and not _is_standby(self.home, n)]
        if len(found) != 1:
            raise StartFailed(
                f"the store knows no primary, and by their data {found or 'no node'} would be: "
                "start afresh with `ha-tasks demo --stop --purge`"
            )
        return found[0]

    def _resume(self, cluster: Cluster) -> None:
        by = self._authority(epoch=cluster.epoch)
        others = tuple(node for node in self._nodes if node != cluster.primary)
        if cluster.state is ClusterState.FAILING:
            # Who may become primary is for the interrupted run to decide: it goes on with the workers.
            side_by_side(others, lambda node: self.system.agents.start_standby(node, cluster.primary, by))
            return
        self.system.agents.start_primary(cluster.primary, cluster.sets[-1].setting(), by)
        self._rejoin(others, cluster.primary, by)
        self._await_streaming(cluster.primary, others)

    def _authority(self, *, epoch: int) -> Authority:
        """Of the recorded epoch, above every command that was given in it before."""
        return Authority(epoch=epoch, fence=self.system.store.journal.next_fence(self.system.clock.now()))

    def _rejoin(self, nodes: Iterable[str], upstream: str, by: Authority) -> None:
        def rejoin(node: str) -> None:
            job = f"start-{by.fence}-{node}"
            self.system.agents.rejoin(node, upstream, by, job, timeout_s=REJOIN_TIMEOUT_S)

        side_by_side(nodes, rejoin)

    def _await_streaming(self, primary: str, standbys: Sequence[str]) -> None:
        service = self.system.platform.services[CLUSTER]
        deadline = time.monotonic() + STREAMING_TIMEOUT_S
        streaming: frozenset[str] = frozenset()
        while not streaming.issuperset(standbys):
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(set(standbys) - streaming))
                raise StartFailed(f"{missing} does not stream from {primary}: see {self.home.logs}")
            with suppress(ServiceUnreachable):  # it is asked again until the deadline
                streaming = self.system.control.streaming(service, service.instance(primary))
            time.sleep(0.05)


def shut_down(home: Home) -> None:
    """Fast shutdown of every node; idempotent. What does not end in time is swept up by the caller.

    The primary first, while its standbys are there: they get its last record, and need no rewind later.
    """
    for nodes in (
        [node for node in nodes_at(home) if not _is_standby(home, node)],
        [node for node in nodes_at(home) if _is_standby(home, node)],
    ):
        pids = [pid for node in nodes if (pid := postmaster_pid(home, node)) is not None]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + SHUTDOWN_TIMEOUT_S
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.02)


def postmaster_pid(home: Home, node: str) -> int | None:
    """Pid of the node's postmaster, None when none runs; a pid that was used again is none."""
    data_dir = home.data_dir(node)
    try:
        pid = int((data_dir / "postmaster.pid").read_text().partition("\n")[0])
        works_there = Path(f"/proc/{pid}/cwd").resolve() == data_dir
    except (OSError, ValueError):
        return None
    return pid if works_there and Path(f"/proc/{pid}").exists() else None


def _version_of(home: Home, node: str) -> str | None:
    """The major version that wrote the node's data; None where there is none, or none that is whole."""
    try:
        return (home.data_dir(node) / "PG_VERSION").read_text().strip()
    except OSError:
        return None


def _is_standby(home: Home, node: str) -> bool:
    return (home.data_dir(node) / "standby.signal").exists()
