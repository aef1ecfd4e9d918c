"""What a PostgreSQL probe says of a primary, a standby, and of servers in trouble."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import psutil
import psycopg
import pytest
from psycopg import sql

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.postgres_probe import PostgresProber
from ha_tasks.errors import AgentRefused, AgentUnreachable
from ha_tasks.model.cluster import parse_lsn
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from ha_tasks.ports.host import DatabaseAgent, NodeStatus, Postmaster
from tests.postgres_pair import PASSWORD, USER, PostgresPair, password, running_pair
from tests.scripted_server import Script, scripted


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresPair]:
    with running_pair(tmp_path_factory.mktemp("pair")) as started:
        yield started


def prober(agents: DatabaseAgent | None = None) -> PostgresProber:
    return PostgresProber(password=password, agents=agents, vantage="h/p", clock=SYSTEM_CLOCK)


def look(pair: PostgresPair, *names: str, by: PostgresProber | None = None) -> list[ProbeOutcome]:
    service = pair.service
    return (by or prober()).probe(service, [service.instance(name) for name in names])


def process(pair: PostgresPair, node: str, title: str) -> psutil.Process:
    """A server process of a node by its title, for example ``walsender``."""
    server = pair.primary if node == "pg1" else pair.standby
    assert server._process is not None
    children = psutil.Process(server._process.pid).children()
    return next(child for child in children if title in " ".join(child.cmdline()))


@contextmanager
def frozen(*processes: psutil.Process) -> Iterator[None]:
    def send(number: signal.Signals) -> None:
        for each in processes:
            with suppress(ProcessLookupError):  # a background process may have ended by itself
                os.kill(each.pid, number)

    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)


def test_a_primary_and_its_standby_say_what_they_are(pair: PostgresPair) -> None:
    with psycopg.connect(pair.primary.dsn()) as connection:
        row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert row is not None
    primary, standby = look(pair, "pg1", "pg2")

    assert (primary.kind, standby.kind) == (OutcomeKind.OK, OutcomeKind.OK)
    assert primary.facts["in_recovery"] is False
    assert standby.facts["in_recovery"] is True
    assert (primary.facts["timeline"], standby.facts["timeline"]) == (1, 1)
    assert primary.facts["lsn"] >= parse_lsn(row[0])
    assert 0 < standby.facts["lsn"] <= primary.facts["lsn"] + 10_000
    assert (primary.facts["receiving"], standby.facts["receiving"]) == (False, True)


def test_a_commit_that_no_standby_acknowledges_is_named_and_the_probe_is_answered(pair: PostgresPair) -> None:
    before = look(pair, "pg1")[0].facts["waits"]
    pair.primary.execute("CREATE TABLE IF NOT EXISTS hangs (n int)")
    pair.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    pair.primary.execute("SELECT pg_reload_conf()")
    hanging = threading.Thread(target=pair.primary.execute, args=("INSERT INTO hangs VALUES (1)",))
    try:
        deadline = time.monotonic() + 5
        hanging.start()
        while not (first := look(pair, "pg1")[0]).facts["waits"]:
            assert time.monotonic() < deadline
        again = look(pair, "pg1")[0]
    finally:
        pair.primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
        pair.primary.execute("SELECT pg_reload_conf()")
        hanging.join(10)

    assert before == {}
    assert (first.kind, list(first.facts["waits"])) == (OutcomeKind.OK, ["sync"])
    assert again.facts["waits"] == first.facts["waits"]


def test_a_standby_that_has_heard_nothing_for_2_s_does_not_receive(pair: PostgresPair) -> None:
    with frozen(process(pair, "pg1", "walsender")):
        deadline = time.monotonic() + 4
        while look(pair, "pg2")[0].facts["receiving"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    pair.primary.execute("CHECKPOINT")
    pair.await_streaming()


def test_a_standby_without_a_receiver_does_not_receive_and_knows_its_timeline(pair: PostgresPair) -> None:
    with psycopg.connect(pair.standby.dsn(), autocommit=True) as connection:
        row = connection.execute("SHOW primary_conninfo").fetchone()
        assert row is not None
        connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
        connection.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 5
        while (outcome := look(pair, "pg2")[0]).facts["receiving"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        connection.execute(sql.SQL("ALTER SYSTEM SET primary_conninfo = {}").format(row[0]))
        connection.execute("SELECT pg_reload_conf()")
        pair.await_streaming()

    assert (outcome.kind, outcome.facts["timeline"]) == (OutcomeKind.OK, 1)
    assert outcome.facts["lsn"] > 0


def test_a_role_that_may_not_see_the_receiver_is_told_so(pair: PostgresPair) -> None:
    pair.primary.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    pair.primary.execute("GRANT CONNECT ON DATABASE app TO plain")
    service = pair.service
    assert service.postgres is not None
    service = replace(service, postgres=replace(service.postgres, user="plain"))
    by = PostgresProber(password=lambda _: "plain", agents=None, vantage="h/p", clock=SYSTEM_CLOCK)
    pair.await_streaming()
    deadline = time.monotonic() + 5
    while "pg_read_all_stats" not in (outcome := by.probe(service, [service.instance("pg2")])[0]).detail:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert outcome.kind is OutcomeKind.ERROR
    assert "receiving" not in outcome.facts


def test_a_wrong_password_is_an_answer_and_is_not_repeated(pair: PostgresPair) -> None:
    wrong = PostgresProber(password=lambda _: "wrong one", agents=None, vantage="h/p", clock=SYSTEM_CLOCK)

    (outcome,) = look(pair, "pg1", by=wrong)

    assert outcome.kind is OutcomeKind.ERROR
    assert "password authentication failed" in outcome.detail
    assert "wrong one" not in f"{outcome!r} {vars(wrong)!r}"
    assert PASSWORD not in repr(vars(prober()))


def test_too_many_clients_is_an_answer(pair: PostgresPair) -> None:
    pair.primary.execute(f"ALTER ROLE {USER} CONNECTION LIMIT 0")
    try:
        (outcome,) = look(pair, "pg1")
    finally:
        pair.primary.execute(f"ALTER ROLE {USER} CONNECTION LIMIT -1")

    assert (outcome.kind, "too many connections" in outcome.detail) == (OutcomeKind.ERROR, True)


def test_a_frozen_server_does_not_answer_though_the_kernel_takes_the_connection(pair: PostgresPair) -> None:
    assert pair.primary._process is not None
    postmaster = psutil.Process(pair.primary._process.pid)
    begun = time.monotonic()
    with frozen(postmaster, *postmaster.children()):
        (outcome,) = look(pair, "pg1")
        took_s = time.monotonic() - begun

    assert outcome.kind is OutcomeKind.TIMEOUT
    assert took_s < 0.7


def fatal(message: str, sqlstate: str) -> Script:
    """A server that says no to every session, in PostgreSQL's protocol."""
    fields = f"SFATAL\0VFATAL\0C{sqlstate}\0M{message}\0\0".encode()

    def script(client: socket.socket, over: threading.Event) -> None:
        client.recv(8)
        client.sendall(b"N")  # it does not speak TLS
        client.recv(4096)
        client.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)

    return script


