"""The engine of drills, on faults that only leave a record and a load whose answers the test makes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ha_tasks.errors import Refused
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.drill import DrillVerdict
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.load import Ack, LoadReport
from ha_tasks.model.platform import ManagedBy, ServiceKind
from ha_tasks.model.scenario import Deed
from ha_tasks.workflows.drills import DRILL_SWITCH, Drills, DrillTools
from ha_tasks.workflows.drills.site import service_of
from tests.fakes.clock import FakeClock
from tests.fakes.faults import FakeApplications, FakeFaults, FakeLoad, FakeLoads
from tests.fakes.repositories import FakeStore
from tests.unit.builders import T0, database, outcome, platform

NODES = ("pg1", "pg2", "pg3")
EVIDENCE = {"primary.db": "pg1", "timeline.db": 3}


class Place:
    """A cluster whose nodes answer at each look, and a load that is always acknowledged."""

    def __init__(self, *, load=None):
        self.clock, self.store, self.platform = FakeClock(T0), FakeStore(), platform()
        self.clock.on_pause = self.observe
        self.silent, self.others = set(), ()
        self.store.clusters.register(
            Cluster(
                name="db",
                epoch=4,
                primary="pg1",
                state=ClusterState.STEADY,
                sets=(sync_set_of(("pg2", "pg3")),),
            ),
            T0,
        )
        self.faults = FakeFaults(clock=self.clock, running=set(NODES), counted=EVIDENCE)
        self.load = load or FakeLoad(report=self.answered)
        self.application = FakeLoad(report=self.answered)
        self.told = []
        self.observe()

    def observe(self):
        nodes = [n for n in (*NODES, *self.others) if n not in self.silent]
        self.store.observations.record([outcome(n, self.clock.elapsed_s) for n in nodes])

    def answered(self, every_s=0.1):
        """One acknowledgement each tenth of a second until now, all there when read back."""
        count = int(self.clock.elapsed_s / every_s) + 1
        moments = [T0 + timedelta(seconds=n * every_s) for n in range(count)]
        acks = tuple(
            Ack(writer=0, seq=n, node="pg1", timeline=3, sent_at=at, acked_at=at)
            for n, at in enumerate(moments)
        )
        return LoadReport(acks=acks, misses=(), present=frozenset((a.writer, a.seq) for a in acks))

    def fails(self, instance, kind):
        """What detection would open."""
        now = self.clock.now()
        self.store.incidents.open(
            key=f"db/{instance}/{kind}",
            service="db",
            instance=instance,
            kind=kind,
            severity="critical",
            summary=f"{instance} of db: gone",
            fault_at=now,
            now=now,
            actor="h/observer",
            evidence={},
        )

    def drill(self, name):
        tools = DrillTools(
            platform=self.platform,
            clusters=self.store.clusters,
            incidents=self.store.incidents,
            journal=self.store.journal,
            limits=self.store.limits,
            observations=self.store.observations,
            drills=self.store.drills,
            clock=self.clock,
            faults=self.faults,
            loads=FakeLoads(self.load),
            applications=FakeApplications(self.application),
            actor="h/drill",
        )
        return Drills(tools, self.told.append).run(name)

    def is_tidy(self):
        """Nothing is left of the drill: no fault, no load, no switch; and it was told."""
        loads = self.load.is_on or self.application.is_on
        switched = self.store.limits.switch(DRILL_SWITCH)
        return not (self.faults.lasting or loads or switched) and len(self.store.drills.latest()) == 1


@pytest.fixture
def place():
    return Place()


def test_a_fault_that_may_change_nothing_and_does_not_passes_and_is_healed(place):
    report = place.drill("lose-agent")

    assert (report.verdict, report.reasons) == (DrillVerdict.PASS, ())
    assert place.faults.injected == [(Deed.KILL_AGENT, "pg1")]
    assert place.is_tidy()


def test_what_users_of_an_application_saw_from_the_fault_on_stands_in_the_report(place):
    report = place.drill("lose-agent")

    assert report.served is not None
    assert report.served.failed == 0
    # 10 s of fault and 3 s of aftermath, ten requests a second.
    assert 125 <= report.served.requests <= 140


def test_an_incident_where_none_may_be_fails(place):
    place.faults.suffer = lambda deed, target: place.fails("pg1", IncidentKind.PRIMARY_DOWN)

    report = place.drill("lose-agent")

    assert report.verdict is DrillVerdict.FAIL
    assert "an incident was opened, none may be" in report.reasons
    assert place.is_tidy()


def test_of_several_incidents_at_once_the_first_is_followed(place):
    """Whatever run there is, it is of that one; the others are refused beside it."""

    def suffer(deed, target):
        place.fails("pg1", IncidentKind.PRIMARY_DOWN)
        place.fails("pg2", IncidentKind.PRIMARY_DOWN)

    place.faults.suffer = suffer

    assert place.drill("lose-agent").incident == 1


def test_a_platform_that_is_not_whole_is_not_hurt(place):
    place.silent.add("pg3")
    place.clock.advance(5)

    report = place.drill("lose-agent")

    assert report.verdict is DrillVerdict.INCONCLUSIVE
    assert "pg3 does not answer" in report.reasons[0]
    assert place.faults.injected == []


@pytest.mark.parametrize("synchronous", [True, False])
def test_only_who_may_be_in_the_set_is_missed_there(place, synchronous):
    service = database()
    far = replace(service.instances[2], name="pg4", synchronous=synchronous)
    place.platform = platform(replace(service, instances=(*service.instances, far)))
    place.others = ("pg4",)

    report = place.drill("lose-agent")

    assert (report.verdict is DrillVerdict.PASS) is not synchronous
    assert ("(pg2, pg3), not (pg2, pg3, pg4)" in "".join(report.reasons)) is synchronous


def test_what_cannot_be_injected_here_says_what_it_lacks(place):
    place.faults.lacking[Deed.DARKEN] = "there is no iptables here: `apt-get install iptables`"

    report = place.drill("dark-primary")

    assert report.verdict is DrillVerdict.INCONCLUSIVE
    assert report.reasons == ("there is no iptables here: `apt-get install iptables`",)
    assert place.faults.injected == []


def test_a_victim_that_is_not_there_is_never_a_pass(place):
    place.faults.running.clear()

    report = place.drill("lose-agent")

    assert report.verdict is not DrillVerdict.PASS
    assert "pg1 does not run" in report.reasons
    assert place.is_tidy()


def test_what_is_missing_after_the_fault_is_left_behind(place):
    def suffer(deed, target):
        place.silent.add("pg2")

    place.faults.suffer = suffer

    report = place.drill("lose-agent")

    assert report.verdict is DrillVerdict.FAIL
    assert report.left == ("pg2 does not answer",)


@pytest.mark.parametrize("by", [ManagedBy.PATRONI, ManagedBy.EXTERNAL])
def test_what_others_lead_is_not_rehearsed_on_and_nothing_is_touched(by):
    """Its servers would be killed, and somebody else would mend them."""
    place = Place()
    place.platform.services["db"] = replace(place.platform.services["db"], managed_by=by)

    with pytest.raises(Refused, match=r"db is led by .* never acted on"):
        place.drill("crash-primary")

    assert place.faults.injected == []
    assert place.store.limits.switches() == ()


def test_of_two_databases_the_one_that_is_ours_is_rehearsed_on():
    led = replace(database(), name="old", managed_by=ManagedBy.EXTERNAL)

    assert service_of(platform(led, database()), ServiceKind.POSTGRES).name == "db"
