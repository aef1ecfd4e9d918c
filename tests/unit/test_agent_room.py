"""Room for a base backup: what goes to one file system is summed up, and nothing begins that does not fit."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from workers.agent.room import FileSystem, Share, file_system_of, shortages

DATA, SPACE = Path("/data"), Path("/space")
GB = 1024**3


def on(free, *, numbers=None):
    return lambda path: FileSystem(number=(numbers or {}).get(path, 1), free=free)


def test_shares_of_one_file_system_must_fit_together():
    shares = [Share(path=DATA, size=3 * GB), Share(path=SPACE, size=2 * GB)]

    (short,) = shortages(shares, on=on(4 * GB))

    assert (short.path, short.needed, short.free, short.missing) == (DATA, 5 * GB, 4 * GB, GB)
    assert str(short) == ("needs 5,120 MB in /data, where 4,096 MB are free: 1,073,741,824 bytes are missing")


def test_each_file_system_is_judged_alone():
    shares = [Share(path=DATA, size=3 * GB), Share(path=SPACE, size=5 * GB)]

    (short,) = shortages(shares, on=on(4 * GB, numbers={SPACE: 2}))

    assert (short.path, short.missing) == (SPACE, GB)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=8), st.integers(0, 150))
def test_what_fits_is_let_through_and_nothing_else(sizes, free):
    shares = [Share(path=Path(f"/{place}"), size=size) for place, size in sizes]
    sums = {place: sum(size for p, size in sizes if p == place) for place, _ in sizes}

    found = shortages(shares, on=lambda path: FileSystem(number=int(path.name), free=free))

    assert {int(s.path.name): s.missing for s in found} == {
        place: need - free for place, need in sums.items() if need > free
    }


def test_a_directory_that_is_not_there_yet_is_on_its_parents_file_system(tmp_path):
    deep = file_system_of(tmp_path / "not" / "there" / "yet")

    assert deep.number == tmp_path.stat().st_dev
    assert deep.free > 0
