"""The agent's own look at its PostgreSQL: what it counts, what it discards, when it ends a primary."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ha_tasks.adapters.postgres_session import SessionFailed
from ha_tasks.errors import PassingFailure
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.model.self_fence import Standing
from workers.agent.memory import Memory
from workers.agent.watch import Watch, quorum_of

STANDING = Standing(epoch=3, primary="pg1", steady=True)
PRIMARY_ALONE = ("f", "ANY 1 (pg2, pg3)", "0")
TIMEOUT = SessionFailed(OutcomeKind.TIMEOUT, "no answer in time")
TOO_MANY = SessionFailed(OutcomeKind.ERROR, "sorry, too many clients already", "53300")


class Server:
    """Stands for a node and its server; ``answer`` is a row, or what is raised."""

    def __init__(self, home: Path) -> None:
        self.now = 100.0
        self.answer: object = PRIMARY_ALONE
        self.takes_s = 0.0
        self.kills = 0
        self.undying = 0
        self.memory = Memory(home / "node.json")
        self.config = SimpleNamespace(node="pg1")
        self.postmaster = SimpleNamespace(pid=4711, kill_tree=self._kill)
        self.sql = SimpleNamespace(row=self._row)

    def _row(self, _sql: str, *, timeout_s: float) -> object:
        self.now += self.takes_s
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def _kill(self, *, timeout_s: float) -> None:
        self.kills += 1
        if self.undying:
            self.undying -= 1
            raise PassingFailure("stuck in the kernel")
        self.postmaster.pid = None


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path)


def watching(server, *, may_fence=True):
    return Watch(server, obeyed=lambda: 3, may_fence=may_fence, now=lambda: server.now)


def looks(watch, server, count):
    for _ in range(count):
        watch.look()
        server.now += 1.0


def test_a_primary_that_nobody_leads_and_nobody_follows_is_ended_and_it_is_said_why(server):
    watch = watching(server)
    watch.hear(STANDING)
    looks(watch, server, 10)
    assert server.kills == 0
    looks(watch, server, 2)

    assert server.kills == 1
    assert "no synchronous standby has streamed" in server.memory.now.self_fenced


def test_a_controller_that_speaks_keeps_it_up(server):
    watch = watching(server)
    for _ in range(30):
        watch.hear(STANDING)
        looks(watch, server, 1)

    assert server.kills == 0


@pytest.mark.parametrize(
    "answer",
    [("f", "ANY 1 (pg2, pg3)", "1"), ("f", "", "0"), ("t", "ANY 1 (pg2, pg3)", "0"), TIMEOUT, TOO_MANY],
)
def test_a_primary_that_is_followed_or_waits_for_nobody_or_says_nothing_stays(server, answer):
    watch = watching(server)
    watch.hear(STANDING)
    server.answer = answer
    looks(watch, server, 40)

    assert server.kills == 0


def test_one_look_that_finds_a_standby_begins_the_count_anew(server):
    watch = watching(server)
    watch.hear(STANDING)
    looks(watch, server, 10)
    server.answer = ("f", "ANY 1 (pg2, pg3)", "1")
    looks(watch, server, 1)
    server.answer = PRIMARY_ALONE
    looks(watch, server, 10)

    assert server.kills == 0


def test_an_agent_that_was_paused_counts_anew(server):
    """The look itself took 10 s: the machine slept, and what was heard before is worth nothing."""
    watch = watching(server)
    watch.hear(STANDING)
    looks(watch, server, 8)
    server.takes_s = 10.0
    looks(watch, server, 1)
    server.takes_s = 0.0
    looks(watch, server, 20)

    assert server.kills == 0
    assert watch.heard_s is None


def test_where_the_configuration_forbids_a_fence_the_agent_does_not_fence_either(server):
    watch = watching(server, may_fence=False)
    watch.hear(STANDING)
    looks(watch, server, 20)

    assert server.kills == 0


def test_a_superseded_primary_is_ended_once_that_is_confirmed(server):
    watch = watching(server)
    for _ in range(3):
        watch.hear(Standing(epoch=4, primary="pg2", steady=True))
        looks(watch, server, 1)

    assert server.kills == 1
    assert "pg2 is the primary since epoch 4" in server.memory.now.self_fenced


def test_processes_that_do_not_die_are_tried_again(server):
    watch = watching(server)
    server.undying = 1
    watch.hear(STANDING)
    looks(watch, server, 13)

    assert server.kills == 2


def test_how_long_no_session_was_had_is_counted_from_the_last_answer_and_an_error_is_one(server):
    watch = watching(server)
    assert watch.unanswered_s is None
    looks(watch, server, 1)
    assert watch.unanswered_s == 1.0
    server.answer = TIMEOUT
    looks(watch, server, 5)
    assert watch.unanswered_s == 6.0
    server.answer = TOO_MANY
    looks(watch, server, 1)
    assert watch.unanswered_s == 1.0
    server.postmaster.pid = 4712
    assert watch.unanswered_s is None


@pytest.mark.parametrize(
    ("setting", "quorum"),
    [
        ("", 0),
        ("ANY 1 (pg2, pg3)", 1),
        ("ANY 2(pg2, pg3, pg4)", 2),
        ("FIRST 1 (pg2)", 1),
        ("2 (pg2, pg3)", 2),
        ("pg2, pg3", 1),
        ("(pg2)", 1),
    ],
)
def test_how_many_acknowledgements_a_commit_needs(setting, quorum):
    assert quorum_of(setting) == quorum