def drop(client: socket.socket, over: threading.Event) -> None:
    """Hangs up after the start of the session, as a dying postmaster does."""
    client.recv(8)


@pytest.mark.parametrize(
    ("script", "kind", "detail"),
    [
        (fatal("the database system is starting up", "57P03"), "error", "starting up"),
        (fatal("sorry, too many clients already", "53300"), "error", "too many clients"),
        (drop, "timeout", "closed the connection"),
    ],
)
def test_only_a_word_of_the_server_is_an_answer(
    pair: PostgresPair, script: Script, kind: str, detail: str
) -> None:
    with scripted(script) as address:
        node = replace(pair.service.instance("pg1"), address=address)
        (outcome,) = prober().probe(pair.service, [node])

    assert outcome.kind is OutcomeKind(kind)
    assert detail in outcome.detail


class Agents:
    """A DatabaseAgent of which only the status is asked: of pg1 it runs, of pg2 it is silent."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def status(self, node: str, *, timeout_s: float = 0.5) -> NodeStatus:
        self.asked.append((node, timeout_s))
        if node == "pg2":
            raise AgentUnreachable("silent")
        if node == "pg3":
            raise AgentRefused("its answer was not signed")
        return NodeStatus(
            node=node,
            postmaster=Postmaster.RUNNING,
            in_recovery=False,
            epoch=7,
            promotion_begun=None,
            upstream=None,
            job={},
            stopped="the postmaster",
            unanswered_s=3.5,
        )


WORD = {
    "postmaster": "running",
    "epoch": 7,
    "stopped": "the postmaster",
    "unanswered_s": 3.5,
    "self_fenced": "",
}


def test_the_agent_s_word_stands_beside_the_outcome_and_silence_is_none(pair: PostgresPair) -> None:
    agents = Agents()
    third = replace(pair.service.instance("pg1"), name="pg3")
    instances = [*pair.service.instances, third]

    outcomes = prober(agents).probe(pair.service, instances)  # type: ignore[arg-type]

    assert [o.facts["agent"] for o in outcomes] == [WORD, None, None]
    assert sorted(agents.asked) == [("pg1", 0.4), ("pg2", 0.4), ("pg3", 0.4)]


def test_the_agent_is_heard_when_the_server_is_not(pair: PostgresPair) -> None:
    node = replace(pair.service.instance("pg1"), address="127.0.0.1:1")

    (outcome,) = prober(Agents()).probe(pair.service, [node])  # type: ignore[arg-type]

    assert outcome.kind is OutcomeKind.REFUSED
    assert outcome.facts == {"agent": WORD}
