"""The evidence table: what proves that a primary is gone, and what does not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.model.evidence import EvidenceKind, Remedy, judge_primary
from ha_tasks.model.probe import OutcomeKind
from tests.unit.builders import at, outcome

OK, REFUSED, TIMEOUT, ERROR = OutcomeKind.OK, OutcomeKind.REFUSED, OutcomeKind.TIMEOUT, OutcomeKind.ERROR
RUNNING = {"postmaster": "running", "epoch": 1}
EXITED = {"postmaster": "exited", "epoch": 1}
ABSENT = {"postmaster": "absent", "epoch": 1}
STOPPED = {**RUNNING, "stopped": "the postmaster", "unanswered_s": None}
ALL_STOPPED = {**STOPPED, "stopped": "every process"}
HUNG = {**RUNNING, "stopped": "", "unanswered_s": 5.0}
BUSY = {**RUNNING, "stopped": "", "unanswered_s": 2.5}


def primary(kinds, agent=None, every=0.5, vantages=("h1/a", "h2/b")):
    return {
        v: [outcome("pg1", n * every, kind, vantage=v, agent=agent) for n, kind in enumerate(kinds)]
        for v in vantages
    }


def standbys(receiving):
    return [outcome(node, 5, OK, in_recovery=True, receiving=receiving) for node in ("pg2", "pg3")]


@pytest.mark.parametrize(
    ("kinds", "agent", "receiving", "expected"),
    [
        ([OK, OK], RUNNING, True, EvidenceKind.NONE),
        # E1: one authenticated word of the agent is enough, at once.
        ([OK, REFUSED], EXITED, False, EvidenceKind.EXITED),
        # E2: two refusals, and nobody who says that it runs.
        ([OK, REFUSED], None, False, EvidenceKind.NONE),
        ([OK, REFUSED, REFUSED], None, False, EvidenceKind.REFUSED),
        ([OK, REFUSED, REFUSED], ABSENT, False, EvidenceKind.REFUSED),
        ([OK, REFUSED, REFUSED], RUNNING, False, EvidenceKind.NONE),
        # An error text is an answer: it starts up, or has too many clients.
        ([ERROR] * 9, RUNNING, False, EvidenceKind.NONE),
        ([ERROR] * 9, None, False, EvidenceKind.NONE),
        # E3: silence counts only when the standbys hear nothing either, and only after a while.
        ([TIMEOUT] * 4, None, False, EvidenceKind.NONE),
        ([TIMEOUT] * 7, None, False, EvidenceKind.SILENT),
        ([TIMEOUT] * 7, RUNNING, False, EvidenceKind.SILENT),
        ([TIMEOUT] * 20, None, True, EvidenceKind.NONE),
    ],
)
def test_the_table(kinds, agent, receiving, expected):
    evidence = judge_primary(primary(kinds, agent), standbys(receiving), quorum=2)

    assert evidence.kind is expected


def test_a_primary_that_its_own_agent_has_ended_says_why():
    word = {**EXITED, "self_fenced": "pg2 is the primary since epoch 4"}

    evidence = judge_primary(primary([OK, REFUSED], word), standbys(False), quorum=2)

    assert evidence.kind is EvidenceKind.EXITED
    assert "pg2 is the primary since epoch 4" in evidence.text


def test_one_vantage_that_is_refused_is_not_enough():
    by_vantage = primary([REFUSED] * 4, vantages=("h1/a",)) | primary([OK] * 4, vantages=("h2/b",))

    assert judge_primary(by_vantage, standbys(True), quorum=2).kind is EvidenceKind.NONE


def test_an_exit_that_is_older_than_a_good_answer_elsewhere_is_history():
    """It was started again meanwhile: the vantage that looked last knows better."""
    by_vantage = {
        "h1/a": [outcome("pg1", 1.0, REFUSED, vantage="h1/a", agent=EXITED)],
        "h2/b": [outcome("pg1", 1.4, OK, vantage="h2/b", agent=RUNNING)],
    }

    assert judge_primary(by_vantage, standbys(True), quorum=2).kind is EvidenceKind.NONE


def test_the_failure_begins_with_the_first_failed_probe_after_the_last_good_one():
    evidence = judge_primary(primary([REFUSED, OK, REFUSED, REFUSED]), standbys(False), quorum=2)

    assert evidence.since == at(1.0)


def test_a_few_failures_without_proof_still_tell_since_when():
    evidence = judge_primary(primary([OK, TIMEOUT, TIMEOUT]), standbys(True), quorum=2)

    assert evidence.kind is EvidenceKind.NONE
    assert evidence.since == at(0.5)


@pytest.mark.parametrize(
    ("kinds", "agent", "expected"),
    [
        # E4: only with the agent's own word; the less it knows, the longer the wait.
        ([TIMEOUT] * 4, ALL_STOPPED, EvidenceKind.NONE),
        ([TIMEOUT] * 5, ALL_STOPPED, EvidenceKind.FROZEN),
        ([TIMEOUT] * 8, STOPPED, EvidenceKind.NONE),
        ([TIMEOUT] * 9, STOPPED, EvidenceKind.FROZEN),
        ([TIMEOUT] * 12, HUNG, EvidenceKind.NONE),
        ([TIMEOUT] * 13, HUNG, EvidenceKind.FROZEN),
        # A saturated machine: new sessions take long, but the agent gets one now and then.
        ([TIMEOUT] * 25, BUSY, EvidenceKind.NONE),
        ([TIMEOUT] * 25, RUNNING, EvidenceKind.NONE),
        # The observers' own network.
        ([TIMEOUT] * 25, None, EvidenceKind.NONE),
        # "Too many clients" in between is an answer.
        ([TIMEOUT] * 6 + [ERROR] + [TIMEOUT] * 12, HUNG, EvidenceKind.NONE),
        ([TIMEOUT] * 6 + [ERROR] + [TIMEOUT] * 4, ALL_STOPPED, EvidenceKind.NONE),
    ],
)
def test_a_postmaster_that_takes_no_new_session_while_wal_flows(kinds, agent, expected):
    evidence = judge_primary(primary(kinds, agent), standbys(True), quorum=2)

    assert evidence.kind is expected


def test_a_process_that_is_stopped_now_and_then_is_none_that_stays_stopped():
    seen = primary([TIMEOUT] * 9, HUNG)
    for outcomes in seen.values():
        for outcome_no in (2, 4, 6, 8):
            outcomes[outcome_no].facts["agent"] = ALL_STOPPED

    assert judge_primary(seen, standbys(True), quorum=2).kind is EvidenceKind.NONE


def waiting(count, name, *, mark="17@t", lsn=None, vantages=("h1/a", "h2/b"), every=0.5):
    """So many good probes that found a transaction waiting; ``lsn``: of the n-th probe."""
    return {
        v: [
            outcome(
                "pg1", n * every, OK, vantage=v, agent=RUNNING, waits={name: mark}, lsn=lsn(n) if lsn else 7
            )
            for n in range(count)
        ]
        for v in vantages
    }


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (waiting(21, "sync"), EvidenceKind.STUCK_SET),
        (waiting(20, "sync"), EvidenceKind.NONE),
        (waiting(21, "wal"), EvidenceKind.STUCK_DISK),
        # A bulk load waits for the disk in every sample, and its WAL moves on.
        (waiting(40, "wal", lsn=lambda n: n // 4), EvidenceKind.NONE),
        # The set does not care about positions: WAL goes on being written, only nothing is acknowledged.
        (waiting(21, "sync", lsn=lambda n: n), EvidenceKind.STUCK_SET),
        (waiting(40, "sync", vantages=("h1/a",)), EvidenceKind.NONE),
    ],
)
def test_a_commit_that_hangs_while_reads_are_fine(seen, expected):
    assert judge_primary(seen, standbys(True), quorum=2).kind is expected


def test_other_transactions_that_wait_in_turn_are_no_hanging_one():
    seen = waiting(40, "sync")
    for outcomes in seen.values():
        for n, each in enumerate(outcomes):
            each.facts["waits"]["sync"] = f"{n // 10}@t"

    assert judge_primary(seen, standbys(True), quorum=2).kind is EvidenceKind.NONE


def test_only_a_hanging_set_is_not_mended_by_a_failover():
    remedies = {kind: kind.remedy for kind in EvidenceKind}

    assert remedies.pop(EvidenceKind.NONE) is Remedy.NONE
    assert remedies.pop(EvidenceKind.STUCK_SET) is Remedy.CHANGE_SET
    assert set(remedies.values()) == {Remedy.FAILOVER}


def test_a_vantage_that_cannot_hear_the_agent_says_nothing_against_one_that_can():
    by_vantage = {
        "h1/a": [outcome("pg1", n, REFUSED, vantage="h1/a", agent=RUNNING) for n in (0.0, 0.5)],
        "h2/b": [outcome("pg1", n + 0.1, REFUSED, vantage="h2/b", agent=None) for n in (0.0, 0.5)],
    }

    assert judge_primary(by_vantage, standbys(False), quorum=2).kind is EvidenceKind.NONE


KINDS = st.sampled_from([OK, REFUSED, TIMEOUT, ERROR])
AGENTS = st.sampled_from([None, RUNNING, EXITED, ABSENT, STOPPED, ALL_STOPPED, HUNG, BUSY])
SEEN = st.lists(st.tuples(KINDS, AGENTS), min_size=1, max_size=30)


def history(steps, vantage, begin=0.0):
    return [
        outcome("pg1", begin + n * 0.5, kind, vantage=vantage, agent=agent)
        for n, (kind, agent) in enumerate(steps)
    ]


@given(a=SEEN, b=SEEN, receiving=st.booleans())
def test_a_good_answer_to_everybody_ends_every_suspicion(a, b, receiving):
    good = [(OK, RUNNING)]
    seen = {"h1/a": history(a + good, "h1/a"), "h2/b": history(b + good, "h2/b")}

    evidence = judge_primary(seen, standbys(receiving), quorum=2)

    assert (evidence.kind, evidence.since) == (EvidenceKind.NONE, None)


@given(a=SEEN, b=SEEN, receiving=st.booleans())
def test_what_is_only_missing_never_acts_before_its_time(a, b, receiving):
    """Whatever was seen: without the word "exited" there are at least two failed probes at each vantage."""
    steps = [[s for s in seen if s[1] != EXITED] or [(OK, RUNNING)] for seen in (a, b)]
    seen = {v: history(s, v) for v, s in zip(("h1/a", "h2/b"), steps, strict=True)}

    evidence = judge_primary(seen, standbys(receiving), quorum=2)

    if evidence.kind.remedy is Remedy.FAILOVER:
        last_good = max(
            (o.sent_at for each in seen.values() for o in each if o.kind in (OK, ERROR)), default=None
        )
        now = max(o.known_at for each in seen.values() for o in each)
        assert last_good is None or now - last_good > timedelta(seconds=0.4)
        assert all(len([o for o in each[-2:] if o.kind in (REFUSED, TIMEOUT)]) == 2 for each in seen.values())


@given(seen=SEEN, more=st.integers(1, 20), agent=AGENTS)
def test_one_vantage_alone_never_acts_on_what_is_missing(seen, more, agent):
    steps = [s for s in seen if s[1] != EXITED]
    word = None if agent == EXITED else agent
    alone = {
        "h1/a": history([*steps, *[(REFUSED, word)] * more], "h1/a"),
        "h2/b": history([(OK, RUNNING)] * (len(steps) + more), "h2/b"),
    }

    assert judge_primary(alone, standbys(False), quorum=2).kind is EvidenceKind.NONE


@given(a=SEEN, b=SEEN)
def test_silence_to_the_observers_alone_never_acts(a, b):
    """Standbys stream and the agent has seen nothing wrong: it is the observers' network."""
    seen = {v: history([(TIMEOUT, RUNNING) for _ in s], v) for v, s in (("h1/a", a), ("h2/b", b))}

    assert judge_primary(seen, standbys(True), quorum=2).kind is EvidenceKind.NONE
