"""Ports of the stack: nice defaults, the next free one when taken, the same again at the next start."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ha_tasks.embedded.layout import DEFAULT_STANDBYS, agent_of, node_names
from ha_tasks.errors import StartFailed, UsageError

LOOPBACK = "127.0.0.1"
BALANCER = "127.0.0.2"
"""Where HAProxy comes from to PostgreSQL, so that a drill can tell its packets from all others."""
DEFAULTS: Mapping[str, int] = {
    "broker": 6390,
    "cache": 6391,
    "pg1": 5431,
    "pg2": 5432,
    "pg3": 5433,
    "agent-pg1": 7101,
    "agent-pg2": 7102,
    "agent-pg3": 7103,
    "agent-app": 7104,
    "web1": 8101,
    "web2": 8102,
    "web3": 8103,
    "web": 8080,
    "pg_write": 5540,
    "pg_read": 5541,
    "stats": 8404,
    "runtime": 8405,
    "flower": 5555,
    "metrics": 9808,
}
"""``web``, ``pg_write``, ``pg_read``, ``stats`` and ``runtime`` are HAProxy's."""


def defaults_for(standbys: int) -> Mapping[str, int]:
    """Names and preferred ports of a stack with so many standbys; those of two are ``DEFAULTS``."""
    usual = node_names(DEFAULT_STANDBYS)
    fixed = {n: port for n, port in DEFAULTS.items() if n.removeprefix("agent-") not in usual}
    nodes = node_names(standbys)
    servers = {node: DEFAULTS["pg1"] + number for number, node in enumerate(nodes)}
    beyond = DEFAULTS["agent-app"] + 1 - len(usual)
    agents = {
        agent_of(node): DEFAULTS.get(agent_of(node), beyond + number) for number, node in enumerate(nodes)
    }
    return {**servers, **agents, **fixed}


TRIES = 500
"""So many ports after the default are looked at; far below the ports that the kernel hands out."""


def demanded(
    environment: Mapping[str, str] | None = None, defaults: Mapping[str, int] = DEFAULTS
) -> dict[str, int]:
    """Ports that the user insists on: ``HA_DEMO_PORT_PG_WRITE=6000`` is ``{"pg_write": 6000}``.

    Raises UsageError for a name that is none of ours or a value that is no port.
    """
    env = os.environ if environment is None else environment
    names = {f"HA_DEMO_PORT_{name.upper().replace('-', '_')}": name for name in defaults}
    found = {key: value for key, value in env.items() if key.startswith("HA_DEMO_PORT_")}
    for key, value in found.items():
        if key not in names:
            raise UsageError(f"{key} is no port of the demo: {', '.join(sorted(names))} are")
        if not value.isdigit() or not 0 < int(value) < 65536:
            raise UsageError(f"{key} must be a port number, not {value!r}")
    return {names[key]: int(value) for key, value in found.items()}


@contextmanager
def chosen(
    memory: Path, demands: Mapping[str, int], defaults: Mapping[str, int] = DEFAULTS
) -> Iterator[dict[str, int]]:
    """Chooses a port for every name of ``defaults`` and reserves it against other stacks until the exit.

    ``memory`` remembers the choice. Raises UsageError when a demanded port is taken. What is no stack
    of ours may still take a port before its server does; that server's start then fails and says so.
    """
    with _Reservations() as reservations:
        ports = _choose({**defaults, **_remembered(memory, defaults)}, demands, defaults, reservations)
        temporary = memory.with_suffix(".new")
        temporary.write_text(json.dumps(ports, indent=1) + "\n")
        temporary.replace(memory)
        yield ports


def _choose(
    preferred: Mapping[str, int],
    demands: Mapping[str, int],
    defaults: Mapping[str, int],
    reservations: _Reservations,
) -> dict[str, int]:
    ports: dict[str, int] = {}
    for name, port in demands.items():
        if port in ports.values() or not reservations.take(port):
            raise UsageError(
                f"port {port}, demanded for {name}, is taken: end what listens there, or demand another one"
            )
        ports[name] = port
    for name in defaults:
        if name not in ports:
            ports[name] = _next_free(name, preferred[name], defaults.values(), reservations)
    return {name: ports[name] for name in defaults}


def _next_free(name: str, first: int, avoided: Collection[int], reservations: _Reservations) -> int:
    for port in range(first, min(first + TRIES, 65536)):
        if (port == first or port not in avoided) and reservations.take(port):
            return port
    raise StartFailed(f"no free port for {name} from {first} on: end what listens there")


def _remembered(memory: Path, defaults: Mapping[str, int]) -> dict[str, int]:
    try:
        found = json.loads(memory.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: port for name, port in found.items() if name in defaults and isinstance(port, int)}


class _Reservations:
    """Holds an abstract Unix socket per port.

    Such names live in the same network namespace as the ports do, are seen by every user, and go with
    the process, however it ends. So two stacks that start at the same moment choose different ports.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> _Reservations:
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._sockets:
            held.close()

    def take(self, port: int) -> bool:
        """True when the port is free and now ours."""
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            held.bind(f"\0ha-tasks-port-{port}")
            if is_free(port):
                self._sockets.append(held)
                return True
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        held.close()
        return False


def is_free(port: int) -> bool:
    """True when a server could listen on the loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        # As servers do: connections that linger from an earlier run do not make a port taken.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
