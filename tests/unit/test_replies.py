"""Replies go to a caller's own queue, and to nothing else."""

from __future__ import annotations

import uuid

import pytest

from ha_tasks.names import Queue
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.replies import REPLY_QUEUE, reply


class Asked:
    """What Celery says about a message."""

    id = correlation_id = "task-1"

    def __init__(self, reply_to: str | None) -> None:
        self.reply_to = reply_to


@pytest.mark.parametrize(
    "name",
    [
        str(uuid.uuid4()),
        f"ha.reply.{uuid.uuid4()}",
        "amq.gen-JzTY20BRgKO-HjmUJj0wLg",
        "amq.rabbitmq.reply-to",
    ],
)
def test_the_forms_of_a_callers_own_queue_are_known(name):
    assert REPLY_QUEUE.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    [*Queue, "ha.dead", "host.db1", "celery", "unacked.fast", "", None, "ha.reply.", f"{uuid.uuid4()}\n"],
)
def test_nothing_is_sent_anywhere_else(name):
    """No broker is there: an attempt would be told in the log."""
    assert name is None or not REPLY_QUEUE.fullmatch(name)
    assert reply(make_app("redis://127.0.0.1:1/0"), Asked(name), {"v": 1}) is False


def test_a_reply_that_cannot_be_sent_is_told_and_forgotten(caplog):
    """The work is done: it must not become a failure."""
    app = make_app("redis://:planted-secret@127.0.0.1:1/0")

    assert reply(app, Asked(str(uuid.uuid4())), {"v": 1}) is False

    assert "no reply to task task-1" in caplog.text
    assert "planted-secret" not in caplog.text
