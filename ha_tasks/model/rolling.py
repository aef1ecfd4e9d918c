"""A rolling restart: which nodes need one, and in which order. Pure rules.

Standbys first, one at a time, then the primary by a switchover: it comes back as a standby, started anew. The
order is made anew from what is seen before each step, so the same order again goes on where it was left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ha_tasks.model.cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What a running server says of itself: its version, and the settings that wait for a restart."""

    version: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """``pending`` None: the server does not answer; ``on_disk``: its programs' version, empty: not known."""

    pending: Pending | None
    on_disk: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolling:
    """What is left: ``standbys`` to be restarted, in order; ``switch``: whether the primary needs it, too.

    ``why``: node -> reasons, of those that need it. ``trouble``: why it must not go on; empty: it may.
    """

    standbys: tuple[str, ...]
    switch: bool
    why: Mapping[str, tuple[str, ...]]
    trouble: tuple[str, ...] = ()

    @property
    def left(self) -> int:
        """How many steps."""
        return len(self.standbys) + self.switch


def rolling(
    cluster: Cluster,
    nodes: Mapping[str, NodeState],
    *,
    everyone: bool = False,
    done: Collection[str] = (),
) -> Rolling:
    """What a rolling restart has left to do. ``everyone``: also who does not need it, but for ``done``."""
    why: dict[str, tuple[str, ...]] = {}
    for name, state in nodes.items():
        found = reasons(state)
        if everyone and not found and name not in done:
            found = ("by order",)
        if found:
            why[name] = found
    members = {m for s in cluster.sets for m in s.members}
    # Who is not in the synchronous set first: where a setting does not let a server start, it shows there.
    standbys = sorted((n for n in why if n != cluster.primary), key=lambda n: (n in members, n))
    return Rolling(
        standbys=tuple(standbys),
        switch=cluster.primary in why,
        why=MappingProxyType(why),
        trouble=tuple(trouble for name, state in nodes.items() for trouble in _troubles(name, state)),
    )


def reasons(state: NodeState) -> tuple[str, ...]:
    """Why a node needs a restart; empty: it does not."""
    if state.pending is None:
        return ()
    found = [f"{name} waits for a restart" for name in state.pending.settings]
    if state.on_disk and state.on_disk != state.pending.version:
        found.append(f"runs {state.pending.version}, {state.on_disk} is on its disk")
    return tuple(found)


def _troubles(name: str, state: NodeState) -> tuple[str, ...]:
    if state.pending is None:
        return (f"{name} does not answer; bring it back first",)
    if state.on_disk and _major(state.on_disk) != _major(state.pending.version):
        return (
            f"{name} runs {state.pending.version}, and {state.on_disk} on its disk is another major version; "
            "that is pg_upgrade's business",
        )
    return ()


def _major(version: str) -> str:
    return version.partition(".")[0]
