"""Whether a node's data and its upstream's come from the same history, and where they part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.model.cluster import parse_lsn
from workers.agent.instance import Position
from workers.agent.timelines import Fork, Stretch, fork_of, parse_history
from workers.agent.upstream import Upstream, names_holding

_COMPARED_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFile:
    """What pg_controldata says of a stopped node."""

    system_identifier: str
    timeline: int
    segment_bytes: int
    shut_down: bool = False
    """It was stopped as a primary, and nothing of its WAL comes behind its last checkpoint."""
    checkpoint: int = 0
    """Where the record of its latest checkpoint begins, in bytes."""


def parse_control(text: str) -> ControlFile:
    """The output of pg_controldata (LC_ALL=C); KeyError when a line is missing.

    The timeline is the higher of two: before its first checkpoint, a node that was promoted and crashed
    has its new timeline only as the one where recovery ended.
    """
    values = {k.strip(): v.strip() for k, sign, v in (li.partition(":") for li in text.splitlines()) if sign}
    timelines = (values["Latest checkpoint's TimeLineID"], values["Min recovery ending loc's timeline"])
    return ControlFile(
        system_identifier=values["Database system identifier"],
        timeline=max(map(int, timelines)),
        segment_bytes=int(re.sub(r"\D", "", values["Bytes per WAL segment"])),
        shut_down=values["Database cluster state"] == "shut down",
        checkpoint=parse_lsn(values["Latest checkpoint location"]),
    )


class Kinship:
    """Compares PGDATA with its upstream: histories by their words, then WAL by its bytes.

    The bytes decide: two timelines of one number, made by two promotions that knew nothing of each other,
    have the same words. WAL that the upstream no longer has counts as different: without it this node
    could not follow anyway.
    """

    def __init__(self, data_dir: Path, control: ControlFile, upstream: Upstream) -> None:
        self._wal = data_dir / "pg_wal"
        self._control = control
        self._upstream = upstream

    def continues_at(self, at: Position) -> bool:
        """True when the upstream's WAL goes on where a standby's ends."""
        fork = self._fork_from(at.timeline)
        if fork is None or fork.timeline != at.timeline:
            return False
        end = self._upstream.seen().at.lsn if fork.lsn is None else fork.lsn
        return at.lsn <= end and self._same_before(at.timeline, at.lsn)

    def holds(self, record: Position) -> bool:
        """True when the upstream's history has the last record of a stopped node, which begins there.

        A history is left only between two records, so one that goes on behind its beginning has all of it.
        """
        fork = self._fork_from(record.timeline)
        if fork is None or fork.timeline != record.timeline:
            return False
        end = self._upstream.seen().at.lsn if fork.lsn is None else fork.lsn
        return end > record.lsn and self._same_before(record.timeline, record.lsn)

    def fork(self) -> Fork | None:
        """Where a stopped node left the upstream's history; None when pg_rewind would not do.

        It compares the numbers of the two newest timelines: equal ones are "the same" to it, whatever
        their content, and the node would go on with its own.
        """
        fork = self._fork_from(self._control.timeline)
        if fork is None or fork.lsn is None or self._control.timeline == self._upstream.seen().at.timeline:
            return None
        return fork if self._same_before(fork.timeline, fork.lsn) else None

    def _fork_from(self, timeline: int) -> Fork | None:
        ours = self._history(timeline)
        same_cluster = self._control.system_identifier == self._upstream.system_identifier()
        return fork_of(ours, self._upstream.history()) if ours and same_cluster else None

    def _history(self, timeline: int) -> tuple[Stretch, ...]:
        """Empty when the file of a timeline that must have one is missing."""
        path = self._wal / f"{timeline:08X}.history"
        if timeline > 1 and not path.exists():
            return ()
        return parse_history(path.read_text() if timeline > 1 else "", timeline)

    def _same_before(self, timeline: int, lsn: int) -> bool:
        """True when both have the same bytes just before ``lsn``."""
        size = self._control.segment_bytes
        segment = (lsn - 1) // size
        begin = max(segment * size, lsn - _COMPARED_BYTES)
        offset, length = begin - segment * size, lsn - begin
        where = {"timeline": timeline, "segment": segment, "segment_bytes": size}
        ours = names_holding([p.name for p in self._wal.iterdir()], **where)
        theirs = names_holding(self._upstream.wal_names(), **where)
        if not ours or not theirs:
            return False
        with (self._wal / ours[0]).open("rb") as file:
            file.seek(offset)
            mine = file.read(length)
        other = self._upstream.wal_bytes(theirs[0], offset=offset, length=length)
        return mine == other and len(mine) == length
