"""Puts the parts together: the only place that knows which driver stands behind which port."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.adapters.crash_points import crash_points
from ha_tasks.adapters.haproxy import HaproxyControl
from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.adapters.http_probe import HttpProber
from ha_tasks.adapters.lease_keeper import ThreadedLeaseKeeper
from ha_tasks.adapters.paths import HttpPath, PostgresPath
from ha_tasks.adapters.postgres import SqlPostgresControl
from ha_tasks.adapters.postgres_probe import PostgresProber
from ha_tasks.adapters.redis_probe import RedisProber
from ha_tasks.disaster_recovery.data_replication import DataReplication
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.failover.health_monitor import HealthMonitor
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.service_discovery import ServiceRegistry
from ha_tasks.failover.traffic_router import TrafficRouter
from ha_tasks.inventory import Inventory, load
from ha_tasks.model.platform import Platform, ServiceKind
from ha_tasks.names import ActionName
from ha_tasks.ports.action import Action
from ha_tasks.ports.balancer import BalancerControl
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.dispatch import Dispatch
from ha_tasks.ports.probes import Prober
from ha_tasks.ports.queues import Queues
from ha_tasks.recovery.failure_detector import DetectorSettings, FailureDetector
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.store import Store
from ha_tasks.workflows.actions import http, postgres, rejoin
from ha_tasks.workflows.actions.verify import VerifyService, VerifyTools
from ha_tasks.workflows.adoption import Adopter
from ha_tasks.workflows.baseline import LatencyBaseline
from ha_tasks.workflows.cluster_moves import PostgresTools
from ha_tasks.workflows.detection import Detection
from ha_tasks.workflows.facades import BaseRecovery, HighAvailabilityRecoverySystem
from ha_tasks.workflows.guard_facts import GuardFactsGatherer
from ha_tasks.workflows.observation import Observer
from ha_tasks.workflows.reconcile import Reconciler
from ha_tasks.workflows.recovery import DetectAndRecover, IncidentFollower

DEFAULT_HOME = ".ha"
INVENTORY_FILE = "ha-tasks.toml"


def home_of(home: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The home directory: what was asked for, else HA_TASKS_HOME, else ``./.ha``."""
    return Path(home or environ.get("HA_TASKS_HOME") or DEFAULT_HOME).absolute()


