"""state.json: the record of a running stack, for clients and drills.

``{"schema": 1, "endpoints": {...}, "nodes": {...}, "processes": [...]}``. It bears passwords (mode 0600)
and no roles: who is primary is asked of the servers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import APP_ROLE, DATABASE, WEB
from ha_tasks.embedded.layout import agent_of, nodes_at, nodes_of
from ha_tasks.embedded.ports import LOOPBACK
from ha_tasks.embedded.postgres import postmaster_pid
from ha_tasks.embedded.secret_files import read, write_private
from ha_tasks.embedded.supervisor import Running
from ha_tasks.embedded.valkey import CONTROL_USER, REQUEST_USER
from ha_tasks.errors import Unreachable

FLOWER_USER = "ha"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What state.json says."""

    endpoints: Mapping[str, str]
    nodes: Mapping[str, Mapping[str, Any]]
    processes: Sequence[Running]

    def to_json(self) -> dict[str, Any]:
        """The record in the form that is promised."""
        return {
            "schema": 1,
            "endpoints": dict(self.endpoints),
            "nodes": {name: dict(node) for name, node in self.nodes.items()},
            "processes": [{"name": p.name, "kind": p.kind, "pid": p.pid} for p in self.processes],
        }


def endpoints(home: Home, ports: Mapping[str, int]) -> dict[str, str]:
    """Everything that a client can use, ready to use, passwords included."""
    flower = quote(read(home.secret("flower")), safe="")
    return {
        "pg_write": _dsn(home, ports["pg_write"]),
        "pg_read": _dsn(home, ports["pg_read"]),
        "web": f"http://{LOOPBACK}:{ports['web']}/",
        "flower": f"http://{FLOWER_USER}:{flower}@{LOOPBACK}:{ports['flower']}/",
        "metrics": f"http://{LOOPBACK}:{ports['metrics']}/metrics",
        "balancer": f"http://{LOOPBACK}:{ports['stats']}/",
        "broker": _broker(home, ports["broker"], CONTROL_USER, "broker"),
        "broker_requests": _broker(home, ports["broker"], REQUEST_USER, "broker-request"),
        "cache": f"redis://{LOOPBACK}:{ports['cache']}/0",
    }


def nodes(home: Home, ports: Mapping[str, int], agents: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Each PostgreSQL node with its own address. ``agents``: process name -> pid of those that run."""
    return {
        name: {
            "dsn": _dsn(home, ports[name]),
            "data_dir": str(home.data_dir(name)),
            "agent_pid": agents.get(agent_of(name)),
        }
        for name in nodes_of(ports)
    }


def unsupervised(home: Home) -> tuple[Running, ...]:
    """What the agents started and what runs now: postmasters and units."""
    found = [(node, "postgres", postmaster_pid(home, node)) for node in nodes_at(home)]
    found += [(unit, "web", _unit_pid(home, unit)) for unit in WEB]
    return tuple(Running(name=name, kind=kind, pid=pid) for name, kind, pid in found if pid is not None)


def _unit_pid(home: Home, unit: str) -> int | None:
    """By the unit's own pid file; a pid that was used again is none."""
    try:
        pid = int((home.run / f"{unit}.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if unit.encode() in words else None


def write(home: Home, state: State) -> None:
    """Replaces the record in one move, mode 0600."""
    write_private(home.state, json.dumps(state.to_json(), indent=1) + "\n")


def load(home: Home) -> State:
    """The record of the running stack. Raises Unreachable when none runs."""
    try:
        found = json.loads(home.state.read_text())
    except FileNotFoundError as error:
        raise Unreachable(
            f"no stack runs on {home.root}: start one with `ha-tasks demo --home '{home.root}'`"
        ) from error
    return State(
        endpoints=found["endpoints"],
        nodes=found["nodes"],
        processes=tuple(Running(**process) for process in found["processes"]),
    )


def _broker(home: Home, port: int, user: str, secret: str) -> str:
    return f"redis://{user}:{quote(read(home.secret(secret)), safe='')}@{LOOPBACK}:{port}/0"


def _dsn(home: Home, port: int) -> str:
    password = quote(read(home.secret("pg-app")), safe="")
    return f"postgresql://{APP_ROLE}:{password}@{LOOPBACK}:{port}/{DATABASE}?connect_timeout=2"
