"""How many PostgreSQL nodes a stack has, and what they and their agents are called."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from ha_tasks.embedded.home import Home
from ha_tasks.errors import UsageError

DEFAULT_STANDBYS = 2
MOST_STANDBYS = 8
APP_HOST = "app"
"""The host of the web services."""
_NODE = re.compile(r"pg[0-9]+")


def node_names(standbys: int) -> tuple[str, ...]:
    """The first primary and its standbys. Raises UsageError for a number that the demo does not offer."""
    if not 1 <= standbys <= MOST_STANDBYS:
        raise UsageError(f"--standbys must be 1 to {MOST_STANDBYS}, not {standbys}")
    return tuple(f"pg{number}" for number in range(1, standbys + 2))


def agent_of(host: str) -> str:
    """The process that is the host's agent."""
    return f"agent-{host}"


def is_agent(process: str) -> bool:
    """True for the name of an agent's process."""
    return process.startswith("agent-")


def nodes_of(ports: Iterable[str]) -> tuple[str, ...]:
    """The nodes among the names of a stack's ports."""
    return tuple(name for name in ports if _NODE.fullmatch(name))


def hosts_of(ports: Iterable[str]) -> tuple[str, ...]:
    """Every host: one for each node, and that of the web services."""
    return (*nodes_of(ports), APP_HOST)


def nodes_at(home: Home) -> tuple[str, ...]:
    """The nodes of the stack that was started last on this home; the usual ones where none was."""
    return nodes_of(_ports(home)) or node_names(DEFAULT_STANDBYS)


def standbys_for(home: Home, wanted: int | None) -> int:
    """How many standbys a start has: as many as ``wanted``, or as it had before.

    Raises UsageError for another number than a cluster that stands there has.
    """
    before = len(nodes_at(home)) - 1
    if wanted is None or wanted == before:
        return before
    node_names(wanted)
    if any(home.data_dir(node).exists() for node in nodes_at(home)):
        raise UsageError(
            f"the cluster of {home.root} has {before} standbys, not {wanted}: start it without --standbys, "
            "or afresh with `ha-tasks demo --stop --purge`"
        )
    return wanted


def _ports(home: Home) -> Mapping[str, int]:
    try:
        found = json.loads(home.ports.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
