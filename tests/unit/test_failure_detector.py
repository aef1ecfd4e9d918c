"""FailureDetector: what outcomes mean, as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.model.evidence import Remedy
from ha_tasks.model.platform import Check
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.model.verdict import VerdictState
from ha_tasks.recovery.failure_detector import DetectorSettings, FailureDetector
from tests.unit.builders import at, database, outcome, web

OK, REFUSED, TIMEOUT, ERROR = OutcomeKind.OK, OutcomeKind.REFUSED, OutcomeKind.TIMEOUT, OutcomeKind.ERROR
DETECTOR = FailureDetector(DetectorSettings())


def verdict_of(instance, outcomes, now, service=None, primary=None):
    chosen = service or web()
    verdicts = DETECTOR.analyze_system_state(chosen, outcomes, at(now), primary=primary)
    return next(v for v in verdicts if v.target.instance == instance)


def seen(kinds_by_vantage, instance="web1", service="web", every=0.5, **facts):
    return [
        outcome(
            instance,
            n * every,
            kind,
            service=service,
            vantage=vantage,
            rtt_s=0.5 if kind is TIMEOUT else 0.002,
            **facts,
        )
        for vantage, kinds in kinds_by_vantage.items()
        for n, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([OK, OK, OK], [OK, OK, OK], VerdictState.HEALTHY),
        ([OK, OK, REFUSED], [OK, OK, OK], VerdictState.SUSPECT),
        ([OK, REFUSED, REFUSED], [OK, OK, OK], VerdictState.SUSPECT),
        ([OK, REFUSED], [OK, REFUSED], VerdictState.SUSPECT),
        # A refusal is an answer, twice is enough; of errors it takes three.
        ([OK, REFUSED, REFUSED], [OK, REFUSED, REFUSED], VerdictState.FAILED),
        ([OK, ERROR, ERROR], [OK, ERROR, ERROR], VerdictState.SUSPECT),
        ([ERROR, ERROR, ERROR], [ERROR, ERROR, ERROR], VerdictState.FAILED),
        ([OK, REFUSED, ERROR, REFUSED], [OK, ERROR, REFUSED, ERROR], VerdictState.FAILED),
        # A probe that times out after 0.5 s says so for that half second; silence takes 1.5 s.
        ([OK, TIMEOUT, TIMEOUT], [OK, TIMEOUT, TIMEOUT], VerdictState.SUSPECT),
        ([TIMEOUT, TIMEOUT, TIMEOUT], [TIMEOUT, TIMEOUT, TIMEOUT], VerdictState.FAILED),
        ([OK, REFUSED, TIMEOUT], [OK, REFUSED, TIMEOUT], VerdictState.SUSPECT),
        ([OK] * 5 + [TIMEOUT] * 20, [OK] * 25, VerdictState.SUSPECT),
        # Gray: it always answers somebody.
        ([TIMEOUT, OK] * 5 + [TIMEOUT], [TIMEOUT, OK] * 5 + [TIMEOUT], VerdictState.FAILED),
        ([OK, OK, TIMEOUT] * 10, [OK] * 30, VerdictState.SUSPECT),
        # What was given up is trusted again after 8 s.
        ([OK] * 5 + [REFUSED] * 5 + [OK], [OK] * 5 + [REFUSED] * 5 + [OK], VerdictState.FLAPPING),
        ([OK] * 5 + [REFUSED] * 5 + [OK] * 15, [OK] * 5 + [REFUSED] * 5 + [OK] * 15, VerdictState.FLAPPING),
        ([OK] * 5 + [REFUSED] * 5 + [OK] * 16, [OK] * 5 + [REFUSED] * 5 + [OK] * 16, VerdictState.HEALTHY),
    ],
)
def test_a_quorum_of_vantages_must_agree(a, b, expected):
    outcomes = seen({"h1/a": a, "h2/b": b})

    assert verdict_of("web1", outcomes, now=len(a) * 0.5).state is expected


def test_a_lost_packet_after_a_crash_is_no_second_failure():
    kinds = [OK] * 5 + [REFUSED] * 8 + [OK] * 2
    outcomes = seen({"h1/a": [*kinds, TIMEOUT], "h2/b": [*kinds, OK]})

    assert verdict_of("web1", outcomes, now=8).state is VerdictState.FLAPPING


def test_second_looks_of_one_turn_are_not_two_refusals_in_a_row():
    rare = replace(web(), check=Check(interval_s=2.0))
    both = ("h1/a", "h2/b")
    for moments, expected in (([4, 4.5, 5], VerdictState.SUSPECT), ([4, 4.5, 5, 6], VerdictState.FAILED)):
        outcomes = [outcome("web1", at_s, service="web", vantage=v) for at_s in (0, 2) for v in both]
        outcomes += [
            outcome("web1", at_s, REFUSED, service="web", vantage=v) for at_s in moments for v in both
        ]

        assert verdict_of("web1", outcomes, now=moments[-1], service=rare).state is expected


def test_a_service_that_restarts_slowly_is_given_the_time_that_its_check_names():
    patient = replace(web(), check=Check(restart_s=1.5))
    for down, expected in ((3, VerdictState.SUSPECT), (4, VerdictState.FAILED)):
        kinds = [OK] * 5 + [REFUSED] * down
        outcomes = seen({"h1/a": kinds, "h2/b": kinds})

        assert verdict_of("web1", outcomes, now=len(kinds) * 0.5, service=patient).state is expected


def test_one_vantage_alone_is_blind_however_sure_it_is():
    outcomes = seen({"h1/a": [REFUSED] * 8})

    verdict = verdict_of("web1", outcomes, now=4)

    assert verdict.state is VerdictState.BLIND
    assert verdict.vantages == ("h1/a",)


def test_observers_that_fell_silent_are_blind_and_the_target_is_not_dead():
    outcomes = seen({"h1/a": [OK] * 4, "h2/b": [OK] * 4})

    assert verdict_of("web1", outcomes, now=30).state is VerdictState.BLIND


def test_a_stale_vantage_does_not_outvote_the_fresh_ones():
    stale = [outcome("web1", n * 0.5, REFUSED, service="web", vantage="h3/c") for n in range(4)]
    fresh = [
        outcome("web1", 8 + n * 0.5, OK, service="web", vantage=v) for v in ("h1/a", "h2/b") for n in range(4)
    ]

    assert verdict_of("web1", stale + fresh, now=10).state is VerdictState.HEALTHY


def test_of_three_vantages_two_make_the_quorum():
    outcomes = seen({"h1/a": [REFUSED] * 2, "h2/b": [REFUSED] * 2, "h3/c": [OK] * 2})

    assert verdict_of("web1", outcomes, now=1).state is VerdictState.FAILED


def test_silence_at_two_of_three_vantages_takes_longer_to_be_believed():
    for probes, expected in ((5, VerdictState.SUSPECT), (6, VerdictState.FAILED)):
        kinds = {"h1/a": [TIMEOUT] * probes, "h2/b": [TIMEOUT] * probes, "h3/c": [OK] * probes}

        assert verdict_of("web1", seen(kinds), now=probes * 0.5).state is expected


def test_a_failure_is_dated_back_to_its_first_failed_probe():
    outcomes = seen({"h1/a": [OK, REFUSED, REFUSED, REFUSED], "h2/b": [OK, OK, REFUSED, REFUSED]})

    assert verdict_of("web1", outcomes, now=2).failing_since == at(0.5)


def test_an_instance_that_nobody_probed_is_blind():
    assert verdict_of("web2", [], now=1).state is VerdictState.BLIND


def standby(instance, count=10, primary_kinds=None, **facts):
    kinds = primary_kinds or [OK] * count
    outcomes = []
    for vantage in ("h1/a", "h2/b"):
        outcomes += [
            outcome("pg1", n * 0.5, kind, vantage=vantage, in_recovery=False) for n, kind in enumerate(kinds)
        ]
        outcomes += [outcome(instance, n * 0.5, OK, vantage=vantage, **facts) for n in range(count)]
    return outcomes


@pytest.mark.parametrize(
    ("facts", "count", "expected"),
    [
        ({"in_recovery": True, "receiving": True}, 10, VerdictState.HEALTHY),
        ({"in_recovery": True, "receiving": False}, 10, VerdictState.FAILED),
        ({"in_recovery": True, "receiving": False}, 4, VerdictState.SUSPECT),
        ({"in_recovery": False}, 10, VerdictState.FAILED),
        ({"in_recovery": False}, 4, VerdictState.SUSPECT),
    ],
)
def test_a_standby_must_be_in_recovery_and_follow(facts, count, expected):
    outcomes = standby("pg2", count, **facts)

    assert verdict_of("pg2", outcomes, count * 0.5, database(), "pg1").state is expected


@pytest.mark.parametrize(
    ("of_primary", "expected"),
    [(ERROR, VerdictState.SUSPECT), (OK, VerdictState.FAILED), (TIMEOUT, VerdictState.FAILED)],
)
def test_a_standby_that_refuses_us_as_the_primary_does_is_left_alone(of_primary, expected):
    """A wrong password of ours is refused by all of them: none is restarted, rewound or rebuilt for it."""
    kinds = {"h1/a": [ERROR] * 5, "h2/b": [ERROR] * 5}
    outcomes = seen(kinds, "pg2", "db")
    outcomes += seen({vantage: [of_primary] * 5 for vantage in kinds}, "pg1", "db", in_recovery=False)

    verdict = verdict_of("pg2", outcomes, 2.5, service=database(), primary="pg1")

    assert verdict.state is expected
    assert verdict.evidence.startswith("answers as the primary does") is (of_primary is ERROR)


@pytest.mark.parametrize(
    ("of_primary", "of_standby", "expected"),
    [
        # The right password is back: whoever is asked first answers first.
        ([ERROR] * 10 + [OK], [ERROR] * 11, VerdictState.SUSPECT),
        ([ERROR] * 10 + [OK] * 2, [ERROR] * 11 + [OK], VerdictState.HEALTHY),
        ([ERROR] * 6 + [OK] * 5, [ERROR] * 11, VerdictState.FAILED),
        ([ERROR] * 11, [REFUSED] * 11, VerdictState.FAILED),
    ],
)
def test_what_both_refused_counts_against_no_standby_once_the_primary_lets_us_in(
    of_primary, of_standby, expected
):
    outcomes = seen({"h1/a": of_standby, "h2/b": of_standby}, "pg2", "db", in_recovery=True, receiving=True)
    outcomes += seen({"h1/a": of_primary, "h2/b": of_primary}, "pg1", "db", in_recovery=False)

    assert verdict_of("pg2", outcomes, 5.5, service=database(), primary="pg1").state is expected


@pytest.mark.parametrize(
    ("primary_kinds", "expected"),
    [([REFUSED] * 10, VerdictState.HEALTHY), ([REFUSED] * 9 + [OK], VerdictState.SUSPECT)],
)
def test_a_standby_that_hears_nothing_while_the_primary_is_away_has_not_failed(primary_kinds, expected):
    """Deafness is counted anew from the moment at which there is somebody to hear."""
    outcomes = standby("pg2", 10, primary_kinds, in_recovery=True, receiving=False)

    assert verdict_of("pg2", outcomes, 5, database(), "pg1").state is expected


def test_a_dead_primary_is_named_with_its_evidence():
    outcomes = [
        outcome("pg1", n * 0.5, REFUSED, vantage=v, agent={"postmaster": "exited", "epoch": 1})
        for v in ("h1/a", "h2/b")
        for n in range(2)
    ]

    verdict = verdict_of("pg1", outcomes, 1, database(), "pg1")

    assert verdict.state is VerdictState.FAILED
    assert verdict.evidence == "E1: its agent saw the postmaster exit"
    assert verdict.failing_since == at(0)


def test_a_primary_that_fails_a_probe_is_suspect_until_there_is_evidence():
    outcomes = seen({"h1/a": [OK, TIMEOUT], "h2/b": [OK, OK]}, "pg1", "db")

    assert verdict_of("pg1", outcomes, 1, database(), "pg1").state is VerdictState.SUSPECT


def test_without_a_recorded_primary_nodes_are_judged_as_plain_instances():
    outcomes = seen({"h1/a": [REFUSED] * 2, "h2/b": [REFUSED] * 2}, "pg1", "db")

    assert verdict_of("pg1", outcomes, 1, database()).state is VerdictState.FAILED


def silent_primary(sent, now, vantages=("h1/a", "h2/b")):
    """No answer to probes sent at these seconds, and standbys that hear nothing now."""
    outcomes = [outcome("pg1", when, TIMEOUT, vantage=v, agent=None) for v in vantages for when in sent]
    for node in ("pg2", "pg3"):
        outcomes += [
            outcome(node, now - 0.5, OK, vantage=v, in_recovery=True, receiving=False) for v in vantages
        ]
    return verdict_of("pg1", outcomes, now, database(), "pg1")


def test_silence_is_counted_over_the_probes_that_were_really_sent():
    assert silent_primary([n * 0.5 for n in range(7)], 3.5).state is VerdictState.FAILED


def test_observers_that_were_paused_do_not_take_their_pause_for_silence():
    """A host that sleeps for 10 s: a probe before it, one after it. Two are no 10 s of silence."""
    verdict = silent_primary([0.0, 10.0], 10.5)

    assert verdict.state is VerdictState.SUSPECT
    assert verdict.failing_since == at(10.0)


def test_a_clock_that_was_ahead_does_not_speak_for_the_future():
    """It was set back by a minute: what it stamped before would be the newest word for that minute."""
    old = [outcome("pg1", 60 + n * 0.5, REFUSED, vantage=v) for v in ("h1/a", "h2/b") for n in range(4)]
    new = [outcome("pg1", n * 0.5, OK, vantage=v) for v in ("h1/a", "h2/b") for n in range(4)]

    assert verdict_of("pg1", old + new, 2, database(), "pg1").state is VerdictState.HEALTHY


def test_a_vantage_whose_clock_is_ahead_is_named_when_it_is_missed():
    ahead = [outcome("pg1", 60 + n * 0.5, OK, vantage="h2/b") for n in range(4)]
    well = [outcome("pg1", n * 0.5, OK, vantage="h1/a") for n in range(4)]

    verdict = verdict_of("pg1", ahead + well, 2, database(), "pg1")

    assert verdict.state is VerdictState.BLIND
    assert "the clock of h2/b is ahead of ours" in verdict.evidence


def test_a_hanging_set_is_no_death_and_says_what_it_calls_for():
    outcomes = [
        outcome("pg1", n * 0.5, OK, vantage=v, in_recovery=False, waits={"sync": "17@t"}, lsn=n)
        for v in ("h1/a", "h2/b")
        for n in range(21)
    ]

    verdict = verdict_of("pg1", outcomes, 10.5, database(), "pg1")

    assert (verdict.state, verdict.remedy) == (VerdictState.SUSPECT, Remedy.CHANGE_SET)
    assert verdict.evidence.startswith("E5 (set): a commit hangs for 10 s")
    assert verdict.failing_since == at(0)
