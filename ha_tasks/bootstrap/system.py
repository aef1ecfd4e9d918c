"""The parts of one process, each made when it is first asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property

from ha_tasks.adapters.audit_heads import HeadFile
from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.crash_points import crash_points
from ha_tasks.adapters.haproxy import HaproxyControl
from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.adapters.http_probe import HttpProber
from ha_tasks.adapters.lease_keeper import ThreadedLeaseKeeper
from ha_tasks.adapters.outbox_ticks import OutboxTicks
from ha_tasks.adapters.paths import HttpPath, PostgresPath
from ha_tasks.adapters.pgbouncer import PgbouncerControl
from ha_tasks.adapters.postgres import SqlPostgresControl
from ha_tasks.adapters.served_store import ServedStoreFile
from ha_tasks.adapters.stonith import StonithCommands
from ha_tasks.bootstrap import revisions
from ha_tasks.bootstrap.actions import actions
from ha_tasks.bootstrap.agents import host_agents
from ha_tasks.bootstrap.health import health_monitor_of, monitor_of
from ha_tasks.bootstrap.homes import SERVED_STORE, actor_of, home_for
from ha_tasks.bootstrap.led import Led, led_by_others
from ha_tasks.bootstrap.observing import observer_of
from ha_tasks.bootstrap.own_actions import Actions, OwnActions, own_actions
from ha_tasks.bootstrap.replication import data_replication_of
from ha_tasks.bootstrap.versions import rollback_of, version_tools_of
from ha_tasks.disaster_recovery.data_replication import DataReplication
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.failover.health_monitor import HealthMonitor
from ha_tasks.failover.load_balancer import LoadBalancer, backends_of_others, cut_backends
from ha_tasks.failover.service_discovery import ServiceRegistry
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.inventory import Inventory
from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.revision import Revision
from ha_tasks.model.switch import STOP
from ha_tasks.ports.balancer import BalancerControl
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.dispatch import Dispatch
from ha_tasks.recovery.failure_detector import DetectorSettings, FailureDetector
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.recovery.rollback_controller import RollbackController
from ha_tasks.store import Store
from ha_tasks.workflows.actions import http
from ha_tasks.workflows.actions.verify import VerifyTools
from ha_tasks.workflows.adoption import Adopter
from ha_tasks.workflows.approving import Approver
from ha_tasks.workflows.baseline import LatencyBaseline
from ha_tasks.workflows.cluster_moves import PostgresTools
from ha_tasks.workflows.detection import Detection
from ha_tasks.workflows.guard_facts import GuardFactsGatherer, switched
from ha_tasks.workflows.observation import Observer
from ha_tasks.workflows.recovery import DetectAndRecover, IncidentFollower
from ha_tasks.workflows.revisions import RevisionWatch
from ha_tasks.workflows.situation import SituationReader
from ha_tasks.workflows.starting import RunStarter
from ha_tasks.workflows.store_approval import StoreApproval
from ha_tasks.workflows.store_watch import AgentMemory, StoreWatch
from ha_tasks.workflows.system_health import MonitorSystemHealth
from ha_tasks.workflows.witness import Witness


class System:
    """Everything, put together for one process: each part is made when it is first asked for.

    Make it after a fork, never before. It connects to nothing until a part is used.
    """

    def __init__(
        self, inventory: Inventory, dispatch: Dispatch, environ: Mapping[str, str], lasting: bool = False
    ) -> None:
        self.inventory = inventory
        self.platform = inventory.platform
        self.clock: Clock = SystemClock()
        self.actor = actor_of(environ)
        self.store = Store(inventory.store_url(), actor=self.actor)
        self._dispatch, self._lasting = dispatch, lasting
        self._environ = environ
        self._older: dict[int, System] = {}

    @cached_property
    def revision(self) -> RevisionWatch:
        """Where this process stands among the applied revisions of the inventory."""
        return RevisionWatch(revisions=self.store.revisions, sha256=self.inventory.sha256, clock=self.clock)

    def apply(self, actor: str, reason: str) -> Revision:
        """Makes the inventory that is loaded here the applied one, without a question. Idempotent."""
        now, known = self.clock.now(), self.store.revisions
        return revisions.apply(self.inventory, known, actor=actor, reason=reason, now=now)

    def under(self, no: int) -> System:
        """Everything as of that revision, on the same store; this one where it cannot be read here."""
        if no not in self._older:
            known = self.store.revisions
            inventory = revisions.inventory_at(self.inventory, known, no, self._environ)
            self._older[no] = self if inventory is None else System(inventory, self._dispatch, self._environ)
            self._older[no].store = self.store
        return self._older[no]

    @cached_property
    def audit_heads(self) -> HeadFile:
        """Heads of the audit chain outside the store."""
        return HeadFile(self.inventory.audit_heads)

    @cached_property
    def witness(self) -> Witness:
        """Writes heads of the audit chain down outside the store."""
        return Witness(audit=self.store.audit, heads=self.audit_heads, clock=self.clock, actor=self.actor)

    @cached_property
    def agents(self) -> HostAgents:
        """The client of every host's agent."""
        return host_agents(self.inventory)

    @cached_property
    def control(self) -> SqlPostgresControl:
        """PostgreSQL by SQL."""
        return SqlPostgresControl(password=self.inventory.secret_for)

    @cached_property
    def led(self) -> Led:
        """What there is for clusters that others lead."""
        return led_by_others(self.inventory, self.store, clock=self.clock, actor=self.actor)

    @cached_property
    def balancers(self) -> Mapping[str, BalancerControl]:
        """Each HAProxy by its name."""
        return {name: HaproxyControl(b.socket) for name, b in self.platform.balancers.items()}

    @cached_property
    def balancer(self) -> LoadBalancer:
        """Every HAProxy as one."""
        cut, theirs = cut_backends(self.platform), backends_of_others(self.platform)
        return LoadBalancer(
            self.balancers,
            self.store.wanted,
            self.clock,
            cut=cut,
            theirs=theirs,
            members=lambda: self.registry.members(self.clock.now()),
        )

    @cached_property
    def router(self) -> TrafficRouter:
        """Who takes the writes, who the reads."""
        return TrafficRouter(self.balancer)

    @cached_property
    def registry(self) -> ServiceRegistry:
        """Who serves, and which spare is free."""
        return ServiceRegistry(self.platform, self.store.wanted, self.store.registrations)

    @cached_property
    def _http_prober(self) -> HttpProber:
        return HttpProber(vantage=self.actor, clock=self.clock)

    @cached_property
    def health(self) -> HealthMonitor:
        """Looks at every instance; one prober per kind of service."""
        return health_monitor_of(self, self._http_prober)

    @cached_property
    def detector(self) -> FailureDetector:
        """Outcomes -> verdicts."""
        policies = self.platform.policies
        return FailureDetector(DetectorSettings(min_vantages=policies.min_vantages))

    @cached_property
    def planner(self) -> RecoveryPlanner:
        """Incidents -> plans. PlaybookError when a playbook is wrong."""
        playbooks = load_playbooks(self.inventory.playbook_directories)
        situation = SituationReader(clusters=self.store.clusters, wanted=self.store.wanted)
        traits, changed = self.own_actions.traits, self.rollback.is_changed
        return RecoveryPlanner(self.platform, playbooks, traits, situation, changed)

    @cached_property
    def rollback(self) -> RollbackController:
        """Versions of what services are served from."""
        return rollback_of(self)

    @cached_property
    def guards(self) -> GuardFactsGatherer:
        """What the guards judge by."""
        return GuardFactsGatherer(
            platform=self.platform,
            sources=self.store,
            clock=self.clock,
            standing=self.revision.standing,
        )

    @cached_property
    def _cluster_tools(self) -> PostgresTools:
        return PostgresTools(
            clusters=self.store.clusters,
            agents=self.agents,
            control=self.control,
            balancer=self.balancer,
            router=self.router,
            wanted=self.store.wanted,
            clock=self.clock,
            pooler=PgbouncerControl(password=self.inventory.pooler_secret_for),
            power=StonithCommands({name: host.stonith for name, host in self.platform.hosts.items()}),
        )

    @cached_property
    def _http_tools(self) -> http.HttpTools:
        return http.HttpTools(
            balancer=self.balancer,
            registry=self.registry,
            units=self.agents,
            prober=self._http_prober,
            clock=self.clock,
        )

    @cached_property
    def _verify_tools(self) -> VerifyTools:
        return VerifyTools(
            paths={ServiceKind.HTTP: HttpPath(), ServiceKind.POSTGRES: PostgresPath(self.control)},
            control=self.control,
            clusters=self.store.clusters,
            ledger=self.store.ledger,
            baseline_s=LatencyBaseline(self.store.observations, self.clock),
            clock=self.clock,
        )

    @cached_property
    def own_actions(self) -> OwnActions:
        """The actions of installed packages, and what is wrong with them."""
        return own_actions(self.inventory, self.clock)

    @cached_property
    def actions(self) -> Actions:
        """Every action that a playbook may name."""
        verify = self._verify_tools
        versions = version_tools_of(self, verify.paths)
        return actions(self._http_tools, self._cluster_tools, versions, verify, self.own_actions)

    @cached_property
    def follower(self) -> IncidentFollower:
        """Keeps incidents in step with their runs."""
        return IncidentFollower(
            incidents=self.store.incidents,
            journal=self.store.journal,
            limits=self.store.limits,
            ledger=self.store.ledger,
            clock=self.clock,
            actor=self.actor,
        )

    @cached_property
    def orchestrator(self) -> RecoveryOrchestrator:
        """Takes runs a step further."""
        journal, lease_s = self.store.journal, self.platform.policies.lease_s
        return RecoveryOrchestrator(
            platform=self.platform,
            journal=journal,
            incidents=self.store.incidents,
            actions=self.actions,
            clock=self.clock,
            dispatch=self._dispatch,
            leases=ThreadedLeaseKeeper(journal=journal, clock=self.clock, lease_s=lease_s),
            owner=f"{self.actor}/{os.getpid()}",
            settled=self.follower.settled,
            stopped=self.is_stopped,
            held=self.store_watch.held,
            boundary=crash_points(self._environ),
            standing=self.revision.standing,
            under=lambda no: self.under(no).orchestrator,
            ticked=OutboxTicks(journal=journal, clock=self.clock).sent if self._lasting else None,
        )

    def is_stopped(self, service: str) -> bool:
        """True while a person keeps the automation from that service."""
        return switched(self.store.limits.switches(), STOP, service) is not None

    @cached_property
    def starter(self) -> RunStarter:
        """From an incident to its run."""
        return RunStarter(
            planner=self.planner,
            guards=self.guards,
            orchestrator=self.orchestrator,
            incidents=self.store.incidents,
            journal=self.store.journal,
            limits=self.store.limits,
            ledger=self.store.ledger,
            clock=self.clock,
            actor=self.actor,
            held=self.store_watch.held,
            approval_within_s=self.platform.policies.approval_within_s,
            standing=self.revision.standing,
        )

    @cached_property
    def approver(self) -> Approver:
        """A person's yes or no to a run that waits for it."""
        return Approver(
            policies=self.platform.policies,
            planner=self.planner,
            guards=self.guards,
            orchestrator=self.orchestrator,
            incidents=self.store.incidents,
            journal=self.store.journal,
            ledger=self.store.ledger,
            clock=self.clock,
            actor=self.actor,
            followed=self.follower.follow,
            standing=self.revision.standing,
        )

    @cached_property
    def detection(self) -> Detection:
        """From probes to a run."""
        return Detection(
            platform=self.platform,
            health=self.health,
            registry=self.registry,
            detector=self.detector,
            starter=self.starter,
            observations=self.store.observations,
            incidents=self.store.incidents,
            clusters=self.store.clusters,
            limits=self.store.limits,
            ledger=self.store.ledger,
            clock=self.clock,
            actor=self.actor,
        )

    @cached_property
    def observer(self) -> Observer:
        """The loops of a process that observes."""
        return observer_of(self, self._cluster_tools)

    @cached_property
    def detect_and_recover(self) -> DetectAndRecover:
        """The operation of that name."""
        return DetectAndRecover(
            platform=self.platform,
            detection=self.detection,
            orchestrator=self.orchestrator,
            incidents=self.store.incidents,
            journal=self.store.journal,
            clock=self.clock,
        )

    @cached_property
    def monitor_system_health(self) -> MonitorSystemHealth:
        """The operation of that name."""
        return monitor_of(self)

    @cached_property
    def replication(self) -> DataReplication:
        """Who streams, who should."""
        return data_replication_of(self)

    @cached_property
    def adopter(self) -> Adopter:
        """Takes a running cluster into care."""
        return Adopter(tools=self._cluster_tools, journal=self.store.journal)

    @cached_property
    def agent_memory(self) -> AgentMemory:
        """What the agents have obeyed."""
        return AgentMemory(platform=self.platform, nodes=self.agents, units=self.agents)

    @cached_property
    def store_watch(self) -> StoreWatch:
        """Whether this store may be acted on."""
        return StoreWatch(
            memory=self.agent_memory,
            identity=self.store.identity,
            limits=self.store.limits,
            served=ServedStoreFile(home_for(self.inventory.path, self._environ) / SERVED_STORE),
            clock=self.clock,
            actor=self.actor,
        )

    @cached_property
    def store_approval(self) -> StoreApproval:
        """A person's word that this store may be acted on."""
        return StoreApproval(
            platform=self.platform,
            tools=self._cluster_tools,
            memory=self.agent_memory,
            watch=self.store_watch,
            identity=self.store.identity,
            journal=self.store.journal,
        )
