"""The audit chain on all stores: what it answers, that it is one chain, that tampering is found."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier as ProcessBarrier

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from ha_tasks.embedded.founding import PRIVILEGES, statements
from ha_tasks.model.audit import GENESIS, AuditEntry, AuditHead, Verification, entry_after, verified
from ha_tasks.model.deeds import Deed
from ha_tasks.ports.audit import Audit
from ha_tasks.store import Store
from ha_tasks.store.audit import record
from ha_tasks.store.engine import Database
from ha_tasks.store.migration import migrate
from tests.contract.conftest import AnyStore
from tests.plans import NOW, at
from tests.servers import PostgresServer

ROWS = 6


def fill(audit: Audit, count: int = ROWS) -> None:
    """Entries of one person, a second apart."""
    for n in range(1, count + 1):
        audit.append(
            actor="ann@ops",
            verb="switch.engaged" if n % 2 else "switch.released",
            object=f"switch {n}",
            now=at(n),
            before={"engaged": n % 2 == 0},
            after={"engaged": n % 2 == 1, "reason": f"try {n}"},
        )


def look(audit: Audit, witnessed: Mapping[int, str] | None = None) -> Verification:
    """The chain as it is judged."""
    with audit.chain() as chain:
        return verified(chain.entries, chain.head, witnessed)


def test_an_empty_chain_has_the_head_zero_and_is_whole(store: AnyStore):
    assert store.audit.head() == AuditHead(seq=0, hash=GENESIS)
    assert look(store.audit).ok


def test_entries_are_bound_to_each_other_and_come_back_as_they_were_hashed(store: AnyStore):
    fill(store.audit)

    first, second, *_ = told = store.audit.after(0, 100)
    assert [entry.seq for entry in told] == list(range(1, ROWS + 1))
    assert (first.prev_hash, second.prev_hash) == (GENESIS, first.hash)
    assert first.at == at(1)
    assert first.after == {"engaged": True, "reason": "try 1"}
    assert store.audit.head() == AuditHead(seq=ROWS, hash=told[-1].hash)
    assert look(store.audit) == Verification(
        entries=ROWS, head=AuditHead(seq=ROWS, hash=told[-1].hash), witnessed=0, broken=None
    )


def test_what_a_database_would_change_is_changed_before_it_is_hashed(store: AnyStore):
    odd = {
        "tuple": (1, 2),
        "text": "nul\0 half \ud800 \N{SNOWMAN}",
        "number": 0.1,
        "none": None,
        "deep": {"b": 1, "a": [2]},
    }

    store.audit.append(actor="a\0b", verb="x.y", object="\ud800", now=NOW, before=odd, after=None)

    (entry,) = store.audit.after(0, 10)
    assert entry.actor == "a\N{REPLACEMENT CHARACTER}b"
    assert look(store.audit).ok


def test_after_answers_at_most_so_many_oldest_first(store: AnyStore):
    fill(store.audit)

    assert [entry.seq for entry in store.audit.after(2, 3)] == [3, 4, 5]
    assert store.audit.after(ROWS, 3) == ()


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ({}, [6, 5, 4, 3, 2, 1]),
        ({"limit": 2}, [6, 5]),
        ({"since": at(5)}, [6, 5]),
        ({"object": "switch 3"}, [3]),
        ({"verb": "switch.released"}, [6, 4, 2]),
        ({"verb": "switch"}, [6, 5, 4, 3, 2, 1]),
        ({"verb": "swi"}, []),
        ({"verb": "s%"}, []),
    ],
)
def test_the_latest_can_be_picked_by_moment_object_and_verb(
    store: AnyStore, asked: Mapping[str, object], answered: list[int]
):
    fill(store.audit)

    assert [entry.seq for entry in store.audit.latest(**asked)] == answered  # type: ignore[arg-type]


def fall_over(database: Database) -> None:
    """A transaction that tells of what it does not do."""
    with database.writing() as connection:
        record(connection, NOW, Deed(actor="a", verb="x.y", object="z"))
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_entry_goes_with_its_transaction(kind: str, request: pytest.FixtureRequest):
    store: Store = request.getfixturevalue(f"{kind}_store")
    fill(store.audit, 1)

    with pytest.raises(ZeroDivisionError):
        fall_over(store._database)

    assert store.audit.head().seq == 1
    fill(store.audit, 1)
    assert look(store.audit).ok


def test_threads_that_append_at_once_make_one_chain_without_gaps(store: AnyStore):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: fill(store.audit, 10), range(4)))

    assert store.audit.head().seq == 40
    assert look(store.audit).ok


def _append(url: str, barrier: ProcessBarrier) -> None:
    store = Store(url)
    barrier.wait(timeout=20)
    fill(store.audit, 25)
    store.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_that_append_at_once_make_one_chain_without_gaps(kind: str, request: pytest.FixtureRequest):
    store: Store = request.getfixturevalue(f"{kind}_store")
    url: str = request.getfixturevalue(f"{kind}_url")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_append, args=(url, barrier)) for _ in range(3)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)

    assert [process.exitcode for process in processes] == [0] * 3
    assert store.audit.head().seq == 75
    assert look(store.audit).ok


def changed(sql: str) -> Callable[[Database], None]:
    """A tampering that is one statement, or several."""

    def tamper(database: Database) -> None:
        with database.writing() as connection:
            for statement in sql.split(";"):
                connection.execute(text(statement))

    return tamper


def rewritten(database: Database, entries: list[AuditEntry]) -> None:
    """Writes the whole chain anew, every hash and the head right."""
    changed("DELETE FROM audit_entry; DELETE FROM audit_head")(database)
    with database.writing() as connection:
        for e in entries:
            deed = Deed(actor=e.actor, verb=e.verb, object=e.object, before=e.before, after=e.after)
            record(connection, e.at, deed)


COPY = (
    "INSERT INTO audit_entry (seq, at, actor, verb, object, before, after, prev_hash, hash)"
    " SELECT {}, at, actor, verb, object, before, after, {} FROM audit_entry WHERE seq = {}"
)
TAMPERINGS = {
    "a field is changed": (changed("UPDATE audit_entry SET actor = 'eve' WHERE seq = 3"), 3, "a field of it"),
    "a moment is changed": (changed("UPDATE audit_entry SET at = at + 1 WHERE seq = 2"), 2, "a field of it"),
    "a hash is changed": (
        changed("UPDATE audit_entry SET hash = prev_hash WHERE seq = 4"),
        4,
        "a field of it",
    ),
    "an entry is deleted": (
        changed("DELETE FROM audit_entry WHERE seq = 3"),
        3,
        "is missing; the next one is 4",
    ),
    "the first entries are deleted": (
        changed("DELETE FROM audit_entry WHERE seq < 3"),
        1,
        "is missing; the next one is 3",
    ),
    "the newest entries are deleted": (
        changed("DELETE FROM audit_entry WHERE seq > 4"),
        4,
        "the head is entry 6",
    ),
    "two entries are exchanged": (
        changed(
            "UPDATE audit_entry SET seq = -2 WHERE seq = 2; UPDATE audit_entry SET seq = 2 WHERE seq = 3;"
            "UPDATE audit_entry SET seq = 3 WHERE seq = -2"
        ),
        2,
        "not bound to",
    ),
    "an entry is added at the end": (
        changed(COPY.format("7", "hash, hash", "6")),
        7,
        "a field of it",
    ),
    "an entry is added at the beginning": (
        changed(COPY.format("0", "prev_hash, hash", "1")),
        1,
        "the next one is 0",
    ),
    "the head's hash is changed": (changed("UPDATE audit_head SET hash = 'f'"), 6, "another hash"),
    "the head is set back": (changed("UPDATE audit_head SET seq = 2"), 6, "the head is entry 2"),
    "the head is deleted": (changed("DELETE FROM audit_head"), 6, "the head is entry 0"),
}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("how", TAMPERINGS)
def test_tampering_is_found_by_the_chain_itself(how: str, kind: str, request: pytest.FixtureRequest):
    store: Store = request.getfixturevalue(f"{kind}_store")
    fill(store.audit)
    tamper, seq, problem = TAMPERINGS[how]

    tamper(store._database)

    broken = look(store.audit).broken
    assert broken is not None
    assert broken.seq == seq
    assert problem in broken.problem


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    ("kept", "seq", "problem"),
    [(ROWS, 3, "rewritten"), (2, 3, "is missing")],
    ids=["rewritten with right hashes", "cut with a right head"],
)
def test_a_chain_that_is_right_in_itself_but_another_is_found_by_a_head_from_elsewhere(
    kept: int, seq: int, problem: str, kind: str, request: pytest.FixtureRequest
):
    store: Store = request.getfixturevalue(f"{kind}_store")
    fill(store.audit)
    entries = list(store.audit.after(0, 100))
    witnessed = {entry.seq: entry.hash for entry in entries if entry.seq in (1, 3, 6)}
    assert look(store.audit, witnessed).witnessed == 3
    changed_third = [*entries[:2], _as_by(entries[2], "eve"), *entries[3:]][:kept]

    rewritten(store._database, changed_third)

    assert look(store.audit).ok
    broken = look(store.audit, witnessed).broken
    assert broken is not None
    assert broken.seq == seq
    assert problem in broken.problem


def _as_by(entry: AuditEntry, actor: str) -> AuditEntry:
    return entry_after(AuditHead(), at=entry.at, actor=actor, verb=entry.verb, object=entry.object)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_head_that_was_set_back_does_not_keep_anything_from_being_written_down(
    kind: str, request: pytest.FixtureRequest
):
    store: Store = request.getfixturevalue(f"{kind}_store")
    fill(store.audit)
    changed("UPDATE audit_head SET seq = 2")(store._database)

    fill(store.audit, 1)

    assert store.audit.after(ROWS, 10)[0].seq == ROWS + 1


def test_the_role_of_the_control_plane_can_append_to_the_chain_and_change_nothing_of_it(
    postgres_server: PostgresServer,
):
    url = postgres_server.create_database("audit_roles")
    for statement in statements(PRIVILEGES / "store-roles.sql"):
        postgres_server.execute(statement, "audit_roles")
    migrate(make_url(url).set(username="ha_owner"))
    for statement in statements(PRIVILEGES / "store-roles.sql"):
        postgres_server.execute(statement, "audit_roles")
    store = Store(make_url(url).set(username="ha_tasks"))

    fill(store.audit)

    assert look(store.audit).ok
    for statement in (
        "UPDATE audit_entry SET actor = 'eve'",
        "DELETE FROM audit_entry",
        "TRUNCATE audit_entry",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            changed(statement)(store._database)
    store.dispose()