def inventory_path(home: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the inventory is: HA_TASKS_CONFIG, else ``ha-tasks.toml`` in the home."""
    configured = environ.get("HA_TASKS_CONFIG")
    return Path(configured).absolute() if configured else home / INVENTORY_FILE


def load_inventory(home: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Inventory:
    """The inventory of that home; InventoryError says every fault."""
    return load(inventory_path(home_of(home, environ), environ), environ)


def actor_of(environ: Mapping[str, str] = os.environ) -> str:
    """``<host>/<process>``: who this process is, in timelines, leases and vantages."""
    return f"{socket.gethostname()}/{environ.get('HA_TASKS_PROCESS') or f'pid-{os.getpid()}'}"


class NoDispatch:
    """Sends nothing: whoever drives runs in its own process needs no broker; the outbox keeps the rest."""

    def send(self, message: object) -> None:
        """Leaves the message to the sweeper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Everything, put together, for one process."""

    inventory: Inventory
    platform: Platform
    store: Store
    clock: Clock
    actor: str
    planner: RecoveryPlanner
    detector: FailureDetector
    orchestrator: RecoveryOrchestrator
    detection: Detection
    observer: Observer
    follower: IncidentFollower
    detect_and_recover: DetectAndRecover
    replication: DataReplication
    balancer: LoadBalancer
    router: TrafficRouter
    registry: ServiceRegistry
    agents: HostAgents
    control: SqlPostgresControl
    guards: GuardFactsGatherer
    adopter: Adopter
    health: HealthMonitor
    balancers: Mapping[str, BalancerControl]
    actions: Mapping[ActionName, Action]


def assemble(
    inventory: Inventory,
    *,
    dispatch: Dispatch | None = None,
    environ: Mapping[str, str] = os.environ,
) -> System:
    """One System for this process. Connects to nothing yet; call it after a fork, never before."""
    platform, clock, actor = inventory.platform, SystemClock(), actor_of(environ)
    store = Store(inventory.store_url())
    agents = host_agents(inventory)
    control = SqlPostgresControl(password=inventory.secret_for)
    balancers = {name: HaproxyControl(b.socket) for name, b in platform.balancers.items()}
    balancer = LoadBalancer(
        balancers,
        store.wanted,
        clock,
        cut=_cut_backends(platform),
    )
    router = TrafficRouter(balancer)
    registry = ServiceRegistry(platform=platform, wanted=store.wanted)
    http_prober = HttpProber(vantage=actor, clock=clock)
    probers: dict[ServiceKind, Prober] = {
        ServiceKind.HTTP: http_prober,
        ServiceKind.POSTGRES: PostgresProber(
            vantage=actor, clock=clock, agents=agents, password=inventory.secret_for
        ),
        ServiceKind.REDIS: RedisProber(vantage=actor, clock=clock, password=inventory.secret_for),
    }
    pg_tools = PostgresTools(
        clusters=store.clusters,
        agents=agents,
        control=control,
        balancer=balancer,
        router=router,
        wanted=store.wanted,
        clock=clock,
    )
    http_tools = http.HttpTools(
        balancer=balancer, registry=registry, units=agents, prober=http_prober, clock=clock
    )
    verify_tools = VerifyTools(
        paths={ServiceKind.HTTP: HttpPath(), ServiceKind.POSTGRES: PostgresPath(control)},
        control=control,
        clusters=store.clusters,
        ledger=store.ledger,
        baseline_s=LatencyBaseline(store.observations, clock),
        clock=clock,
    )
    follower = IncidentFollower(
        incidents=store.incidents,
        journal=store.journal,
        limits=store.limits,
        ledger=store.ledger,
        clock=clock,
        actor=actor,
    )
    by_name = actions(http_tools, pg_tools, verify_tools)
    orchestrator = RecoveryOrchestrator(
        platform=platform,
        journal=store.journal,
        incidents=store.incidents,
        actions=by_name,
        clock=clock,
        dispatch=dispatch or NoDispatch(),
        leases=ThreadedLeaseKeeper(journal=store.journal, clock=clock, lease_s=platform.policies.lease_s),
        owner=f"{actor}/{os.getpid()}",
        settled=follower.settled,
        stopped=lambda: store.limits.switch("stop") is not None,
        boundary=crash_points(environ),
    )
    planner = RecoveryPlanner(platform, load_playbooks(inventory.playbook_directories))
    guards = GuardFactsGatherer(
        platform=platform,
        journal=store.journal,
        incidents=store.incidents,
        limits=store.limits,
        observations=store.observations,
        clock=clock,
    )
    health = HealthMonitor(probers)
    detector = FailureDetector(DetectorSettings(min_vantages=platform.policies.min_vantages))
    detection = Detection(
        platform=platform,
        health=health,
        registry=registry,
        detector=detector,
        planner=planner,
        orchestrator=orchestrator,
        guards=guards,
        observations=store.observations,
        incidents=store.incidents,
        journal=store.journal,
        clusters=store.clusters,
        limits=store.limits,
        ledger=store.ledger,
        clock=clock,
        actor=actor,
    )
    reconciler = Reconciler(
        platform=platform,
        balancer=balancer,
        tools=pg_tools,
        journal=store.journal,
        ledger=store.ledger,
        actor=actor,
    )
    return System(
        inventory=inventory,
        platform=platform,
        store=store,
        clock=clock,
        actor=actor,
        planner=planner,
        detector=detector,
        orchestrator=orchestrator,
        detection=detection,
        observer=Observer(platform=platform, detection=detection, reconciler=reconciler, clock=clock),
        follower=follower,
        detect_and_recover=DetectAndRecover(
            platform=platform,
            detection=detection,
            orchestrator=orchestrator,
            incidents=store.incidents,
            journal=store.journal,
            clock=clock,
        ),
        replication=DataReplication(control=control, clusters=store.clusters),
        balancer=balancer,
        router=router,
        registry=registry,
        agents=agents,
        control=control,
        guards=guards,
        adopter=Adopter(tools=pg_tools, journal=store.journal),
        health=health,
        balancers=balancers,
        actions=by_name,
    )


def queues_of(inventory: Inventory) -> Queues | None:
    """The broker's queues, looked at from outside; None for a broker whose queues cannot be read so."""
    # A third of a second to import, and only those who look at queues need it.
    from ha_tasks.adapters.broker_queues import RedisQueues

    bare = inventory.broker.bare_url
    return RedisQueues(inventory.broker_url()) if bare.startswith(("redis:", "rediss:")) else None


def recovery_system(
    home: str | Path | None = None, base: BaseRecovery | None = None
) -> HighAvailabilityRecoverySystem:
    """The design document's recovery system on the inventory of that home, in this process."""
    system = assemble(load_inventory(home))
    return HighAvailabilityRecoverySystem(
        failure_detector=system.detector,
        recovery_orchestrator=system.orchestrator,
        detect_and_recover=system.detect_and_recover,
        base=base,
    )


def _cut_backends(platform: Platform) -> set[str]:
    """Where a server that is taken out loses its sessions: a superseded primary must not serve on."""
    return {
        s.routing.backend
        for s in platform.services.values()
        if s.kind is ServiceKind.POSTGRES and s.routing is not None
    }


def host_agents(inventory: Inventory) -> HostAgents:
    """The client of every host's agent."""
    platform = inventory.platform
    return HostAgents(
        urls={host.name: host.agent_url for host in platform.hosts.values()},
        hosts={i.name: i.host for s in platform.services.values() for i in s.instances},
        key=inventory.agent_key() if platform.hosts else b"",
    )


def actions(
    http_tools: http.HttpTools, pg_tools: PostgresTools, verify_tools: VerifyTools
) -> Mapping[ActionName, Action]:
    """Every action by its name; the list is closed, and a test says when one is missing."""
    return {
        ActionName.TAKE_OUT: http.TakeOut(http_tools),
        ActionName.SPARE_IN: http.SpareIn(http_tools),
        ActionName.RESTART_INSTANCE: http.RestartInstance(http_tools),
        ActionName.PUT_BACK: http.PutBack(http_tools),
        ActionName.SPARE_OUT: http.SpareOut(http_tools),
        ActionName.OPEN_EPOCH: postgres.OpenEpoch(pg_tools),
        ActionName.ISOLATE_PRIMARY: postgres.IsolatePrimary(pg_tools),
        ActionName.FENCE_PRIMARY: postgres.FencePrimary(pg_tools),
        ActionName.REVOKE_STANDBYS: postgres.RevokeStandbys(pg_tools),
        ActionName.CHOOSE_CANDIDATE: postgres.ChooseCandidate(pg_tools),
        ActionName.REPOINT_SURVIVORS: postgres.RepointSurvivors(pg_tools),
        ActionName.PROMOTE_CANDIDATE: postgres.PromoteCandidate(pg_tools),
        ActionName.ROUTE_WRITES: postgres.RouteWrites(pg_tools),
        ActionName.COMMIT_PRIMARY: postgres.CommitPrimary(pg_tools),
        ActionName.CHECKPOINT_PRIMARY: rejoin.CheckpointPrimary(pg_tools),
        ActionName.REJOIN_NODE: rejoin.RejoinNode(pg_tools),
        ActionName.AWAIT_STREAMING: rejoin.AwaitStreaming(pg_tools),
        ActionName.WIDEN_SYNC_SET: rejoin.WidenSyncSet(pg_tools),
        ActionName.ROUTE_READS: rejoin.RouteReads(pg_tools),
        ActionName.VERIFY_SERVICE: VerifyService(verify_tools),
    }
