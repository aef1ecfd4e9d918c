"""A cluster, its agents, two controllers and everything that can happen to them; see __init__.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from ha_tasks.bootstrap.actions import shipped
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import HaTasksError, ServiceUnreachable
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.platform import Instance, PostgresSettings, Role, Routing, Service, ServiceKind
from ha_tasks.model.run import TERMINAL, Run, RunState
from ha_tasks.names import ActionName
from ha_tasks.ports.repositories import NewRun
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.workflows.actions.verify import VerifyTools
from ha_tasks.workflows.cluster_moves import PostgresTools
from ha_tasks.workflows.reconcile import Reconciler
from ha_tasks.workflows.recovery import IncidentFollower
from tests.fakes import repositories
from tests.fakes.balancer import FakeBalancer
from tests.fakes.clock import FakeClock
from tests.fakes.dispatch import FakeDispatch
from tests.fakes.lease import FakeLeaseKeeper
from tests.fakes.repositories import FakeStore
from tests.protocol.agents import Host, simulated
from tests.protocol.inline import inline_pools
from tests.protocol.instead import instead
from tests.protocol.rpc import Fate, Letter, Point, SimAgents, SimControl
from tests.protocol.servers import Replication
from tests.protocol.turns import Actor, Turns
from tests.unit.builders import platform

DB = "db"
ROUNDS = 25
"""So often everybody looks, after the last fault, until all is well again."""


Trouble = tuple[int | str, Fate, int]
"""(which request: how many come before it, or the first of that verb; its fate; after how many effects)"""


class Broken(AssertionError):
    """An invariant does not hold."""


class _Time(FakeClock):
    """Whoever waits lets the world go on."""

    def pause(self, seconds: float) -> None:
        super().pause(max(seconds, 1.0))


class _Path:
    def __init__(self, world: World) -> None:
        self._world = world

    def try_once(self, service: Service, token: str) -> None:
        self._world.control.write_canary(service, "", token, 1)


class World:
    """One history is played on it: each method without underscore is an event."""

    def __init__(self, nodes: int = 3) -> None:
        self.names = [f"pg{n}" for n in range(1, nodes + 1)]
        self.clock, self.turns, self.net = _Time(), Turns(), Replication(self.names)
        self.hosts = {name: Host(name, self, self.net.servers[name]) for name in self.names}
        self.mail: list[Letter] = []
        self.stalled: list[tuple[str, Actor]] = []
        self.actors: dict[str, Actor] = {}
        self.promotions: list[tuple[int, str]] = []
        self._looks = 0
        self._trouble: Trouble | None = None
        self._until = self._broken = ""
        self.service = _service(self.names)
        self.platform = platform(self.service)
        self.store = FakeStore()
        self._without_an_audit()
        self._recorded = self._made()
        self.agents, self.control = SimAgents(self), SimControl(self)
        self._tools = self._made_tools()
        self._orchestrators = {name: self._orchestrator(name) for name in ("A", "B")}
        self._reconciler = Reconciler(
            **_as_asked(
                Reconciler,
                platform=self.platform,
                balancer=self._tools.balancer,
                tools=self._tools,
                journal=self.store.journal,
                ledger=self.store.ledger,
                incidents=self.store.incidents,
                actor="test",
            )
        )
        self._planner = RecoveryPlanner(self.platform, _playbooks())
        self.clock.on_pause = self._paused

    # --- making it ---

    def _without_an_audit(self) -> None:
        """The chain of hashes is not what is looked at here, and it takes most of the time."""
        self.store.audit.record = lambda at, *deeds: None  # type: ignore[method-assign]

    def _made(self) -> Cluster:
        first, others = self.names[0], self.names[1:]
        whole = sync_set_of(others)
        for name in self.names:
            host = self.hosts[name]
            host.server.marked = name != first
            host.server.conf = (None, whole.setting()) if name == first else (first, "")
            self.net.launch(name)
            host.begin()
            if name != first and host.commands is not None:
                host.commands._instance.memory.note(upstream=first)
        self.net.flow()
        states = {("pg_write", n): _ready(n == first) for n in self.names}
        states |= {("pg_read", n): _ready(n != first) for n in self.names}
        self.haproxy = FakeBalancer(states)
        self.store.wanted.want(states, "at first", self.clock.now())
        cluster = Cluster(name=DB, epoch=1, primary=first, state=ClusterState.STEADY, sets=(whole,))
        return self.store.clusters.register(cluster, self.clock.now())

    def _made_tools(self) -> PostgresTools:
        balancer = LoadBalancer({"edge": self.haproxy}, self.store.wanted, self.clock)
        return PostgresTools(
            clusters=Point(self.store.clusters, self.reached),
            agents=self.agents,
            control=self.control,
            balancer=balancer,
            router=TrafficRouter(balancer),
            wanted=self.store.wanted,
            clock=self.clock,
        )

    def _orchestrator(self, name: str) -> RecoveryOrchestrator:
        verify = VerifyTools(
            paths={ServiceKind.POSTGRES: _Path(self)},
            control=self.control,
            clusters=self.store.clusters,
            ledger=self.store.ledger,
            baseline_s=lambda service: None,
            clock=self.clock,
        )
        follower = IncidentFollower(
            incidents=self.store.incidents,
            journal=self.store.journal,
            limits=self.store.limits,
            ledger=self.store.ledger,
            clock=self.clock,
            actor=name,
        )
        nothing: Any = None  # no HTTP service here, and no versions
        return RecoveryOrchestrator(
            platform=self.platform,
            journal=self.store.journal,
            incidents=self.store.incidents,
            actions=shipped(nothing, self._tools, nothing, verify),
            clock=self.clock,
            dispatch=FakeDispatch(),
            leases=FakeLeaseKeeper(),
            owner=name,
            settled=follower.settled,
            boundary=lambda phase, action, point: self.reached(f"{action}.{point}"),
        )

    @property
    def leader(self) -> str:
        """The recorded primary."""
        return self.store.clusters.get(DB).primary

    # --- what those in it call ---

    def point(self) -> None:
        """A controller is about to do something: its turn may end here."""
        self.turns.point()

    def is_an_agents_turn(self) -> bool:
        return any(actor is self.turns.actor for _, actor in self.stalled)

    def fate(self, verb: str) -> tuple[Fate, int]:
        """What becomes of the next request."""
        if self._trouble is None:
            return Fate.ARRIVES, 0
        which, fate, where = self._trouble
        comes = which == verb if isinstance(which, str) else which == 0
        self._trouble = None if comes else (which if isinstance(which, str) else which - 1, fate, where)
        return (fate, where) if comes else (Fate.ARRIVES, 0)

    def reached(self, what: str) -> None:
        """A named point; see ``work_until``."""
        if self._until == what and self.turns.actor is not None:
            self.turns.actor.rest()
        self.point()

    def promoted(self, node: str, epoch: int | None) -> None:
        if epoch is None:
            self.breaks(f"{node} is promoted and has no mark of it on its disk")
        self.promotions.append((epoch or 0, node))

    def breaks(self, why: str) -> None:
        """Told at the end of the event: whoever runs the shipped code now may take an error for its own."""
        self._broken = self._broken or why

    def _paused(self) -> None:
        self.net.flow()
        self.point()

    # --- events: clients and servers ---

    def write(self, node: str) -> None:
        """A client, perhaps with an old address, commits there."""
        self.net.write(node)

    def flow(self) -> None:
        """A moment passes in which everything streams."""
        self.net.flow()

    def ship(self, node: str, standby: str, heard: bool) -> None:
        """One record more is flushed there; ``heard``: and the walsender is told so."""
        server = self.net.servers[node]
        self.net.connect(self.net.servers[standby])
        for sender in [s for s in server.senders if s.standby.name == standby]:
            self.net.ship(sender, server, 1)
            if heard:
                self.net.hear(sender, server)

    def hear(self, node: str) -> None:
        """Replies that are on their way arrive."""
        server = self.net.servers[node]
        for sender in list(server.senders):
            self.net.hear(sender, server)

    def kill_server(self, node: str) -> None:
        self.net.kill(node)

    def kill_agent(self, node: str) -> None:
        self.hosts[node].commands = None
        self._end_stalled(node)

    def start_agent(self, node: str) -> None:
        if self.hosts[node].commands is None:
            self.hosts[node].begin()

    def kill_host(self, node: str) -> None:
        self.kill_agent(node)
        self.net.kill(node)
        self.net.servers[node].frozen = False

    def freeze(self, node: str) -> None:
        self.net.servers[node].frozen = True

    def wake(self, node: str) -> None:
        self.net.servers[node].frozen = False

    def cut(self, one: str, other: str) -> None:
        if one != other:
            self.net.cut ^= {frozenset((one, other))}

    def break_receiver(self, node: str) -> None:
        """Its connection breaks at its own end; the walsender lingers."""
        self.net.end_receiver(node)
        self.net.connect(self.net.servers[node])

    def slow(self, node: str, standby: str) -> None:
        """That walsender does not read new settings, or reads them again."""
        self.net.slow ^= {(node, standby)}

    # --- events: requests that are on their way ---

    def deliver(self, number: int) -> None:
        if self.mail:
            letter = self.mail.pop(number % len(self.mail))
            if self.hosts[letter.node].answers:
                self.agents.deliver(letter)
            elif self.hosts[letter.node].commands is not None:
                self.mail.append(letter)

    def resume(self, number: int, points: int) -> None:
        """A command that stood still goes on."""
        if self.stalled:
            entry = self.stalled[number % len(self.stalled)]
            if self.hosts[entry[0]].answers and entry[1].run(points):
                self.stalled.remove(entry)

    def _end_stalled(self, node: str) -> None:
        for entry in [e for e in self.stalled if e[0] == node]:
            self.stalled.remove(entry)
            entry[1].kill()

    # --- events: controllers ---

    def suspect(self, node: str) -> None:
        """Observers find, rightly or not, that it is gone; a run is planned unless one is active."""
        primary = self.store.clusters.get(DB).primary
        self._open(node, IncidentKind.PRIMARY_DOWN if node == primary else IncidentKind.STANDBY_DOWN)

    def work(self, who: str, points: int, trouble: Trouble | None = None) -> None:
        """A controller takes the active run on, so far; ``trouble``: (which request, fate, where)."""
        self._act(who, lambda: self._advance(who), points, trouble)

    def work_until(self, who: str, what: str, trouble: Trouble | None = None) -> None:
        """As far as that point: ``<action>.<point>``, or ``<verb>`` when a request is about to be sent, or
        ``<verb> answered``.
        """
        self._until = what
        self.work(who, 100_000, trouble)
        self._until = ""
        if who not in self.actors:
            raise Broken(f"{who} never came to {what}: {self.told()}")

    def reconcile(self, who: str, points: int, trouble: Trouble | None = None) -> None:
        """The same for its look at who follows whom."""
        self._act(f"reconciler of {who}", self._reconcile, points, trouble)

    def kill_controller(self, who: str) -> None:
        for name in (who, f"reconciler of {who}"):
            if name in self.actors:
                self.actors.pop(name).kill()

    def time(self, seconds: int) -> None:
        self.clock.advance(seconds)

    def _act(self, name: str, job: Callable[[], None], points: int, trouble: Trouble | None) -> None:
        actor = self.actors.setdefault(name, Actor(self.turns, job))
        self._trouble = trouble
        ended = actor.run(points)
        self._trouble = None
        if ended:
            del self.actors[name]
            if actor.error is not None:
                raise actor.error

    def _advance(self, who: str) -> None:
        """Until there is nothing to take, also after the pause before a second attempt."""
        for _ in range(500):
            active = [run for run in self.store.journal.active() if run.plan.scope == DB]
            if not active:
                return
            self.point()
            if not self._take(who, active[0]):
                self.clock.advance(0.6)
                if not self._take(who, active[0]):
                    return

    def _take(self, who: str, run: Run) -> bool:
        now = self.store.journal.get(run.id)
        return self._orchestrators[who].advance(now.id, now.position, now.phase).taken

    def _reconcile(self) -> None:
        try:
            self._reconciler.clusters()
        except HaTasksError:
            return  # told to whoever looks at the log; it is tried again

    def _open(self, node: str, kind: IncidentKind) -> None:
        if any(run.plan.scope == DB for run in self.store.journal.active()):
            return
        number, now = len(self.store.incidents.incidents) + 1, self.clock.now()
        incident, _ = self.store.incidents.open(
            key=f"{node}/{kind}/{number}",
            service=DB,
            instance=node,
            kind=kind,
            severity="critical",
            summary="it is down",
            fault_at=now,
            now=now,
            actor="test",
            evidence={},
        )
        new = NewRun(
            plan=self._planner.create_recovery_plan(incident),
            incident=incident.id,
            mode="auto",
            requested_by="test",
            reason="test",
            idempotency_key=f"incident-{incident.id}",
        )
        run, _ = self.store.journal.create(new, now)
        self.store.incidents.move(incident.id, IncidentState.RECOVERING, now, "test", "started", run=run.id)

    # --- what must hold ---

    def check(self) -> None:
        """After each event. Broken says what does not hold."""
        if self._broken:
            raise Broken(self._broken)
        able = [name for name in self.names if self.net.can_acknowledge(name)]
        if len(able) > 1:
            raise Broken(f"{' and '.join(able)} can acknowledge commits at the same time")
        by_epoch: dict[int, str] = {}
        for epoch, node in self.promotions:
            if by_epoch.setdefault(epoch, node) != node:
                raise Broken(f"{by_epoch[epoch]} and {node} were both promoted in epoch {epoch}")
        cluster = self.store.clusters.get(DB)
        if cluster.primary != self._recorded.primary:
            self.check_rows()
        self._recorded = cluster
        for run in self.store.journal.recent(1):
            self._check_ended(run, cluster)

    def check_rows(self) -> None:
        """The recorded primary has every row of which a client was told that it is safe."""
        primary = self.store.clusters.get(DB).primary
        kept = set(self.net.servers[primary].wal)
        lost = [record for record in self.net.acknowledged if record not in kept]
        if lost:
            raise Broken(f"{primary} is the recorded primary and lacks acknowledged rows: {lost[:3]}")

    @staticmethod
    def _check_ended(run: Run, cluster: Cluster) -> None:
        """A refusal ends with all as before, or blocked: it does not leave its own epoch failing."""
        opened = [s for s in run.steps if s.action == ActionName.OPEN_EPOCH and s.captured]
        failing = cluster.state is ClusterState.FAILING
        left = any(s.captured and s.captured["epoch"] + 1 == cluster.epoch for s in opened)
        if run.state is RunState.ROLLED_BACK and failing and left:
            raise Broken(f"run {run.id} was rolled back and left {DB} failing: {run.error}")

    def end(self) -> None:
        """All faults are healed; then everything must come back by what is shipped."""
        for actor in list(self.actors.values()):
            actor.kill()
        self.actors.clear()
        while self.stalled:
            node, actor = self.stalled.pop()
            if self.hosts[node].commands is None:
                actor.kill()
            else:
                self.stalled.append((node, actor))
                actor.run(10_000)
                self.stalled.pop()
        for name in self.names:
            self.wake(name)
            self.start_agent(name)
            self.hosts[name].dies_in = None
        while self.mail:
            self.deliver(0)
        self.net.cut.clear()
        self.net.slow.clear()
        self.check()
        for _ in range(ROUNDS):
            if self._is_well():
                self.check_rows()
                return
            self._look_after()
            self.check()
        raise Broken(f"not well after {ROUNDS} looks: {self.told()}")

    def give_up(self) -> None:
        """Nothing of it runs any more."""
        for actor in [*self.actors.values(), *(a for _, a in self.stalled)]:
            actor.kill()
        self.actors.clear()
        self.stalled.clear()

    def _look_after(self) -> None:
        """As observers, reconciler and workers do each second."""
        self.clock.advance(5)
        self.net.flow()
        self._reconcile()
        self.net.flow()
        active = [run for run in self.store.journal.active() if run.plan.scope == DB]
        if not active:
            sick = self._sick()
            if sick:  # whoever has been looked after in vain does not keep the others from it
                self._open(*sick[self._looks % len(sick)])
                self._looks += 1
            active = [run for run in self.store.journal.active() if run.plan.scope == DB]
        for run in active:
            ended = self._orchestrators["A"].drive(run.id, self.clock.now() + timedelta(minutes=60))
            if ended.state not in TERMINAL:
                raise Broken(f"run {run.id} does not end: {ended.state}, {ended.error}")

    def _sick(self) -> list[tuple[str, IncidentKind]]:
        cluster = self.store.clusters.get(DB)
        server = self.net.servers[cluster.primary]
        if cluster.state is ClusterState.FAILING or not server.runs or server.in_recovery:
            return [(cluster.primary, IncidentKind.PRIMARY_DOWN)]
        others = [name for name in self.names if name != cluster.primary]
        return [(name, IncidentKind.STANDBY_DOWN) for name in others if not self._follows(name, cluster)]

    def _follows(self, name: str, cluster: Cluster) -> bool:
        server = self.net.servers[name]
        streams = any(s.standby is server for s in self.net.servers[cluster.primary].senders)
        return streams and all(name in s.members for s in cluster.sets)

    def _is_well(self) -> bool:
        cluster = self.store.clusters.get(DB)
        whole = sync_set_of(n for n in self.names if n != cluster.primary)
        if cluster.state is not ClusterState.STEADY or cluster.sets != (whole,) or cluster.unfinished:
            return False
        self.net.flow()
        try:
            node = self.control.write_canary(self.service, "", "end", 1)
        except ServiceUnreachable:
            return False
        return node == cluster.primary and not self._sick()

    def told(self) -> str:
        """The state of everything, for whoever reads why it broke."""
        cluster = self.store.clusters.get(DB)
        lines = [f"{cluster}"]
        lines += [
            f"{s.name}: runs={s.runs} frozen={s.frozen} recovery={s.in_recovery} timeline={s.timeline} "
            f"lsn={s.lsn} conf={s.loaded} senders={[x.standby.name for x in s.senders]} "
            f"agent={self.hosts[s.name].memory.value} {self.hosts[s.name].ledger.value}"
            for s in self.net.servers.values()
        ]
        lines += [f"run {r.id} {r.plan.playbook} {r.state}: {r.error}" for r in self.store.journal.recent(4)]
        return "\n".join(lines)


@contextmanager
def worlds() -> Iterator[Callable[[int], World]]:
    """Makes worlds, one after the other; the shipped code runs on simulated disks and time meanwhile."""
    current: list[World] = []

    def make(nodes: int) -> World:
        for old in current:
            old.give_up()
        current.clear()
        world = World.__new__(World)
        current.append(world)
        world.__init__(nodes)  # type: ignore[misc] # its clock is asked for while it is made
        return world

    with (
        simulated(lambda: current[0].clock),
        inline_pools(),
        instead(repositories, run_created=lambda run: None),
    ):
        yield make
        for old in current:
            old.give_up()


def _as_asked(what: Any, **given: Any) -> dict[str, Any]:
    names = inspect.signature(what).parameters
    return {name: value for name, value in given.items() if name in names}


@cache
def _playbooks() -> Any:
    return load_playbooks(())


def _ready(is_ready: bool) -> ServerState:
    return ServerState.READY if is_ready else ServerState.MAINT


def _service(names: Sequence[str]) -> Service:
    return Service(
        name=DB,
        kind=ServiceKind.POSTGRES,
        routing=Routing(
            backend="pg_write", entry="127.0.0.1:5540", read_backend="pg_read", read_entry="127.0.0.1:5541"
        ),
        postgres=PostgresSettings(database="app", user="ha_control"),
        instances=tuple(
            Instance(name=n, service=DB, host=n, address=f"127.0.0.1:543{i}", role=Role.NODE)
            for i, n in enumerate(names, start=1)
        ),
    )


__all__ = ["Broken", "Fate", "World", "worlds"]
