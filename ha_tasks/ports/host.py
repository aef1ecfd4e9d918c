"""The host agent: what must happen on a database or service host.

Every command carries an epoch and a fence; the agent keeps the highest pair it has seen on its own
disk and refuses a lower one (AgentRefused). Every verb is idempotent. Raises AgentUnreachable
(retryable) when the agent does not answer within ``timeout_s``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ha_tasks.model.cluster import Revoked
from ha_tasks.model.plain import Json
from ha_tasks.model.self_fence import Standing


class Postmaster(StrEnum):
    """What the agent knows of its PostgreSQL. EXITED: it ran under this agent's watch and is gone."""

    RUNNING = "running"
    EXITED = "exited"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """In whose name a command is given; compared as (epoch, fence)."""

    epoch: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """The agent's answer about its node. ``job`` is the state of the last long job, {} when none."""

    node: str
    postmaster: Postmaster
    in_recovery: bool | None
    epoch: int
    promotion_begun: int | None
    """Epoch in which a promotion was begun since the node last followed another; None: none."""
    upstream: str | None
    """Node it is told to follow; None: nobody (revoked, or primary)."""
    job: Json
    timeline: int | None = None
    """Of its newest WAL; of a stopped node the highest that its disk knows; None: not to be had."""
    lsn: int | None = None
    """End of its WAL in bytes: flushed on a primary, received or replayed on a standby."""
    receiving: bool | None = None
    """On a standby: its upstream was heard within the last 2 s."""
    fence: int = 0
    """Of the highest (epoch, fence) that the agent has obeyed; 0 also from an agent that does not tell."""
    history: tuple[tuple[int, int], ...] | None = None
    """Where the timelines before ``timeline`` were left, oldest first: (timeline, LSN in bytes). None: not to
    be had."""
    binary: str = ""
    """Version of the server program on its disk, like ``15.13``; empty when it is not to be had."""
    stopped: str = ""
    """Which of its processes the operating system shows as stopped (SIGSTOP): ``the postmaster``, ``every
    process``, or none of these."""
    unanswered_s: float | None = None
    """How long ago the agent itself was last answered by a new session (an error text is an answer); None
    while PostgreSQL does not run, or nobody has asked yet."""
    self_fenced: str = ""
    """Why the agent has ended its primary by itself; empty since PostgreSQL was started again."""
    store_heard_s: float | None = None
    """How long ago a controller that reads the store last spoke to it; None: never since its start."""
    clock: float | None = None
    """The wall clock of its host, seconds since 1970; None from an agent that does not tell."""
    left: str | None = None
    """Node that it followed before it was told to follow nobody."""
    timeline_on_disk: int | None = None
    """The highest timeline of which its disk speaks, running or not; None: not to be had."""


