"""haproxy.cfg of the embedded stack: the generated configuration, and a page of statistics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.embedded.ports import BALANCER, LOOPBACK
from ha_tasks.model import haproxy_config
from ha_tasks.model.haproxy_config import Pool, Server
from ha_tasks.model.platform import Check

LONGEST_SOCKET_PATH = 85
"""Bytes. The kernel takes 107, and HAProxy first binds ``<path>.<pid>.tmp``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What stands in haproxy.cfg. ``web`` and ``nodes`` are server names -> ports.

    ``closed`` are (backend, server) pairs that start in maintenance.
    """

    socket: str
    ports: Mapping[str, int]
    web: Mapping[str, int]
    nodes: Mapping[str, int]
    closed: Collection[tuple[str, str]]


def runtime_socket(directory: Path, port: int) -> str:
    """Where the runtime API listens: ``unix://PATH`` in the home, else ``tcp://127.0.0.1:PORT``.

    The runtime API can take servers out and has no password. A Unix socket of mode 0600 is for this
    user only; a loopback port is for every user of the machine, so it is only the second choice, for a
    path that is too long for a socket or has a comma in it (HAProxy reads it as a list).
    """
    path = str(directory / "haproxy.sock")
    if len(path.encode()) <= LONGEST_SOCKET_PATH and "," not in path:
        return f"unix://{path}"
    return f"tcp://{LOOPBACK}:{port}"


def render(edge: Edge) -> str:
    """The text of haproxy.cfg."""
    pools = (_web(edge), _postgres(edge, "pg_write"), _postgres(edge, "pg_read"))
    head = ("Written at each start of `ha-tasks demo`.",)
    return haproxy_config.render(edge.socket, pools, head, _stats(edge.ports["stats"]))


def default_closed(web: Collection[str], nodes: Collection[str], primary: str) -> set[tuple[str, str]]:
    """Before anything was recorded: the last web server is the spare, writes go to the primary alone."""
    spare = max(web)
    return {
        ("web", spare),
        *(("pg_write", node) for node in nodes if node != primary),
        ("pg_read", primary),
    }


def _web(edge: Edge) -> Pool:
    return Pool(
        name="web",
        bind=f"{LOOPBACK}:{edge.ports['web']}",
        servers=_servers(edge, "web", edge.web),
        check=Check(path="/healthz"),
        host=LOOPBACK,
        request_timeout_s=1.0,
    )


def _postgres(edge: Edge, name: str) -> Pool:
    return Pool(
        name=name,
        bind=f"{LOOPBACK}:{edge.ports[name]}",
        servers=_servers(edge, name, edge.nodes),
        database=True,
        source=BALANCER,
    )


def _servers(edge: Edge, backend: str, servers: Mapping[str, int]) -> tuple[Server, ...]:
    return tuple(
        Server(name=name, address=f"{LOOPBACK}:{port}", closed=(backend, name) in edge.closed)
        for name, port in servers.items()
    )


def _stats(port: int) -> Sequence[str]:
    return (
        "",
        "frontend stats",
        "    mode http",
        f"    bind {LOOPBACK}:{port}",
        "    timeout client 30s",
        "    timeout http-request 5s",
        "    http-request use-service prometheus-exporter if { path /metrics }",
        "    stats enable",
        "    stats uri /",
        "    stats refresh 5s",
        "    stats hide-version",
    )
