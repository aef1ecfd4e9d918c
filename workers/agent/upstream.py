"""The node that another is to stand behind, asked by SQL in the agent's role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.errors import PassingFailure
from ha_tasks.model.replication_slots import slot_name
from workers.agent.instance import Instance, Seen
from workers.agent.timelines import Stretch, parse_history, segment_of
from workers.agent.warrant import Warrant

_CHECKPOINT_S = 120.0
_OUR_SLOT = "SELECT active, wal_status FROM pg_replication_slots WHERE slot_name = $1"
_END_OURS = """
SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots
WHERE slot_name = $1 AND active_pid IS NOT NULL
"""
_SIZES = """
SELECT pg_tablespace_location(oid), pg_tablespace_size(oid) FROM pg_tablespace
UNION ALL SELECT 'pg_wal', sum(size) FROM pg_ls_waldir()
"""
_BACKUP = """
SELECT backup_streamed, backup_total FROM pg_stat_progress_basebackup p
JOIN pg_stat_activity a USING (pid) WHERE a.application_name = $1
"""
_SIZES_S = 30.0
"""To count the files of a large cluster takes its time."""
_READ = "SELECT encode(pg_read_binary_file('pg_wal/' || $1, $2::bigint, $3::bigint, true), 'hex')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Bytes on a node's disk. ``tablespaces``: those that are elsewhere, by where they are."""

    data: int
    wal: int
    tablespaces: Mapping[Path, int]


class Upstream:
    """What a rejoining node needs of it. Raises ServiceUnreachable when it does not answer."""

    def __init__(self, instance: Instance, name: str) -> None:
        self.name = name
        self._sql = instance.peer_sql(name)
        self._slot = slot_name(instance.config.node)
        self._backup_name = instance.backup_name

    def prepare(self, warrant: Warrant) -> None:
        """Makes it fit to be followed by a node that does not run now. Idempotent.

        A checkpoint, because before the first one of a new primary its control file names the old
        timeline and pg_rewind finds nothing to do. Our old WAL sender is ended: while it lingers, this
        node would count twice in a synchronous set. The slot is there and not lost.
        """
        self._must_be_primary()
        self._sql.rows("CHECKPOINT", timeout_s=min(_CHECKPOINT_S, warrant.left_s()))
        self.free_slot(warrant)

    def free_slot(self, warrant: Warrant) -> None:
        """This node's slot is there, not lost, and nobody streams through it. Idempotent."""
        self._must_be_primary()
        warrant.wait_until(self._slot_is_free, f"{self.name} ends the old WAL sender", every_s=0.05)

    def seen(self) -> Seen:
        """Role and position."""
        return Instance.seen_through(self._sql)

    def system_identifier(self) -> str:
        """Which cluster it belongs to."""
        return str(self._sql.value("SELECT system_identifier FROM pg_control_system()"))

    def sizes(self) -> Sizes:
        """How much a copy of it takes."""
        found = [(place or "", int(size or 0)) for place, size in self._sql.rows(_SIZES, timeout_s=_SIZES_S)]
        elsewhere = {Path(place): size for place, size in found if place.startswith("/")}
        wal = sum(size for place, size in found if place == "pg_wal")
        return Sizes(
            data=sum(size for _, size in found) - wal - sum(elsewhere.values()),
            wal=wal,
            tablespaces=elsewhere,
        )

    def backup_progress(self) -> tuple[int | None, int | None]:
        """(bytes sent, bytes in all) of this node's base backup; None: not begun, or not known."""
        for sent, whole in self._sql.rows(_BACKUP, self._backup_name, timeout_s=1.0):
            return (None if sent is None else int(sent)), (None if whole is None else int(whole))
        return None, None

    def history(self) -> tuple[Stretch, ...]:
        """Of its current timeline, oldest first."""
        timeline = self.seen().at.timeline
        name = f"pg_wal/{timeline:08X}.history"
        return parse_history(
            self._sql.value("SELECT pg_read_file($1, 0, 1000000, true)", name) or "", timeline
        )

    def wal_names(self) -> list[str]:
        """Names of its WAL segments."""
        return [str(name) for (name,) in self._sql.rows("SELECT name FROM pg_ls_waldir()")]

    def wal_bytes(self, name: str, *, offset: int, length: int) -> bytes | None:
        """Bytes of one of its WAL segments; None when it is gone."""
        text = self._sql.value(_READ, name, str(offset), str(length), timeout_s=5.0)
        return None if text is None else bytes.fromhex(text)

    def _must_be_primary(self) -> None:
        if self.seen().in_recovery:
            raise PassingFailure(f"{self.name} is no primary")

    def _slot_is_free(self) -> bool:
        rows = self._sql.rows(_OUR_SLOT, self._slot)
        if rows and rows[0][0] == "t":
            self._sql.rows(_END_OURS, self._slot)
            return False
        if rows and rows[0][1] == "lost":
            self._sql.rows("SELECT pg_drop_replication_slot($1)", self._slot)
            rows = []
        if not rows:
            self._sql.rows("SELECT 1 FROM pg_create_physical_replication_slot($1)", self._slot)
        return True


def names_holding(names: list[str], *, timeline: int, segment: int, segment_bytes: int) -> list[str]:
    """The files that hold ``segment`` as ``timeline`` wrote it, the timeline's own first.

    A later timeline's first segment is a copy of its parent's up to the fork.
    """
    places = {name: segment_of(name, segment_bytes) for name in names}
    found = [(place[0], name) for name, place in places.items() if place and place[1] == segment]
    return [name for number, name in sorted(found) if number >= timeline]
