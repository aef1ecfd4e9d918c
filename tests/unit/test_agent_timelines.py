"""Timelines, kinship and the evidence that a rewind would remove."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from workers.agent.evidence import keep_diverged_wal
from workers.agent.instance import Position, Seen
from workers.agent.kinship import ControlFile, Kinship, parse_control
from workers.agent.timelines import (
    Fork,
    Stretch,
    fork_of,
    highest_timeline,
    parse_history,
    segment_name,
    segment_of,
    timeline_holding,
)

SIZE = 16 * 1024 * 1024
FIRST = "1\t0/3000000\tno recovery target specified\n"


def stretches(*parts: tuple[int, int, int | None]) -> tuple[Stretch, ...]:
    return tuple(Stretch(timeline=t, begin=b, end=e) for t, b, e in parts)


@pytest.mark.parametrize(
    ("text", "timeline", "expected"),
    [
        ("", 1, stretches((1, 0, None))),
        (FIRST, 2, stretches((1, 0, 0x3000000), (2, 0x3000000, None))),
        (
            FIRST + "# a comment\n\n2\t1/0\tx y z\n",
            3,
            stretches((1, 0, 0x3000000), (2, 0x3000000, 1 << 32), (3, 1 << 32, None)),
        ),
    ],
)
def test_a_history_is_read_as_stretches(text, timeline, expected):
    assert parse_history(text, timeline) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "fork"),
    [
        # an old primary behind a promoted standby
        (stretches((1, 0, None)), stretches((1, 0, 50), (2, 50, None)), Fork(timeline=1, lsn=50)),
        # both on the same timeline, as far as words go
        (stretches((1, 0, None)), stretches((1, 0, None)), Fork(timeline=1, lsn=None)),
        # we went on to 2, they still write 1
        (stretches((1, 0, 50), (2, 50, None)), stretches((1, 0, None)), Fork(timeline=1, lsn=50)),
        # two promotions at different places, one number
        (
            stretches((1, 0, 50), (2, 50, None)),
            stretches((1, 0, 70), (2, 70, None)),
            Fork(timeline=1, lsn=50),
        ),
        # two promotions at the same place: words cannot tell them apart
        (
            stretches((1, 0, 50), (2, 50, None)),
            stretches((1, 0, 50), (2, 50, None)),
            Fork(timeline=2, lsn=None),
        ),
        # they skipped our number
        (
            stretches((1, 0, 50), (2, 50, None)),
            stretches((1, 0, 50), (3, 50, None)),
            Fork(timeline=1, lsn=50),
        ),
        (stretches((7, 0, None)), stretches((1, 0, None)), None),
    ],
)
def test_the_fork_is_where_the_first_of_two_histories_leaves_the_common_timeline(ours, theirs, fork):
    assert fork_of(ours, theirs) == fork


@pytest.mark.parametrize(
    ("timeline", "segment", "size", "name"),
    [
        (1, 3, SIZE, "000000010000000000000003"),
        (10, 256, SIZE, "0000000A0000000100000000"),
        (1, 4096, 1024 * 1024, "000000010000000100000000"),
    ],
)
def test_segments_are_named_as_postgres_names_them(timeline, segment, size, name):
    assert segment_name(timeline, segment, size) == name
    assert segment_of(name, size) == (timeline, segment)
    assert segment_of(f"{name}.partial", size) == (timeline, segment)


def test_names_in_pg_wal_tell_timelines():
    names = ["000000010000000000000003", "000000020000000000000003", "00000005.history", "archive_status"]

    assert highest_timeline(names) == 5
    assert highest_timeline([]) is None
    assert timeline_holding(names, 3 * SIZE + 1, SIZE) == 2
    assert timeline_holding(names, 3 * SIZE, SIZE) is None


def test_the_control_file_gives_the_higher_of_two_timelines():
    """Before its first checkpoint a promoted node has its new timeline only as recovery's end."""
    text = (
        "Database system identifier:           7001\n"
        "Database cluster state:               in production\n"
        "Latest checkpoint location:           0/3000148\n"
        "Latest checkpoint's TimeLineID:       1\n"
        "Latest checkpoint's PrevTimeLineID:   1\n"
        "Min recovery ending loc's timeline:   2\n"
        "Bytes per WAL segment:                16777216\n"
    )

    crashed = ControlFile(system_identifier="7001", timeline=2, segment_bytes=SIZE, checkpoint=0x3000148)
    assert parse_control(text) == crashed
    assert parse_control(text.replace("in production", "shut down")) == replace(crashed, shut_down=True)
    assert not parse_control(text.replace("in production", "shut down in recovery")).shut_down


class Peer:
    """An upstream whose WAL is in a dictionary."""

    def __init__(self, history: tuple[Stretch, ...], files: dict[str, bytes], lsn: int = SIZE * 9) -> None:
        self._history = history
        self._files = files
        self._lsn = lsn

    def system_identifier(self) -> str:
        return "7001"

    def history(self) -> tuple[Stretch, ...]:
        return self._history

    def seen(self) -> Seen:
        at = Position(timeline=self._history[-1].timeline, lsn=self._lsn)
        return Seen(in_recovery=False, at=at, receiving=False)

    def wal_names(self) -> list[str]:
        return list(self._files)

    def wal_bytes(self, name: str, *, offset: int, length: int) -> bytes | None:
        return self._files[name][offset : offset + length]


