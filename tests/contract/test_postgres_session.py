"""A session with deadlines, on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.postgres_session import Login, Session, SessionFailed
from ha_tasks.model.probe import OutcomeKind
from tests.servers import PostgresServer


def within(seconds: float = 5.0) -> Deadline:
    return Deadline(SYSTEM_CLOCK, seconds)


@pytest.fixture
def session(postgres_server: PostgresServer) -> Iterator[Session]:
    login = Login(user="postgres", database="postgres")
    address = f"127.0.0.1:{postgres_server.port}"
    with Session(address, login, within=within(), statement_timeout_s=1.0) as opened:
        yield opened


def test_values_come_as_text_and_null_as_none(session: Session) -> None:
    rows = session.query("SELECT $1::int + 1, NULL, $2::text", "41", "it's; here", within=within())

    assert rows == [("42", None, "it's; here")]


def test_a_large_result_comes_whole(session: Session) -> None:
    rows = session.query("SELECT repeat('x', 1000) FROM generate_series(1, 5000)", within=within())

    assert (len(rows), {len(value or "") for (value,) in rows}) == (5000, {1000})


def test_a_large_parameter_is_sent_whole(session: Session) -> None:
    assert session.query("SELECT length($1)", "x" * 5_000_000, within=within()) == [("5000000",)]


def test_an_error_of_a_statement_has_its_code_and_leaves_the_session_open(session: Session) -> None:
    with pytest.raises(SessionFailed, match="division by zero") as caught:
        session.query("SELECT 1/0", within=within())

    assert (caught.value.kind, caught.value.sqlstate) == (OutcomeKind.ERROR, "22012")
    assert not caught.value.passing
    assert session.query("SELECT 1", within=within()) == [("1",)]


def test_a_statement_that_outlives_the_deadline_is_given_up_and_the_session_closed(session: Session) -> None:
    begun = time.monotonic()
    with pytest.raises(SessionFailed) as caught:
        session.query("SELECT pg_sleep(10)", within=within(0.2))

    assert time.monotonic() - begun < 0.9
    assert (caught.value.kind, caught.value.passing) == (OutcomeKind.TIMEOUT, True)
    with pytest.raises(SessionFailed, match="the session is closed"):
        session.query("SELECT 1", within=within())


def test_the_server_gives_up_a_statement_too(session: Session) -> None:
    with pytest.raises(SessionFailed, match="statement timeout") as caught:
        session.query("SELECT pg_sleep(10)", within=within())

    assert (caught.value.sqlstate, caught.value.passing) == ("57014", True)


def test_a_session_that_the_server_ends_says_why(session: Session) -> None:
    with pytest.raises(SessionFailed, match="administrator command") as caught:
        session.query("SELECT pg_terminate_backend(pg_backend_pid())", within=within())

    assert (caught.value.kind, caught.value.sqlstate) == (OutcomeKind.ERROR, "57P01")


def test_the_warnings_are_those_of_the_last_statement(session: Session) -> None:
    session.query("DO $$ BEGIN RAISE WARNING 'careful'; END $$", within=within())
    assert session.warnings == ["01000"]

    session.query("SELECT 1", within=within())
    assert session.warnings == []


def test_a_passed_deadline_is_no_answer(session: Session) -> None:
    with pytest.raises(SessionFailed) as caught:
        session.query("SELECT 1", within=within(-1))

    assert caught.value.kind is OutcomeKind.TIMEOUT


def test_a_login_hides_its_password() -> None:
    login = Login(user="ha_control", database="app", password="only for this test")

    assert "only for this test" not in repr(login)
