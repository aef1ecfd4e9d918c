"""The evidence table: what proves that a primary is gone, and what does not."""

from __future__ import annotations

import pytest

from ha_tasks.model.evidence import EvidenceKind, judge_primary
from ha_tasks.model.probe import OutcomeKind
from tests.unit.builders import at, outcome

OK, REFUSED, TIMEOUT, ERROR = OutcomeKind.OK, OutcomeKind.REFUSED, OutcomeKind.TIMEOUT, OutcomeKind.ERROR
RUNNING = {"postmaster": "running", "epoch": 1}
EXITED = {"postmaster": "exited", "epoch": 1}
ABSENT = {"postmaster": "absent", "epoch": 1}


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
