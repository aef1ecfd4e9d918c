"""The table of rehearsed disasters; what each does and must come to, and nothing of how."""

from __future__ import annotations

from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.scenario import Deed, Fault, Outcome, Scenario, Victim
from ha_tasks.names import ActionName

NETWORK = "root and iptables"
FAILOVER_STEPS = (
    ActionName.OPEN_EPOCH,
    ActionName.ISOLATE_PRIMARY,
    ActionName.FENCE_PRIMARY,
    ActionName.REVOKE_STANDBYS,
    ActionName.CHOOSE_CANDIDATE,
    ActionName.REPOINT_SURVIVORS,
    ActionName.PROMOTE_CANDIDATE,
    ActionName.ROUTE_WRITES,
    ActionName.COMMIT_PRIMARY,
    ActionName.VERIFY_SERVICE,
)
"""Of the playbook ``postgres-failover``; a test compares."""

_CRASH = Fault(deed=Deed.KILL_POSTMASTER, victim=Victim.PRIMARY)
_LOSE = Fault(deed=Deed.KILL_NODE, victim=Victim.PRIMARY)

_FAILED_OVER = (
    Scenario(
        name="crash-primary",
        summary="kill -9 of the primary's postmaster",
        outcome=Outcome.FAILOVER,
        faults=(_CRASH,),
    ),
    Scenario(
        name="lose-primary",
        summary="kill -9 of everything on the primary's node, its agent too",
        outcome=Outcome.FAILOVER,
        faults=(_LOSE,),
    ),
    Scenario(
        name="dark-primary",
        summary="every packet to and from the primary's node is dropped: silence instead of refusals",
        outcome=Outcome.FAILOVER,
        faults=(Fault(deed=Deed.DARKEN, victim=Victim.PRIMARY),),
        needs=NETWORK,
    ),
    Scenario(
        name="partition-primary",
        summary="the primary's node is cut off from everybody but its clients behind the balancer",
        outcome=Outcome.FAILOVER,
        faults=(Fault(deed=Deed.PARTITION, victim=Victim.PRIMARY),),
        needs=NETWORK,
    ),
    Scenario(
        name="freeze-primary",
        summary="SIGSTOP of everything on the primary's node, woken after the failover",
        outcome=Outcome.FAILOVER,
        faults=(Fault(deed=Deed.FREEZE_NODE, victim=Victim.PRIMARY),),
    ),
    Scenario(
        name="freeze-database",
        summary="SIGSTOP of all of the primary's PostgreSQL, its agent goes on; woken after the failover",
        outcome=Outcome.FAILOVER,
        faults=(Fault(deed=Deed.FREEZE_DATABASE, victim=Victim.PRIMARY),),
    ),
    Scenario(
        name="freeze-postmaster",
        summary="SIGSTOP of the primary's postmaster alone: sessions go on, nobody new gets in",
        outcome=Outcome.FAILOVER,
        faults=(Fault(deed=Deed.FREEZE_POSTMASTER, victim=Victim.PRIMARY),),
    ),
    Scenario(
        name="lag-standby",
        summary="a standby that receives in bursts lags behind when the primary's node is lost",
        outcome=Outcome.FAILOVER,
        faults=(Fault(deed=Deed.SLOW_STREAM, victim=Victim.STANDBY), _LOSE),
    ),
    Scenario(
        name="query-on-standby",
        summary="a long query holds up replay on every standby when the primary's node is lost",
        outcome=Outcome.FAILOVER,
        faults=(
            Fault(deed=Deed.HOLD_REPLAY, victim=Victim.EVERY_STANDBY),
            _LOSE,
        ),
    ),
)

_UNDER_DIFFICULTIES = (
    Scenario(
        name="lose-worker",
        summary="crash-primary, and kill -9 of the Celery worker that recovers it",
        outcome=Outcome.FAILOVER,
        faults=(_CRASH,),
        mid_run=(Fault(deed=Deed.KILL, victim=Victim.WORKER),),
    ),
    Scenario(
        name="controller-killed-at-each-step",
        summary="crash-primary once for each step, each time kill -9 of whoever has just done that step",
        outcome=Outcome.FAILOVER,
        faults=(_CRASH,),
        rounds=tuple(
            Fault(deed=Deed.ARM, victim=Victim.BOUNDARY, boundary=f"do.{step}.done")
            for step in FAILOVER_STEPS
        ),
    ),
    Scenario(
        name="store-down-during-failover",
        summary="crash-primary, and in the middle of it nobody can write to the state store for 6 s",
        outcome=Outcome.FAILOVER,
        faults=(_CRASH,),
        mid_run=(Fault(deed=Deed.LOCK_STORE, victim=Victim.STORE),),
        mid_step=ActionName.REVOKE_STANDBYS,
        lasts_s=6.0,
        needs="a state store in SQLite",
    ),
    Scenario(
        name="broker-down-during-failover",
        summary="kill -9 of the broker, that stays away, and crash-primary",
        outcome=Outcome.FAILOVER,
        faults=(Fault(deed=Deed.HOLD, victim=Victim.BROKER), _CRASH),
    ),
)

_REFUSED = (
    Scenario(
        name="refused-promotion",
        summary="crash-primary while a commit's standbys cannot be revoked: nothing may be promoted",
        outcome=Outcome.REFUSED,
        faults=(Fault(deed=Deed.FREEZE_AGENT, victim=Victim.STANDBYS), _CRASH),
    ),
    Scenario(
        name="lose-both",
        summary="the primary and as many standbys as a commit needs are lost: nothing may be promoted",
        outcome=Outcome.REFUSED,
        faults=(Fault(deed=Deed.KILL_NODE, victim=Victim.STANDBYS), _LOSE),
        outage_is_promised=False,
    ),
)

_UNHURT = (
    Scenario(
        name="lose-standby",
        summary="kill -9 of everything on a standby's node, back after 15 s",
        outcome=Outcome.SERVICE_GOES_ON,
        incident=IncidentKind.STANDBY_DOWN,
        faults=(Fault(deed=Deed.KILL_NODE, victim=Victim.STANDBY),),
        lasts_s=15.0,
    ),
    Scenario(
        name="lose-agent",
        summary="kill -9 of the agent of the primary's node, back after 10 s",
        outcome=Outcome.NOTHING,
        faults=(Fault(deed=Deed.KILL_AGENT, victim=Victim.PRIMARY),),
        lasts_s=10.0,
    ),
    Scenario(
        name="pause-agent",
        summary="SIGSTOP of the agent of the primary's node for 10 s",
        outcome=Outcome.NOTHING,
        faults=(Fault(deed=Deed.FREEZE_AGENT, victim=Victim.PRIMARY),),
        lasts_s=10.0,
    ),
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="crash-web",
            summary="kill -9 of one HTTP instance",
            outcome=Outcome.RESTARTED,
            kind=ServiceKind.HTTP,
            incident=IncidentKind.INSTANCE_DOWN,
            faults=(Fault(deed=Deed.KILL, victim=Victim.ACTIVE),),
        ),
        Scenario(
            name="bad-config",
            summary="somebody exchanges the configuration of every HTTP instance for one that cannot be read",
            outcome=Outcome.TAKEN_BACK,
            kind=ServiceKind.HTTP,
            incident=IncidentKind.INSTANCE_DOWN,
            faults=(Fault(deed=Deed.BREAK_CONFIG, victim=Victim.ACTIVE),),
            needs="a version that is known to be good: the demo has one a minute after its start",
        ),
        *_FAILED_OVER,
        *_UNDER_DIFFICULTIES,
        *_REFUSED,
        *_UNHURT,
    )
}