class DatabaseAgent(Protocol):
    """The agent of one PostgreSQL node; ``node`` arguments are instance names."""

    def status(self, node: str, *, timeout_s: float = 0.5) -> NodeStatus:
        """Reads only."""
        ...

    def await_exit(self, node: str, *, within_s: int = 5) -> Postmaster:
        """Answers as soon as the postmaster does not run, otherwise after ``within_s``. Reads only.

        AgentUnreachable at once when the agent itself goes away meanwhile.
        """
        ...

    def tell(self, node: str, standing: Standing, *, timeout_s: float = 0.5) -> None:
        """What the store says now. Nothing is commanded; by its absence the agent knows that nobody leads."""
        ...

    def fence(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        """SIGKILL for every process of the data directory; returns when none is left."""
        ...

    def revoke(self, node: str, by: Authority, *, timeout_s: float = 5.0) -> Revoked:
        """Stops receiving and confirms that no receiver is left; answers how far its WAL goes.

        A node that this agent promoted answers too: it receives nothing either.
        """
        ...

    def follow(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        """Points a running standby to ``upstream``. Refused on a node that has begun a promotion."""
        ...

    def promote(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> int:
        """Marks its disk, sets ``synchronous_standby_names``, promotes; answers the new timeline."""
        ...

    def set_sync(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        """Sets ``synchronous_standby_names`` on a primary and reloads."""
        ...

    def start_primary(self, node: str, sync_setting: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        """Starts it as the primary that SQL says it is; without effect when it runs as primary."""
        ...

    def start_standby(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 30.0) -> None:
        """Starts it with standby.signal, following ``upstream``; without effect when it does so already."""
        ...

    def stop(self, node: str, by: Authority, *, timeout_s: float = 15.0) -> Revoked:
        """Shuts a primary down cleanly, which sends its standbys all it has; answers where the last record,
        the shutdown checkpoint, begins. Whoever has received more than that has everything.

        PassingFailure when it has not ended in time; ``start_primary`` ends what is left and starts it again.
        """
        ...

    def demote(self, node: str, upstream: str, by: Authority, *, timeout_s: float = 15.0) -> None:
        """Starts a cleanly stopped primary as a standby of ``upstream``; returns when it streams.

        Refused, and nothing is done, when ``upstream`` does not have all of it: then it can only rejoin.
        """
        ...

    def restart_standby(self, node: str, key: str, by: Authority, *, timeout_s: float = 60.0) -> None:
        """Restarts a running standby, once per ``key``; returns when it takes sessions again."""
        ...

    def drop_slot(self, node: str, slot: str, by: Authority, *, timeout_s: float = 5.0) -> None:
        """Drops a physical slot that a former node left on this one; without effect when it is gone.

        Refused for a slot of a peer, one that is read, and one that is not named as ours are.
        """
        ...

    def rejoin(self, node: str, upstream: str, by: Authority, job: str, *, timeout_s: float = 120.0) -> Json:
        """Brings the node back behind ``upstream``: plain start, pg_rewind, or a new base backup.

        Fences first, keeps diverged WAL aside. The job runs on the host under the id ``job``; the same
        id asks for the same job. Answers ``{"method": "start"|"rewind"|"basebackup", "kept": path|""}``.
        """
        ...


class UnitAgent(Protocol):
    """The agent of a service host: units are what systemd, or the embedded stack, runs there."""

    def restart_unit(self, host: str, unit: str, key: str, *, fence: int, timeout_s: float = 15.0) -> Json:
        """Restarts a unit, once per ``key``: the same key again only reports. Answers {"pid": int}.

        StaleAuthority when the agent has restarted that unit under a higher fence.
        """
        ...

    def unit_status(self, host: str, unit: str, *, timeout_s: float = 1.0) -> Json:
        """``{"running": bool, "pid": int|None, "starts": int, "fence": int}``; the highest fence seen."""
        ...


class FileAgent(Protocol):
    """The agent of a service host: its versioned files, which are configuration files and links to releases.

    ``file`` names one of the agent's own configuration; no path and no content is ever sent or answered.
    """

    def file_status(self, host: str, file: str, *, timeout_s: float = 5.0) -> Json:
        """``{"digest", "staged", "loaded": str|None, "untold": bool, "fence": int}``. Reads only.

        SHA-256 of what is there, of what waits beside it, of what this agent has put there and told to who
        reads it (None: nothing); ``untold``: that was begun and did not end; the highest fence seen.
        """
        ...

    def keep_file(self, host: str, file: str, *, staged: bool = False, timeout_s: float = 5.0) -> Json:
        """Keeps on the host what the file holds, or what waits beside it: ``{"digest": str}``. Idempotent.

        ActionFailed when nothing is there. What is served is not touched, so it bears no fence.
        """
        ...

    def put_file(
        self, host: str, file: str, digest: str, key: str, *, fence: int, timeout_s: float = 30.0
    ) -> Json:
        """Has the file hold a kept content, in one act, and tells who reads it. Idempotent.

        ActionFailed when it is not kept there, when its check refuses it (nothing is changed then), or when
        its reload fails. StaleAuthority when the file has seen a higher fence.
        """
        ...
