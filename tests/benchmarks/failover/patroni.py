"""Patroni behind HAProxy as a system under test."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ha_tasks.adapters.postgres_session import Login
from ha_tasks.embedded.binaries import resolve
from tests.network import Network, possible
from tests.patroni_cluster import LOWEST, PASSWORD, SUPERUSER, PatroniCluster, Tuning, postgres_of
from tests.servers import free_port

AS_SHIPPED = "inter 3s fall 3 rise 2 on-marked-down shutdown-sessions"
"""From the haproxy.cfg in Patroni's own repository."""
AS_TUNED = "inter 500ms fastinter 200ms downinter 300ms fall 2 rise 1 on-marked-down shutdown-sessions"
_HEAD_AS_SHIPPED = (
    "retries 2",
    "timeout client 30m",
    "timeout connect 4s",
    "timeout server 30m",
    "timeout check 5s",
)
_HEAD_AS_TUNED = (
    "retries 2",
    "timeout client 30m",
    "timeout connect 500ms",
    "timeout server 30m",
    "timeout check 500ms",
)


class PatroniSystem:
    """See systems.System. ``tuned``: the lowest timers that Patroni allows, and a quick HAProxy.

    ``apart``: each node is a host of a network of its own.
    """

    def __init__(self, name: str, *, tuned: bool, synchronous: bool, apart: bool = False) -> None:
        self.name = name
        self._apart = apart
        self.wake_after_s = 30.0 if tuned else 45.0
        timers = LOWEST if tuned else Tuning()
        self._tuning = Tuning(
            ttl=timers.ttl,
            loop_wait=timers.loop_wait,
            retry_timeout=timers.retry_timeout,
            primary_start_timeout=timers.primary_start_timeout,
            synchronous=synchronous,
        )
        self._tuned = tuned
        self._home: Path | None = None
        self._cluster: PatroniCluster | None = None
        self._balancer: subprocess.Popen[bytes] | None = None
        self._network: Network | None = None
        self._port = 0

    def start(self) -> None:
        """See System."""
        self._home = Path(tempfile.mkdtemp(prefix="bench-patroni-"))
        if self._apart:
            if not possible():
                raise RuntimeError("a network of its own needs root and `ip` (Debian: iproute2)")
            self._network = Network([f"n{number}" for number in (1, 2, 3)])
            self._network.start()
        self._cluster = PatroniCluster(self._home, tuning=self._tuning, network=self._network)
        self._cluster.start(within_s=180.0)
        self._port = free_port()
        configuration = self._home / "haproxy.cfg"
        configuration.write_text(self._haproxy())
        with (self._home / "haproxy.log").open("ab") as log:
            command = [str(resolve("haproxy").path), "-f", str(configuration), "-db"]
            self._balancer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """See System."""
        if self._balancer is not None:
            self._balancer.kill()
            self._balancer.wait(10)
        if self._cluster is not None:
            self._cluster.stop()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
        if self._network is not None:
            self._network.stop()
        self._balancer = self._cluster = self._home = self._network = None

    def whole(self) -> str | None:
        """See System."""
        return self._running.whole()

    @property
    def entry(self) -> str:
        """See System."""
        return f"127.0.0.1:{self._port}"

    @property
    def nodes(self) -> Mapping[str, str]:
        """See System."""
        return {name: node.place for name, node in self._running.nodes.items()}

    @property
    def login(self) -> Login:
        """See System."""
        return Login(user=SUPERUSER, database="postgres", password=PASSWORD)

    @property
    def version(self) -> str:
        """See System."""
        return "15"

    def agents(self, node: str) -> Sequence[int]:
        """See System."""
        return [self._running.nodes[node].agent()]

    def database(self, node: str) -> Sequence[int]:
        """See System."""
        return postgres_of(self._running.nodes[node].data)

    def hold(self, node: str) -> None:
        """Nobody supervises Patroni here."""

    def release(self, node: str) -> None:
        """See System."""
        self._running.start_node(node)

    def darken(self, node: str) -> None:
        """See System. RuntimeError unless the nodes are hosts of a network of their own."""
        if self._network is None:
            raise RuntimeError(f"{self.name}: a node on loopback cannot be cut off; start it apart, as root")
        self._network.cut(node)

    def light(self, node: str) -> None:
        """See System."""
        if self._network is not None:
            self._network.mend(node)

    @property
    def _running(self) -> PatroniCluster:
        if self._cluster is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._cluster

    def _haproxy(self) -> str:
        """As in Patroni's own repository, or the same with the tuned times."""
        head = _HEAD_AS_TUNED if self._tuned else _HEAD_AS_SHIPPED
        servers = [
            f"  server {name} {node.place} maxconn 100 check port {node.api}"
            for name, node in self._running.nodes.items()
        ]
        lines = [
            "global",
            "  maxconn 100",
            "defaults",
            "  mode tcp",
            *(f"  {line}" for line in head),
            "listen primary",
            f"  bind 127.0.0.1:{self._port}",
            "  option httpchk OPTIONS /primary",
            "  http-check expect status 200",
            f"  default-server {AS_TUNED if self._tuned else AS_SHIPPED}",
            *servers,
        ]
        return "\n".join([*lines, ""])
