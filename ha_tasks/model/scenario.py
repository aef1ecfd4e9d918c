"""A drill's scenario: which faults come when, how long they last, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from ha_tasks.model.incident import IncidentKind, IncidentState
from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.run import RunState
from ha_tasks.names import ActionName


class Deed(StrEnum):
    """What is done to the victim. What lasts, lasts until it is healed."""

    KILL = "kill"
    """SIGKILL for a process and its descendants; its supervisor starts it again."""
    KILL_POSTMASTER = "kill_postmaster"
    KILL_NODE = "kill_node"
    """SIGKILL for a node's agent and all of its PostgreSQL; the node stays away until healed."""
    HOLD = "hold"
    """SIGKILL for a process, that is not started again until healed."""
    KILL_AGENT = "kill_agent"
    """SIGKILL for a node's agent alone; it stays away until healed."""
    FREEZE_AGENT = "freeze_agent"
    """SIGSTOP for a node's agent: it takes connections (the kernel does) and says nothing."""
    FREEZE_POSTMASTER = "freeze_postmaster"
    FREEZE_DATABASE = "freeze_database"
    """SIGSTOP for every process of a node's PostgreSQL; its agent goes on."""
    FREEZE_NODE = "freeze_node"
    """SIGSTOP for a node's agent and every process of its PostgreSQL."""
    DARKEN = "darken"
    """Every packet to and from a node's PostgreSQL and agent is dropped: silence, no refusal."""
    PARTITION = "partition"
    """As DARKEN, but the balancer still reaches the node: its clients do, and nobody else."""
    SLOW_STREAM = "slow_stream"
    """A standby receives in bursts: its receiver is stopped for most of each second."""
    HOLD_REPLAY = "hold_replay"
    """A repeatable-read query on a standby, and a VACUUM on its primary that conflicts with it."""
    LOCK_STORE = "lock_store"
    """Nobody can write to the state store."""
    BREAK_CONFIG = "break_config"
    """What the service of an instance is served from is exchanged for something that cannot be read."""
    ARM = "arm"
    """The worker that comes to this boundary of a run is killed there, once."""


class Victim(StrEnum):
    """Whom it hits, as the drill finds out at its beginning."""

    ACTIVE = "active"
    """The first active instance of an HTTP service."""
    PRIMARY = "primary"
    STANDBY = "standby"
    """The last of the synchronous set."""
    STANDBYS = "standbys"
    """As many, from the last on, as a commit needs: without them nothing can be proved."""
    EVERY_STANDBY = "every_standby"
    WORKER = "worker"
    """Whoever leads the run."""
    BROKER = "broker"
    STORE = "store"
    BOUNDARY = "boundary"
    """``Fault.boundary``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One deed. ``boundary`` (``do.<step>.<point>``) is for ARM alone."""

    deed: Deed
    victim: Victim
    boundary: str = ""


class Outcome(StrEnum):
    """What a scenario must come to."""

    FAILOVER = "failover"
    """A standby is promoted, once, and the node comes back as a standby."""
    REFUSED = "refused"
    """Nothing may be promoted: it cannot be proved to be safe. All is undone."""
    RESTARTED = "restarted"
    """The instance is started again, once, and not one request fails."""
    TAKEN_BACK = "taken_back"
    """What the service is served from is what it was before."""
    SERVICE_GOES_ON = "service_goes_on"
    """Redundancy may suffer, the service may not: nothing is promoted."""
    NOTHING = "nothing"
    """Nothing may be done: no incident about the service, no run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One rehearsed disaster. Times in seconds."""

    name: str
    summary: str
    outcome: Outcome
    faults: tuple[Fault, ...]
    kind: ServiceKind = ServiceKind.POSTGRES
    incident: IncidentKind = IncidentKind.PRIMARY_DOWN
    mid_run: tuple[Fault, ...] = ()
    """Injected while the run is at ``mid_step``."""
    mid_step: ActionName = ActionName.REVOKE_STANDBYS
    """The step that takes longest before anything is promoted."""
    lasts_s: float | None = None
    """Healed so long after the faults. None: when the run has ended."""
    rounds: tuple[Fault, ...] = ()
    """The whole is done once for each of these, which is injected first."""
    needs: str = ""
    """What it needs beside the demo itself; for people."""
    outage_is_promised: bool = True
    """False: nobody can serve as long as the fault lasts, so no objective is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must be observed. An empty tuple of states: there need not be any, and any may be."""

    incident: tuple[IncidentState, ...] = ()
    run: tuple[RunState, ...] = ()
    no_incident: bool = False
    """No incident of the scenario's kind, and no run about it."""
    outage_is_promised: bool = True
    """The service's own objective for its recovery counts."""
    outage_at_most_s: float = inf
    """Below that objective, where the service must not suffer."""
    zero_failed: bool = False
    """Not one request may fail (idempotent requests, which the balancer sends again)."""
    unchanged: tuple[str, ...] = ()
    """Keys of the evidence that must be as before."""
    grown_by_one: tuple[str, ...] = ()
    """Keys of the evidence that must be one more than before: the effect was applied once."""


BLIP_S = 3.0
"""What a service that goes on may cost: a commit that waited for a standby that was lost just now."""


def expected_of(scenario: Scenario, service: str, instance: str) -> Expected:
    """What must be observed on that service; ``instance`` is the victim of a scenario on HTTP."""
    timeline, primary = f"timeline.{service}", f"primary.{service}"
    match scenario.outcome:
        case Outcome.RESTARTED:
            return Expected(
                incident=(IncidentState.RESOLVED,),
                run=(RunState.SUCCEEDED,),
                zero_failed=True,
                grown_by_one=(f"starts.{instance}",),
            )
        case Outcome.TAKEN_BACK:
            return Expected(
                incident=(IncidentState.RESOLVED,),
                run=(RunState.SUCCEEDED,),
                unchanged=(f"files.{service}",),
            )
        case Outcome.FAILOVER:
            return Expected(
                incident=(IncidentState.RESOLVED,), run=(RunState.SUCCEEDED,), grown_by_one=(timeline,)
            )
        case Outcome.REFUSED:
            return Expected(
                # A person is called; or the nodes were back before the call, and all is well again.
                incident=(IncidentState.ESCALATED, IncidentState.RESOLVED),
                run=(RunState.ROLLED_BACK,),
                outage_is_promised=scenario.outage_is_promised,
                unchanged=(timeline, primary),
            )
        case Outcome.SERVICE_GOES_ON:
            return Expected(outage_at_most_s=BLIP_S, unchanged=(timeline, primary))
        case Outcome.NOTHING:
            return Expected(no_incident=True, outage_at_most_s=BLIP_S, unchanged=(timeline, primary))