def kinship(data: Path, files: dict[str, bytes], history: dict[int, str], peer: Peer) -> Kinship:
    wal = data / "pg_wal"
    wal.mkdir(parents=True)
    for name, content in files.items():
        (wal / name).write_bytes(content)
    for timeline, text in history.items():
        (wal / f"{timeline:08X}.history").write_text(text)
    control = ControlFile(system_identifier="7001", timeline=max([1, *history]), segment_bytes=1024)
    return Kinship(data, control, peer)


OLD = b"a" * 600 + b"old" + b"b" * 421
NEW = b"a" * 600 + b"new" + b"b" * 421


@pytest.mark.parametrize(
    ("ours", "theirs", "at", "continues"),
    [
        (OLD, NEW, 600, True),  # the same bytes up to there
        (OLD, NEW, 650, False),  # one number, other content
        (OLD, OLD, 650, True),
        (OLD, OLD, 701, False),  # beyond what the upstream has
    ],
)
def test_a_standby_may_follow_only_where_the_bytes_are_the_same(tmp_path, ours, theirs, at, continues):
    name = segment_name(1, 0, 1024)
    peer = Peer(stretches((1, 0, None)), {name: theirs}, lsn=700)

    kin = kinship(tmp_path, {name: ours}, {}, peer)

    assert kin.continues_at(Position(timeline=1, lsn=at)) is continues


@pytest.mark.parametrize(
    ("names", "theirs", "fork"),
    [
        ([segment_name(1, 0, 1024)], NEW, Fork(timeline=1, lsn=600)),
        ([segment_name(2, 0, 1024)], NEW, Fork(timeline=1, lsn=600)),  # the child's first segment is a copy
        ([segment_name(1, 0, 1024)], b"x" * 1024, None),  # not the same before the fork: another history
        ([], NEW, None),  # the upstream has it no longer
    ],
)
def test_a_fork_is_believed_only_when_the_bytes_before_it_agree(tmp_path, names, theirs, fork):
    peer = Peer(stretches((1, 0, 600), (2, 600, None)), dict.fromkeys(names, theirs))

    assert kinship(tmp_path, {segment_name(1, 0, 1024): OLD}, {}, peer).fork() == fork


def test_two_timelines_of_one_number_and_place_give_no_fork(tmp_path):
    history = "1\t0/258\tno recovery target specified\n"
    peer = Peer(parse_history(history, 2), {segment_name(2, 0, 1024): NEW})
    kin = kinship(tmp_path, {segment_name(2, 0, 1024): OLD}, {2: history}, peer)

    assert kin.fork() is None
    assert not kin.continues_at(Position(timeline=2, lsn=650))


def test_two_timelines_of_one_number_from_different_places_are_not_for_pg_rewind(tmp_path):
    """It says "no rewind required", and the node would stream on top of its own content, silently."""
    later = "1\t0/2BC\tno recovery target specified\n"
    peer = Peer(parse_history(later, 2), {segment_name(1, 0, 1024): OLD})
    ours = {segment_name(1, 0, 1024): OLD, segment_name(2, 0, 1024): OLD}
    kin = kinship(tmp_path, ours, {2: "1\t0/258\tno recovery target specified\n"}, peer)

    assert kin.fork() is None


def segment_file(directory: Path, name: str, begin: int) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(struct.pack("=HHIQ", 0xD118, 0, 1, begin) + b"\0" * 100)


def test_diverged_wal_is_kept_from_the_fork_on_without_recycled_segments(tmp_path):
    wal, kept = tmp_path / "pg_wal", tmp_path / "kept"
    for number, begin in {2: 2 * SIZE, 3: 3 * SIZE, 4: 4 * SIZE, 5: 1 * SIZE}.items():
        segment_file(wal, segment_name(1, number, SIZE), begin)
    (wal / "00000002.history").write_text(FIRST)

    target = keep_diverged_wal(wal, kept, fork=Fork(timeline=1, lsn=3 * SIZE + 10), segment_bytes=SIZE)

    names = {path.name for path in target.iterdir()} - {"divergence.json", "00000002.history"}
    assert names == {segment_name(1, 3, SIZE), segment_name(1, 4, SIZE)}
    assert json.loads((target / "divergence.json").read_text())["copied"] == 2


def test_only_the_newest_evidence_is_kept_and_a_cap_is_said(tmp_path):
    wal, kept = tmp_path / "pg_wal", tmp_path / "kept"
    for number in (3, 4, 5):
        segment_file(wal, segment_name(1, number, 1 << 29), number << 29)
    targets = [
        keep_diverged_wal(wal, kept, fork=Fork(timeline=1, lsn=3 << 29), segment_bytes=1 << 29)
        for _ in range(6)
    ]

    report = json.loads((targets[-1] / "divergence.json").read_text())
    assert (report["segments"], report["copied"]) == (3, 2)
    assert [target.exists() for target in targets] == [False, True, True, True, True, True]
