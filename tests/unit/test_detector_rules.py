"""What the detector keeps to, whatever the probes come to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.model.platform import Check
from ha_tasks.model.probe import OutcomeKind, Target
from ha_tasks.model.verdict import VerdictState
from ha_tasks.recovery.failure_detector import DetectorSettings, FailureDetector
from tests.unit.builders import at, outcome

OK, REFUSED = OutcomeKind.OK, OutcomeKind.REFUSED
TARGET = Target(service="web", instance="web1")
VANTAGES = ("h1/a", "h2/b", "h3/c")
EVERY_S = 0.5
CHECK = Check(interval_s=EVERY_S, timeout_s=0.5)
DETECTOR = FailureDetector(DetectorSettings())

kinds = st.lists(st.sampled_from(OutcomeKind), min_size=1, max_size=30)
rounds = st.lists(st.tuples(*[st.sampled_from(OutcomeKind)] * 3), min_size=1, max_size=30)


def probed(many):
    """``many``: what each round of the three vantages came to."""
    return [
        outcome(
            "web1",
            number * EVERY_S + 0.1 * place,
            kind,
            service="web",
            vantage=vantage,
            rtt_s=0.5 if kind is OutcomeKind.TIMEOUT else 0.002,
        )
        for number, found in enumerate(many)
        for place, (vantage, kind) in enumerate(zip(VANTAGES, found, strict=True))
    ]


def judged(many, outcomes=None, later_s=0.0):
    return DETECTOR.judge(TARGET, outcomes or probed(many), at(len(many) * EVERY_S + later_s), CHECK)


@given(many=rounds, seed=st.randoms(use_true_random=False))
def test_it_does_not_matter_in_which_order_and_how_often_outcomes_arrive(many, seed):
    mixed = probed(many) + [each for each in probed(many) if seed.random() < 0.5]
    seed.shuffle(mixed)

    assert judged(many, mixed) == judged(many)


@given(alone=kinds, place=st.integers(0, 2))
def test_one_vantage_of_three_never_condemns(alone, place):
    many = [tuple(kind if n == place else OK for n in range(3)) for kind in alone]

    assert not judged(many).is_alarm


@given(before=rounds)
def test_what_everybody_is_refused_twice_has_failed_whatever_was_before(before):
    assert judged([*before, (REFUSED,) * 3, (REFUSED,) * 3]).state is VerdictState.FAILED


@given(before=rounds)
def test_what_is_well_for_long_enough_is_healthy_whatever_was_before(before):
    assert judged([*before, *[(OK,) * 3] * 30]).state is VerdictState.HEALTHY


@given(many=rounds)
def test_observers_that_fall_silent_are_blind_and_condemn_nobody(many):
    assert judged(many, later_s=5.0).state is VerdictState.BLIND


@given(many=rounds)
def test_what_answers_everybody_now_is_not_failed(many):
    assert judged([*many, (OK,) * 3]).state is not VerdictState.FAILED
