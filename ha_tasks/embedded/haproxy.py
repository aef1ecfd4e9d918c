"""haproxy.cfg of the embedded stack, for HAProxy 2.6 and later.

Each choice comes from a measurement: for HTTP the balancer's own retries lose nothing when a server
dies, where the best outside controller loses what fails until it acts. They may only repeat what is safe to
repeat, so other methods than GET and HEAD are never sent twice. For PostgreSQL retries only
hold clients on a dead server, and sessions of a server that is marked down are ended so that no client
waits for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.embedded.ports import BALANCER, LOOPBACK

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
    return "\n".join(
        (
            "# Written at each start by `ha-tasks demo`.",
            *_global(edge.socket),
            *_web(edge),
            *_postgres(edge, "pg_write"),
            *_postgres(edge, "pg_read"),
            *_stats(edge.ports["stats"]),
            "",
        )
    )


def default_closed(web: Collection[str], nodes: Collection[str], primary: str) -> set[tuple[str, str]]:
    """Before anything was recorded: the last web server is the spare, writes go to the primary alone."""
    spare = max(web)
    return {
        ("web", spare),
        *(("pg_write", node) for node in nodes if node != primary),
        ("pg_read", primary),
    }


def _global(socket: str) -> Sequence[str]:
    scheme, _, where = socket.partition("://")
    bind = _quoted(where) if scheme == "unix" else f"ipv4@{where}"
    return (
        "global",
        "    maxconn 1000",
        f"    stats socket {bind} level admin" + (" mode 600" if scheme == "unix" else ""),
        "    stats timeout 10s",
        "    hard-stop-after 3s",
        "",
        "defaults",
        "    timeout connect 500ms",
        "    timeout check 300ms",
        "    timeout queue 1s",
    )


def _web(edge: Edge) -> Sequence[str]:
    return (
        "",
        "frontend web",
        "    mode http",
        f"    bind {LOOPBACK}:{edge.ports['web']}",
        "    timeout client 30s",
        "    timeout http-request 5s",
        "    timeout http-keep-alive 10s",
        "    default_backend web",
        "",
        "backend web",
        "    mode http",
        "    balance roundrobin",
        "    timeout server 1s",
        "    option redispatch 1",
        "    retries 2",
        "    retry-on all-retryable-errors",
        "    http-request disable-l7-retry if !METH_GET",
        "    option httpchk",
        f"    http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host {LOOPBACK}",
        "    http-check expect status 200",
        "    default-server check inter 500ms fall 2 rise 1 weight 100"
        " observe layer4 error-limit 3 on-error mark-down",
        *_servers(edge, "web", edge.web),
    )


def _postgres(edge: Edge, name: str) -> Sequence[str]:
    return (
        "",
        f"frontend {name}",
        "    mode tcp",
        f"    bind {LOOPBACK}:{edge.ports[name]}",
        "    timeout client 1h",
        "    option clitcpka",
        f"    default_backend {name}",
        "",
        f"backend {name}",
        "    mode tcp",
        "    balance leastconn",
        "    timeout server 1h",
        "    option srvtcpka",
        "    retries 0",
        "    option tcp-check",
        f"    source {BALANCER}",
        "    default-server check inter 500ms fall 2 rise 1 weight 100 on-marked-down shutdown-sessions",
        *_servers(edge, name, edge.nodes),
    )


def _servers(edge: Edge, backend: str, servers: Mapping[str, int]) -> Sequence[str]:
    return tuple(
        f"    server {name} {LOOPBACK}:{port}" + (" disabled" if (backend, name) in edge.closed else "")
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


def _quoted(text: str) -> str:
    """In HAProxy's strong quotes nothing is special but the quote itself."""
    return "'" + text.replace("'", "'\\''") + "'"
