"""The verdict of a drill: what was not seen is INCONCLUSIVE, what was wrong is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.model.drill import DrillReport, DrillVerdict, Observed, Served, judge_drill, merged
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.run import RunState
from ha_tasks.model.scenario import Expected
from tests.unit.builders import T0

EXPECTED = Expected(
    incident=(IncidentState.RESOLVED,),
    run=(RunState.SUCCEEDED,),
    unchanged=("primary.db",),
    grown_by_one=("timeline.db",),
)
GOOD = Observed(
    incident=IncidentState.RESOLVED,
    run=RunState.SUCCEEDED,
    outage_s=1.5,
    rto_s=30.0,
    acked_after=100,
    failed=7,
    lost=0,
    stale=0,
    before={"timeline.db": 3, "primary.db": "pg1"},
    after={"timeline.db": 4, "primary.db": "pg1"},
)


def test_what_came_as_expected_passes():
    assert judge_drill(EXPECTED, GOOD) == (DrillVerdict.PASS, ())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"incident": IncidentState.ESCALATED}, "the incident is escalated, expected resolved"),
        ({"run": RunState.ROLLED_BACK}, "the run is rolled_back, expected succeeded"),
        ({"lost": 2}, "2 acknowledged writes are lost"),
        ({"stale": 1}, "1 writes were acknowledged by a superseded primary"),
        ({"acked_after": 0}, "nothing was acknowledged after the fault"),
        ({"outage_s": None}, "it was away again when the load ended"),
        ({"outage_s": 31.0}, "the outage of 31.0 s is above the objective of 30 s"),
        ({"after": {"timeline.db": 5, "primary.db": "pg1"}}, "the effect was not applied once"),
        ({"after": {"primary.db": "pg1"}}, "the effect was not applied once"),
        ({"after": {"timeline.db": 4, "primary.db": "pg2"}}, "primary.db was pg1 and is pg2"),
        ({"left": ("pg1 does not answer",)}, "left behind: pg1 does not answer"),
    ],
)
def test_what_is_wrong_fails_and_is_named(change, text):
    verdict, reasons = judge_drill(EXPECTED, replace(GOOD, **change))

    assert verdict is DrillVerdict.FAIL
    assert any(text in reason for reason in reasons)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"incident": None}, "no incident was opened"),
        ({"run": None}, "no run was started"),
        ({"lost": None}, "acknowledged writes could not be read back"),
        ({"missed": ("nobody came to the boundary",)}, "nobody came to the boundary"),
    ],
)
def test_what_was_not_seen_is_inconclusive_and_never_a_pass(change, text):
    verdict, reasons = judge_drill(EXPECTED, replace(GOOD, **change))

    assert verdict is DrillVerdict.INCONCLUSIVE
    assert reasons == (text,)


def test_a_failed_request_fails_only_where_none_may():
    strict = replace(EXPECTED, zero_failed=True)

    assert judge_drill(strict, GOOD)[0] is DrillVerdict.FAIL
    assert judge_drill(strict, replace(GOOD, failed=0))[0] is DrillVerdict.PASS


def test_where_nothing_may_be_done_an_incident_fails_and_none_passes():
    nothing = Expected(no_incident=True)
    quiet = replace(GOOD, incident=None, run=None)

    assert judge_drill(nothing, quiet) == (DrillVerdict.PASS, ())
    assert judge_drill(nothing, GOOD) == (DrillVerdict.FAIL, ("an incident was opened, none may be",))


def test_an_outage_is_measured_against_what_is_promised():
    slow = replace(GOOD, outage_s=4.0)

    assert judge_drill(EXPECTED, slow)[0] is DrillVerdict.PASS
    assert judge_drill(replace(EXPECTED, outage_at_most_s=3.0), slow)[0] is DrillVerdict.FAIL
    unpromised = replace(EXPECTED, outage_is_promised=False)
    assert judge_drill(unpromised, replace(GOOD, outage_s=99.0))[0] is DrillVerdict.PASS


def test_several_rounds_are_as_good_as_their_worst():
    good = report_of(DrillVerdict.PASS, outage_s=1.0)
    bad = replace(report_of(DrillVerdict.FAIL, outage_s=0.5), reasons=("it is lost",), lost=2)
    doubtful = replace(report_of(DrillVerdict.INCONCLUSIVE, outage_s=0.5), lost=None)

    assert merged("x", [good, good]).verdict is DrillVerdict.PASS
    assert merged("x", [good, doubtful]).verdict is DrillVerdict.INCONCLUSIVE
    assert merged("x", [good, doubtful]).lost is None
    whole = merged("x", [good, bad])
    assert (whole.verdict, whole.reasons) == (DrillVerdict.FAIL, ("round 2: it is lost",))
    assert (whole.acked, whole.lost) == (200, 2)
    assert len(whole.to_json()["rounds"]) == 2


def test_the_report_has_the_promised_form():
    served = Served(requests=20, failed=1, longest_gap_s=1.6)
    report = replace(report_of(DrillVerdict.PASS, outage_s=1.5), served=served).to_json()

    promised = [
        "schema",
        "scenario",
        "verdict",
        "outage_s",
        "detected_s",
        "decided_s",
        "acted_s",
        "verified_s",
        "writes",
        "rto",
        "rpo",
        "steps",
        "incident",
        "run",
        "application",
        "timeline",
        "left",
    ]
    assert set(promised) <= set(report)
    assert report["writes"] == {"acked": 100, "failed": 3, "lost": 0, "stale": 0}
    assert report["rto"] == {"objective_s": 30.0, "measured_s": 1.5}
    assert report["application"] == {"requests": 20, "failed": 1, "longest_gap_s": 1.6}


def report_of(verdict: DrillVerdict, *, outage_s: float) -> DrillReport:
    return DrillReport(
        scenario="lose-primary",
        verdict=verdict,
        reasons=(),
        injected_at=T0,
        outage_s=outage_s,
        detected_s=0.6,
        decided_s=0.7,
        acted_s=1.2,
        verified_s=1.6,
        acked=100,
        lost=0,
        stale=0,
        failed=3,
        rto_objective_s=30.0,
        rpo_objective_s=0.0,
        steps=({"action": "open_epoch", "state": "done", "seconds": 0.01},),
        incident=1,
        run=1,
    )
