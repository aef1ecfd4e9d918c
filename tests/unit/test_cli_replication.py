"""The view of replication: tree, set, what is at risk, what is wrong; and the line of it in status."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest

from ha_tasks.cli.advice import advice
from ha_tasks.cli.lines import Line, amount, text_of
from ha_tasks.cli.replication import brief_lines, databases, lines, looked_at
from ha_tasks.errors import UsageError
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.replication import Weakening
from tests.fakes.clock import START as NOW
from tests.fakes.repositories import FakeReplicationBook, FakeStore
from tests.unit.builders import platform
from tests.unit.test_model_replication import ADDRESSES, judged, primary, receiver, sender, standby

WEAK = (Weakening(role="etl", database="", value="off"),)


def text(shown: Iterable[Line]) -> str:
    return "\n".join(text_of(line) for line in shown)


def shown(answers=(), *, rpo_s=0.0) -> str:
    return text(lines({"clusters": [{**judged(answers).to_json(), "rpo_s": rpo_s}]}))


def test_a_healthy_cluster_in_a_few_lines():
    said = shown().splitlines()

    assert said[0] == "db: steady, epoch 3, commits wait for ANY 1 (pg2, pg3)"
    assert said[1].startswith("RPO at risk: 0 ")
    assert [line.split()[:3] for line in said[3:6]] == [
        ["pg1", "primary", "1"],
        ["├─", "pg2", "standby"],
        ["└─", "pg3", "standby"],
    ]
    assert said[-1] == "nothing is wrong"


def test_a_cascade_stands_below_whoever_feeds_it():
    said = shown(
        {
            "pg1": primary(senders=(sender("pg2"),)),
            "pg2": standby("pg2", senders=(sender("pg3", sync_state="async"),)),
            "pg3": standby("pg3", receiver=receiver(upstream=ADDRESSES["pg2"])),
        }
    )

    assert [line.split("standby")[0].rstrip() for line in said.splitlines() if "─" in line] == [
        "└─ pg2",
        "   └─ pg3",
    ]


def test_two_that_feed_each_other_are_shown_all_the_same():
    circle = {
        "pg2": standby("pg2", senders=(sender("pg3"),)),
        "pg3": standby("pg3", senders=(sender("pg2"),)),
        "pg1": primary(senders=()),
    }

    said = shown(circle)
    assert all(name in said for name in ("pg1", "pg2", "pg3"))


def test_who_cannot_be_asked_says_why_and_what_is_wrong_says_its_mending():
    said = shown({"pg1": primary(weakened=WEAK), "pg3": "no answer in time"})

    assert "pg3     silent   no answer in time" in said
    assert "warning: pg1: synchronous_commit = off for role etl" in said
    assert 'mend it: ALTER ROLE "etl" RESET synchronous_commit' in said
    assert "RPO at risk: 0 B of 0.0 s (synchronous_commit is weakened for some)" in said


def test_a_set_that_differs_from_the_record_is_shown_beside_it():
    edited = judged().to_json() | {"in_force": "ANY 1 (pg3)", "rpo_s": 0.0}

    first = text(lines({"clusters": [edited]})).splitlines()[0]
    assert first.endswith("commits wait for ANY 1 (pg3) (recorded: ANY 1 (pg2, pg3))")


def test_status_has_a_line_of_the_latest_look_and_none_of_an_old_one():
    book = FakeReplicationBook()
    book.put("db", judged({"pg1": primary(weakened=WEAK)}).to_json(), NOW)

    (line,) = (text_of(each) for each in brief_lines(looked_at(book, NOW + timedelta(seconds=60))))
    assert line.startswith("db: RPO at risk: 0 B of 0.0 s")
    assert line.endswith("see: ha-tasks replication db")
    assert looked_at(book, NOW + timedelta(seconds=61)) == []


def test_notes_are_no_news_for_status():
    book = FakeReplicationBook()
    book.put("db", judged({"pg1": primary(pending_restart=("shared_buffers",))}).to_json(), NOW)

    assert text(brief_lines(looked_at(book, NOW))).endswith("(every commit waits for the recorded set)")


def test_an_incident_that_a_person_is_only_told_of_says_how_to_mend_it():
    incident, _ = FakeStore().incidents.open(
        key="k",
        service="db",
        instance="pg1",
        kind=IncidentKind.REPLICATION_FAULT,
        severity="warning",
        summary="s",
        fault_at=NOW,
        now=NOW,
        actor="a",
        evidence={"remedy": "do this"},
    )

    assert advice(incident, None, "opened") == "mend it: do this"


def test_only_services_that_replicate_can_be_asked():
    assert [service.name for service in databases(platform(), None)] == ["db"]
    with pytest.raises(UsageError, match='no service "web" that replicates; known: db'):
        databases(platform(), "web")


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 kB"),
        (10 * 1024**2, "10 MB"),
        (1024**4, "1.0 TB"),
    ],
)
def test_an_amount_of_bytes_is_told_in_a_unit_that_fits(count, said):
    assert amount(count) == said
