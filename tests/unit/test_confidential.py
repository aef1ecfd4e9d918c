"""No login of a connection string is kept or shown, whoever quoted it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from ha_tasks.model.confidential import without_credentials
from ha_tasks.model.run import Outcome
from workers import discreet_logs


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("cannot reach redis://u:hush@h:1/0 now", "cannot reach redis://u:***@h:1/0 now"),
        ("rediss://:hush@h/0;rediss://:hush@i/0", "rediss://:***@h/0;rediss://:***@i/0"),
        ("'postgresql+psycopg://u:h%40sh@h/d'", "'postgresql+psycopg://u:***@h/d'"),
        ("host=h password=hush dbname=d", "host=h password=*** dbname=d"),
        ("password='hu sh' x", "password=*** x"),
        ("connect(user='u', passwd='hush')", "connect(user='u', passwd=***)"),
        ("?sslpassword=hush&x=1", "?sslpassword=***&x=1"),
        ("token = hush, x", "token = ***, x"),
        ("http://h:80/a and a@b are fine", "http://h:80/a and a@b are fine"),
        ('password authentication failed for user "u"', 'password authentication failed for user "u"'),
        ("services.db.postgres.password: file x is empty", "services.db.postgres.password: file x is empty"),
        ("", ""),
    ],
)
def test_logins_are_blotted_out_and_nothing_else(said: str, shown: str) -> None:
    assert without_credentials(said) == shown
    assert without_credentials(shown) == shown


def test_the_error_of_an_attempt_bears_none_wherever_it_goes() -> None:
    assert (
        Outcome(ok=False, error="no answer from amqp://u:hush@h//").error == "no answer from amqp://u:***@h//"
    )


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a logger of this process writes, once the discreet records are installed."""
    before = logging.getLogRecordFactory()
    discreet_logs.install()
    discreet_logs.install()
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logging.getLogger("a driver").addHandler(handler)
    yield text
    logging.getLogger("a driver").removeHandler(handler)
    logging.setLogRecordFactory(before)


def test_a_log_bears_none_in_its_words_its_arguments_or_its_tracebacks(log: io.StringIO) -> None:
    logger = logging.getLogger("a driver")
    try:
        raise ConnectionError("redis://u:hush@h/0 is away")
    except ConnectionError:
        logger.exception("%s of %s", "password=hush", {"url": "amqp://u:hush@h"})

    assert "hush" not in log.getvalue()
    assert "ConnectionError: redis://u:***@h/0 is away" in log.getvalue()
