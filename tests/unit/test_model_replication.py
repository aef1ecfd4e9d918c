"""Replication judged: one thing is made wrong at a time, and that is what is found, where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.model.cluster import Cluster, ClusterState, SyncSet, sync_set_of
from ha_tasks.model.replication import (
    NodeReading,
    NodeWord,
    Receiver,
    Sender,
    Slot,
    Weakening,
    divergence,
    lag_s,
)
from ha_tasks.model.replication_findings import FindingCode, Severity
from ha_tasks.model.replication_judgement import (
    LAG_BYTES,
    ClusterFacts,
    parse_sync_names,
    report,
    version_number,
)
from ha_tasks.model.replication_slots import HELD_BYTES

Code = FindingCode
BOTH = sync_set_of(["pg2", "pg3"])
ADDRESSES = {f"pg{n}": f"127.0.0.1:543{n}" for n in (1, 2, 3)}
END = 0x5000000
SETTINGS = {
    "synchronous_commit": "on",
    "synchronous_standby_names": BOTH.setting(),
    "fsync": "on",
    "full_page_writes": "on",
    "wal_log_hints": "on",
    "data_checksums": "off",
    "hot_standby": "on",
    "recovery_min_apply_delay": "0",
    "max_slot_wal_keep_size": "1024",
    "wal_sender_timeout": "5000",
    "wal_receiver_timeout": "5000",
    "wal_receiver_status_interval": "1",
    "wal_retrieve_retry_interval": "200",
}


def node(name, **more):
    plain = {"system_identifier": "70", "version": 150013, "in_recovery": True, "timeline": 1, "lsn": END}
    return NodeReading(node=name, settings=SETTINGS, **{**plain, "replayed": END, **more})


def sender(name, **more):
    return Sender(**{"name": name, "state": "streaming", "sync_state": "quorum", "flushed": END, **more})


def receiver(**more):
    return Receiver(
        **{"status": "streaming", "upstream": ADDRESSES["pg1"], "slot": "ha", "silent_s": 0.2, **more}
    )


def primary(**more):
    return node("pg1", **{"in_recovery": False, "senders": (sender("pg2"), sender("pg3")), **more})


def standby(name, **more):
    return node(name, **{"receiver": receiver(), **more})


HEALTHY = {"pg1": primary(), "pg2": standby("pg2"), "pg3": standby("pg3")}


def cluster(*sets, head="pg1", state=ClusterState.STEADY):
    return Cluster(name="db", epoch=3, primary=head, state=state, sets=sets or (BOTH,))


def judged(answers=(), *, record=None, **more):
    facts = ClusterFacts(
        service="db",
        answers={**HEALTHY, **dict(answers)},
        addresses=ADDRESSES,
        cluster=cluster() if record is None else record,
        **more,
    )
    return report(facts)


def found(seen):
    return {(f.code, f.node) for f in seen.findings}


def set_to(name, value, at="pg1"):
    return {at: replace(HEALTHY[at], settings={**SETTINGS, name: value})}


def test_of_a_healthy_cluster_nothing_is_wrong_and_nothing_is_at_risk():
    seen = judged()

    assert seen.findings == ()
    assert (seen.ok, seen.primary, seen.missing) == (True, "pg1", ())
    assert (seen.risk.certainty, seen.risk.bytes, seen.risk.seconds) == ("proven", 0, 0.0)
    assert [(v.node, v.role, v.upstream, v.lag_s) for v in seen.nodes] == [
        ("pg1", "primary", None, None),
        ("pg2", "standby", "pg1", 0.0),
        ("pg3", "standby", "pg1", 0.0),
    ]


WRONG = {
    "a server that cannot be asked": ({"pg3": "no answer in time"}, (Code.SILENT, "pg3")),
    "two primaries": ({"pg3": node("pg3", in_recovery=False)}, (Code.TWO_PRIMARIES, "")),
    "nobody takes writes": ({"pg1": node("pg1")}, (Code.NO_PRIMARY, "")),
    "another system": ({"pg3": standby("pg3", system_identifier="71")}, (Code.OTHER_SYSTEM, "pg3")),
    "a newer timeline": ({"pg3": standby("pg3", timeline=2)}, (Code.DIVERGED, "pg3")),
    "further than the primary": (
        {"pg3": node("pg3", lsn=END + 1), "pg1": primary(senders=(sender("pg2"),))},
        (Code.DIVERGED, "pg3"),
    ),
    "no receiver": ({"pg3": node("pg3")}, (Code.NOT_FOLLOWING, "pg3")),
    "a silent receiver": (
        {"pg3": standby("pg3", receiver=receiver(silent_s=10.1))},
        (Code.RECEIVER_SILENT, "pg3"),
    ),
    "no slot": ({"pg3": standby("pg3", receiver=receiver(slot=""))}, (Code.NO_SLOT, "pg3")),
    "far behind": (
        {"pg3": standby("pg3", lsn=END, replayed=0), "pg1": primary(lsn=END + LAG_BYTES + 1)},
        (Code.LAG, "pg3"),
    ),
    "long behind": (
        {"pg3": standby("pg3", replayed=END - 1, replayed_ago_s=31.0)},
        (Code.LAG, "pg3"),
    ),
    "one standby that counts twice": (
        {"pg1": primary(senders=(sender("pg2"), sender("pg2"), sender("pg3")))},
        (Code.TWO_SENDERS, "pg1"),
    ),
    "a stranger": (
        {"pg1": primary(senders=(sender("pg2"), sender("pg3"), sender("walreceiver")))},
        (Code.STRANGER, "pg1"),
    ),
    "a slot that holds WAL": (
        {"pg1": primary(slots=(Slot(name="old", physical=True, active=False, holds=HELD_BYTES + 1),))},
        (Code.SLOT_HOLDS_WAL, "pg1"),
    ),
    "a slot of a node that is gone": (
        {"pg1": primary(slots=(Slot(name="ha_pg9", physical=True, active=False, wal_status="reserved"),))},
        (Code.SLOT_ABANDONED, "pg1"),
    ),
    "a slot that was given up": (
        {"pg1": primary(slots=(Slot(name="old", physical=True, active=False, wal_status="lost"),))},
        (Code.SLOT_LOST, "pg1"),
    ),
    "anybody confirms": (set_to("synchronous_standby_names", "*"), (Code.ANY_SYNC_STANDBY, "pg1")),
    "any one of anybody": (set_to("synchronous_standby_names", "ANY 1 (*)"), (Code.ANY_SYNC_STANDBY, "pg1")),
    "the set was edited": (
        set_to("synchronous_standby_names", "ANY 1 (pg3)"),
        (Code.SYNC_SET_DIFFERS, "pg1"),
    ),
    "the set was emptied": (set_to("synchronous_standby_names", ""), (Code.SYNC_SET_DIFFERS, "pg1")),
    "too few stream": ({"pg1": primary(senders=())}, (Code.REDUNDANCY_MISSING, "pg1")),
    "commits wait for nobody": (set_to("synchronous_commit", "local"), (Code.COMMIT_WEAKENED, "pg1")),
    "a role's commits wait for nobody": (
        {"pg1": primary(weakened=(Weakening(role="etl", database="", value="off"),))},
        (Code.COMMIT_WEAKENED, "pg1"),
    ),
    "no hints": (set_to("wal_log_hints", "off", "pg2"), (Code.NO_REWIND, "pg2")),
    "no fsync": (set_to("fsync", "off"), (Code.UNSAFE_SETTING, "pg1")),
    "no sessions": (set_to("hot_standby", "off", "pg2"), (Code.NO_SESSIONS, "pg2")),
    "a delay": (set_to("recovery_min_apply_delay", "3600000", "pg2"), (Code.APPLY_DELAY, "pg2")),
    "a slow timeout": (set_to("wal_receiver_timeout", "60000", "pg2"), (Code.SLOW_SETTING, "pg2")),
    "no timeout": (set_to("wal_sender_timeout", "0"), (Code.SLOW_SETTING, "pg1")),
    "slots without limit": (set_to("max_slot_wal_keep_size", "-1"), (Code.SLOW_SETTING, "pg1")),
    "a restart is pending": (
        {"pg2": standby("pg2", pending_restart=("shared_buffers",))},
        (Code.PENDING_RESTART, "pg2"),
    ),
    "rights are missing": (
        {"pg2": standby("pg2", lacking=("GRANT pg_checkpoint TO ha_control",))},
        (Code.RIGHTS_MISSING, "pg2"),
    ),
}


@pytest.mark.parametrize(("answers", "what"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found_where_it_is_with_its_mending(answers, what):
    seen = judged(answers)

    assert what in found(seen)
    assert all(f.problem and f.remedy for f in seen.findings)
    assert len({f.key for f in seen.findings}) == len(seen.findings)


def test_by_the_record_somebody_else_takes_the_writes():
    seen = judged(record=cluster(head="pg2"))

    assert (Code.TWO_PRIMARIES, "") in found(seen)
    assert seen.primary == "pg1"


def test_no_synchronous_standby_is_told_whether_it_is_recorded_so_or_not_in_care():
    empty = set_to("synchronous_standby_names", "")

    assert (Code.NO_SYNC_STANDBY, "pg1") in found(judged(empty, record=cluster(sync_set_of([]))))
    facts = ClusterFacts(service="db", answers={**HEALTHY, **empty}, addresses=ADDRESSES)
    assert (Code.NO_SYNC_STANDBY, "pg1") in {(f.code, f.node) for f in report(facts).findings}


def test_while_a_change_is_under_way_either_set_may_be_in_force():
    record = cluster(sync_set_of(["pg2"]), BOTH)

    for names in ("ANY 1 (pg2)", "ANY 1 (pg2, pg3)"):
        assert judged(set_to("synchronous_standby_names", names), record=record).findings == ()


def test_a_program_on_disk_that_is_newer_than_the_running_one_is_a_note():
    seen = judged(words={"pg2": NodeWord(binary="15.14"), "pg3": NodeWord(binary="15.13")})

    assert [(f.code, f.node, f.severity) for f in seen.findings] == [(Code.OLD_BINARY, "pg2", Severity.NOTE)]


def test_of_a_cluster_that_others_lead_only_what_is_anybodys_business_is_told():
    answers = {
        **set_to("synchronous_standby_names", "*"),
        "pg2": standby("pg2", receiver=receiver(slot=""), timeline=1),
        "pg3": standby("pg3", weakened=()),
    }

    assert judged(answers, ours=False).findings == ()
    assert (Code.COMMIT_WEAKENED, "pg1") in found(judged(set_to("synchronous_commit", "off"), ours=False))


def test_a_cascade_hangs_below_whoever_feeds_it_and_is_not_missing():
    seen = judged(
        {
            "pg1": primary(senders=(sender("pg2"),)),
            "pg2": standby("pg2", senders=(sender("pg3", sync_state="async"),)),
            "pg3": standby("pg3", receiver=receiver(upstream=ADDRESSES["pg2"])),
        }
    )

    assert [v.upstream for v in seen.nodes] == [None, "pg1", "pg2"]
    assert seen.missing == ()


# Lag


@pytest.mark.parametrize(
    ("to_replay", "measured", "ago", "expected"),
    [
        (0, None, 86400.0, 0.0),
        (0, 0.004, 86400.0, 0.0),
        (10, 0.004, 86400.0, 0.004),
        (10, None, 3.0, 3.0),
        (10, None, None, None),
        (None, None, None, None),
    ],
)
def test_an_idle_primary_makes_no_lag(to_replay, measured, ago, expected):
    assert lag_s(to_replay, sender("pg2", replay_lag_s=measured), ago) == expected


# What would be lost


@pytest.mark.parametrize(
    ("answers", "certainty", "amount", "seconds"),
    [
        (set_to("synchronous_commit", "off"), "measured", 0, 0.0),
        (
            {
                "pg1": primary(
                    lsn=END + 100,
                    senders=(sender("pg2", replay_lag_s=0.5), sender("pg3")),
                    weakened=(Weakening(role="etl", database="", value="off"),),
                ),
                "pg3": standby("pg3", lsn=END - 100),
            },
            "measured",
            100,
            0.5,
        ),
        ({**set_to("synchronous_standby_names", "")}, "measured", 0, 0.0),
        ({"pg1": "no answer in time"}, "unknown", None, None),
        ({"pg3": node("pg3", in_recovery=False)}, "unknown", None, None),
        ({"pg1": primary(lsn=END + 100)}, "proven", 0, 0.0),
    ],
)
def test_what_would_be_lost_now(answers, certainty, amount, seconds):
    risk = judged(answers).risk

    assert (risk.certainty, risk.bytes, risk.seconds) == (certainty, amount, seconds)


def test_without_a_standby_that_streams_nobody_knows_what_would_be_lost():
    alone = {**set_to("synchronous_standby_names", ""), "pg2": "away", "pg3": "away"}

    assert judged(alone, record=cluster(sync_set_of([]))).risk.certainty == "unknown"


# Timelines


HISTORY = ((1, 1000), (2, 2000))
"""The primary is on timeline 3."""


@pytest.mark.parametrize(
    ("timeline", "lsn", "own", "apart"),
    [
        (3, 2500, HISTORY, ""),
        (2, 2000, HISTORY[:1], ""),
        (2, 2001, HISTORY[:1], "has 1 bytes of timeline 2"),
        (1, 1000, (), ""),
        (1, 1500, (), "has 500 bytes of timeline 1"),
        (4, 2500, (*HISTORY, (3, 2400)), "is on timeline 4"),
        (3, 2500, ((1, 1000), (2, 1999)), "left timeline 2 elsewhere"),
        (2, 1500, ((1, 900),), "left timeline 1 elsewhere"),
        (2, 1500, None, ""),
    ],
)
def test_a_node_diverged_when_its_history_is_no_beginning_of_the_primarys(timeline, lsn, own, apart):
    head = primary(timeline=3, lsn=3000)
    said = standby("pg2", timeline=timeline, lsn=lsn)

    assert divergence(head, said, history=HISTORY, own=own).startswith(apart)
    assert bool(divergence(head, said, history=HISTORY, own=own)) == bool(apart)


def test_a_timeline_of_the_same_number_and_another_origin_is_found_by_its_history():
    head, said = primary(timeline=3, lsn=3000), standby("pg2", timeline=2, lsn=1500)

    assert divergence(head, said, history=((1, 1000), (3, 2000)), own=()).startswith("is on timeline 2")


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6, unique=True).map(sorted), st.data())
def test_whatever_was_once_on_the_way_to_the_primary_never_diverged(ends, data):
    history = tuple((number, end) for number, end in enumerate(ends, start=1))
    head = primary(timeline=len(ends) + 1, lsn=ends[-1] + 1000)
    timeline = data.draw(st.integers(1, len(ends) + 1))
    until = dict(history).get(timeline, head.lsn)
    since = dict(history).get(timeline - 1, 0)
    said = standby("pg2", timeline=timeline, lsn=data.draw(st.integers(since, until)))

    assert divergence(head, said, history=history, own=history[: timeline - 1]) == ""


# Words of PostgreSQL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", SyncSet(quorum=0, members=())),
        ("ANY 1 (pg3, pg2)", BOTH),
        ('any 1("pg2",PG3)', BOTH),
        ("pg2", SyncSet(quorum=1, members=("pg2",))),
        ("FIRST 2 (pg2, pg3)", SyncSet(quorum=2, members=("pg2", "pg3"))),
        ("FIRST 1 (pg2, pg3)", None),
        ("pg2, pg3", None),
        ("*", None),
        ("ANY 2 (*)", None),
        ("ANY 3 (pg2, pg3)", None),
    ],
)
def test_synchronous_standby_names_as_a_set(text, expected):
    assert parse_sync_names(text) == expected


@given(st.sets(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), max_size=8))
def test_what_we_set_is_read_back_as_what_it_was(names):
    wanted = sync_set_of(names)

    assert parse_sync_names(wanted.setting()) == wanted


@pytest.mark.parametrize(
    ("text", "number"), [("15.13", 150013), ("18.6", 180006), ("18beta1", None), ("", None)]
)
def test_a_programs_version_as_a_server_says_it(text, number):
    assert version_number(text) == number
