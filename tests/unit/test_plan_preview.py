"""A plan before it runs: each step's difference, how it reads at 80 columns, and that nothing is done."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace

import pytest

from ha_tasks.bootstrap.own_actions import Actions
from ha_tasks.cli.lines import BAD, GOOD, WARN, Line, text_of
from ha_tasks.cli.plan import subject
from ha_tasks.cli.plan_view import changed, changed_lines, described, duration, lines, short
from ha_tasks.cli.shown_plans import KEPT, keep, recall
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.service_discovery import ServiceRegistry
from ha_tasks.model.guards import Guard, Refusal
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.plan_hash import plan_hash
from ha_tasks.model.playbook import Plan
from ha_tasks.names import ActionName
from ha_tasks.ports.action import Change, Difference
from ha_tasks.workflows.actions import http
from ha_tasks.workflows.preview import PreviewedStep, foretold, preview
from ha_tasks.workflows.situation import SituationReader
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.host import FakeHostAgents
from tests.fakes.repositories import FakeStore
from tests.plans import plan_of
from tests.unit.builders import platform, web
from tests.unit.test_postgres_failover import World


def text(shown: Iterable[Line]) -> str:
    return "\n".join(text_of(line) for line in shown)


class Cluster:
    """A toy cluster and the plan for a failure in it."""

    def __init__(self) -> None:
        self.world = World()
        store = self.world.store
        self.situation = SituationReader(clusters=store.clusters, wanted=store.wanted)
        self.planner = RecoveryPlanner(self.world.platform, load_playbooks(), {}, self.situation)

    def plan(self, kind: IncidentKind = IncidentKind.PRIMARY_DOWN, instance: str | None = None) -> Plan:
        primary = self.world.store.clusters.get("db").primary
        now = self.world.clock.now()
        self.incident = subject(self.world.service, (), primary, instance, now, kind=kind)
        return self.planner.create_recovery_plan(self.incident)

    def seen(self, plan: Plan) -> dict[str, PreviewedStep]:
        steps = preview(plan, self.world.service, self.incident, Actions(self.world.actions))
        return {step.planned.id: step for step in steps}

    def described(self, plan: Plan, *refused: Refusal) -> dict:
        return described(
            self.world.service,
            self.incident,
            plan,
            steps=tuple(self.seen(plan).values()),
            predicted=foretold(plan, self.world.store.journal, self.world.store.incidents),
            refused=refused,
        )


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.world.kill("pg1")
    return made


def test_a_failover_is_told_thing_by_thing_before_it_happens(cluster: Cluster):
    seen = cluster.seen(cluster.plan())

    assert {name: list(map(tell, step.difference.changes)) for name, step in seen.items()} == {
        "open_epoch": ["epoch of db: 1 steady -> 2 failing"],
        "isolate_primary": ["pg_write/pg1: ready -> maint, sessions ended"],
        "fence_primary": ["pg1: postgres exited -> every process ended (SIGKILL)"],
        "revoke_standbys": [
            "pg2: follows pg1 -> receives from nobody",
            "pg3: follows pg1 -> receives from nobody",
        ],
        "choose_candidate": ["candidate: none -> pg2"],
        "repoint_survivors": ["pg3: receives from nobody -> follows pg2"],
        "promote_candidate": [
            "pg2: standby -> primary, on a new timeline",
            "commits of pg2: none -> wait for ANY 1 (pg3)",
        ],
        "route_writes": ["pg_write/pg2: maint -> ready", "pg_read/pg2: ready -> maint"],
        "commit_primary": [
            "primary of db: pg1 -> pg2",
            "synchronous set: ANY 1 (pg2, pg3) -> ANY 1 (pg3)",
            "state of db: failing -> steady",
        ],
        "verify_service": [],
    }
    assert not any(step.trouble or step.difference.doubt for step in seen.values())


def tell(change: Change) -> str:
    return f"{change.what}: {change.before} -> {change.after}"


def test_what_was_told_is_what_happens(cluster: Cluster):
    told = cluster.seen(cluster.plan())
    cluster.world.recover()

    recorded, balancer = cluster.world.store.clusters.get("db"), cluster.world.haproxy
    after = {c.what: c.after for step in told.values() for c in step.difference.changes}
    assert after["primary of db"] == recorded.primary
    assert after["synchronous set"] == recorded.sets[0].setting()
    for backend in ("pg_write", "pg_read"):
        for server, state in balancer.states(backend).items():
            if f"{backend}/{server}" in after:
                assert after[f"{backend}/{server}"].startswith(state)


def test_a_plan_does_nothing(cluster: Cluster):
    nodes = copy.deepcopy(cluster.world.toy.nodes)
    before = cluster.world.store.clusters.get("db"), cluster.world.store.wanted.all()

    for kind, instance in ((IncidentKind.PRIMARY_DOWN, None), (IncidentKind.STANDBY_DOWN, "pg3")):
        cluster.described(cluster.plan(kind, instance))

    assert cluster.world.toy.nodes == nodes
    assert (cluster.world.store.clusters.get("db"), cluster.world.store.wanted.all()) == before
    assert cluster.world.store.journal.recent() == ()


def test_what_the_protocol_would_refuse_is_told_before(cluster: Cluster):
    cluster.world.kill("pg2", agent=True)
    cluster.world.kill("pg3", agent=True)

    content = cluster.described(cluster.plan())

    trouble = {s["id"]: s["trouble"] for s in content["steps"] if s["trouble"]}
    assert trouble == {
        "revoke_standbys": "it would refuse: nobody could be revoked now",
        "choose_candidate": "it would refuse: none of them answers now",
    }
    assert "about the candidate, whoever it will be" in text(lines(content))
    assert "revoke_standbys: it would refuse" in text(short(content))


def test_a_candidate_without_a_standby_is_told_before(cluster: Cluster):
    cluster.world.kill("pg3", agent=True)

    doubt = cluster.seen(cluster.plan())["choose_candidate"].difference.doubt

    assert doubt == "it would refuse: pg2 would have no standby"


def test_a_node_that_comes_back_is_told_thing_by_thing(cluster: Cluster):
    cluster.world.recover()

    seen = cluster.seen(cluster.plan(IncidentKind.STANDBY_DOWN))

    assert cluster.incident.instance == "pg1"
    told = [tell(change) for step in seen.values() for change in step.difference.changes]
    assert told == [
        "pg1: postgres exited -> follows pg2",
        "synchronous set: ANY 1 (pg3) -> ANY 1 (pg1, pg3)",
        "pg_read/pg1: maint -> ready",
    ]
    inside = cluster.seen(cluster.plan(IncidentKind.STANDBY_DOWN, "pg3"))
    assert inside["widen_sync_set"].difference.text == "pg3 is in the set: nothing to do"


def test_a_cluster_that_is_not_in_care_is_told_as_trouble(cluster: Cluster):
    plan = cluster.plan()
    stranger = replace(cluster.world.service, name="other")

    steps = preview(plan, stranger, cluster.incident, cluster.world.actions)

    assert "other is not in care yet; look first: ha-tasks adopt other" in steps[0].trouble


def test_the_situation_is_part_of_the_plan_and_of_its_hash(cluster: Cluster):
    first = cluster.plan()
    assert first.situation == {
        "primary": "pg1",
        "sets": [{"quorum": 1, "members": ["pg2", "pg3"]}],
        "unfinished": [],
    }
    cluster.world.recover()

    second = cluster.plan()

    assert plan_hash(first) != plan_hash(second)
    said = text(changed_lines(changed(first, second)))
    assert f"the plan is another one now: {plan_hash(second)[:12]}" in said
    assert "situation.primary  pg1 -> pg2" in said
    assert "was not shown from this home" in text(changed_lines(changed(None, second)))
    assert SituationReader(clusters=FakeStore().clusters, wanted=FakeStore().wanted)(
        cluster.world.service
    ) == {"primary": None}


def test_it_reads_within_80_columns_and_marks_the_point_of_no_return(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    refused = Refusal(guard=Guard.BLIND, detail="too few fresh vantages")
    cooling = Refusal(guard=Guard.COOL_DOWN, detail="db cools down for 9 s")

    content = cluster.described(cluster.plan(), refused, cooling)

    shown = text(lines(content))
    assert max(map(len, shown.splitlines())) <= 80
    assert max(map(len, text(short(content)).splitlines())) <= 80
    above, below = shown.split("---- no way back from here: nothing is undone, a person is called ----")
    assert "undone" in above
    assert "none" not in above.replace("none -> pg2", "")
    assert "promote_candidate" in below.splitlines()[1]
    assert "undone" not in below
    assert "refused now by blind: too few fresh vantages\nrefused now by cool_down: db cools" in shown
    assert shown.count("a person's `ha-tasks recover` passes it") == 1
    assert f"ha-tasks recover db --plan {content['hash'][:12]}" in shown
    assert "[no way back:] promote_candidate" in text(short(content))
    assert "no history: limits add up to 3 min 30 s, objective 30 s" in shown


def test_after_a_recovery_its_figures_are_the_history(cluster: Cluster):
    cluster.world.recover()
    content = cluster.described(cluster.plan())

    assert content["duration"]["history"]["n"] == 1
    assert content["steps"][0]["history"]["n"] == 1
    assert "n 1, objective 30 s" in text(lines(content))
    assert "no guard would refuse it now" in text(lines(content))


@pytest.mark.parametrize(
    ("expected", "p90", "guessed", "styles"),
    [
        (2.0, 3.0, False, (GOOD, "")),
        (2.0, 31.0, False, (GOOD, WARN)),
        (31.0, 40.0, False, (BAD, "")),
        (31.0, None, False, (BAD,)),
        (2.0, None, False, (GOOD,)),
        (99.0, None, True, (WARN,)),
        (9.0, None, True, (GOOD,)),
    ],
)
def test_a_duration_above_the_objective_is_red(
    expected: float, p90: float | None, guessed: bool, styles: tuple[str, ...]
):
    history = None if p90 is None else {"n": 3, "median_s": expected, "p90_s": p90}
    line = duration(
        {
            "expected_s": expected,
            "guessed": guessed,
            "limit_s": expected,
            "objective_s": 30.0,
            "history": history,
        }
    )

    assert tuple(part[1] for part in line if not isinstance(part, str)) == styles


class Web:
    """HTTP instances behind a balancer, their actions, and a plan for web1."""

    def __init__(self, service=None) -> None:
        self.service = service or web()
        self.platform = platform(self.service)
        self.store, clock = FakeStore(), FakeClock()
        self.agents = FakeHostAgents(primary="pg1", units=["web1", "web2", "web3"])
        registry = ServiceRegistry(self.platform, self.store.wanted, self.store.registrations)
        balancer = LoadBalancer({"edge": FakeBalancer({})}, self.store.wanted, clock)
        tools = http.HttpTools(
            balancer=balancer, registry=registry, units=self.agents, prober=None, clock=clock
        )
        self.actions = {
            ActionName.TAKE_OUT: http.TakeOut(tools),
            ActionName.SPARE_IN: http.SpareIn(tools),
            ActionName.RESTART_INSTANCE: http.RestartInstance(tools),
            ActionName.PUT_BACK: http.PutBack(tools),
            ActionName.SPARE_OUT: http.SpareOut(tools),
        }
        self.now = clock.now()

    def seen(self, instance: str = "web1") -> dict[str, Difference]:
        incident = subject(self.service, (), None, instance, self.now)
        plan = RecoveryPlanner(self.platform, load_playbooks()).create_recovery_plan(incident)
        ours = replace(plan, steps=plan.steps[:-1])
        steps = preview(ours, self.service, incident, self.actions)
        return {step.planned.id: step.difference for step in steps}


def test_an_http_recovery_is_told_thing_by_thing():
    seen = Web().seen()

    assert {name: list(map(tell, difference.changes)) for name, difference in seen.items()} == {
        "take_out": ["web/web1: ready -> maint"],
        "spare_in": ["web/web3: maint -> ready"],
        "restart_instance": ["unit web1 on app: not running -> restarted"],
        "put_back": ["web/web1: maint -> ready"],
        "spare_out": ["web/web3: ready -> drain, then maint"],
    }


def test_what_would_not_be_done_is_told_too():
    bare = replace(web(), routing=None, instances=(replace(web().instances[0], unit=None),))
    seen = Web(bare).seen()

    assert seen["take_out"].text == "no balancer serves web: nothing to do"
    assert seen["spare_in"].text == "no spare is free: nothing to do"
    assert seen["restart_instance"].doubt == "it would fail: web1 has no unit"
    assert seen["put_back"].text == "web1 is no active server of a balancer: nothing to do"
    assert seen["spare_out"].text == "no spare was put in: nothing to do"
    last = replace(web(), instances=web().instances[:1])
    assert Web(last).seen()["take_out"].text == "web1 is the last one: the balancer's own check keeps it out"


def test_a_silent_agent_is_told_and_not_waited_for():
    world = Web()
    world.agents.silent.add("app")

    (change,) = world.seen()["restart_instance"].changes

    assert change.before == "its agent is silent"


def test_plans_that_were_shown_are_kept_and_found_again_by_their_hash(tmp_path):
    assert keep(tmp_path, plan_of())

    assert recall(tmp_path, plan_hash(plan_of())[:8]) == plan_of()
    assert recall(tmp_path, "0123456789") is None
    (tmp_path / "plans" / f"{'ab' * 32}.json").write_text("{")
    assert recall(tmp_path, "abababab") is None
    for number in range(KEPT + 5):
        keep(tmp_path, replace(plan_of(), version=number))
    assert len(list((tmp_path / "plans").iterdir())) == KEPT
    assert not keep(tmp_path / "nowhere", plan_of())
