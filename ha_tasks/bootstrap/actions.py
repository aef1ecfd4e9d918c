"""Every action that a playbook may name: ours, and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping

from ha_tasks.bootstrap.own_actions import Actions, OwnActions
from ha_tasks.model.action import Traits
from ha_tasks.model.platform import ServiceKind
from ha_tasks.names import ActionName
from ha_tasks.ports.action import Action
from ha_tasks.workflows.actions import http, postgres, rejoin, restarting, switchover, sync_set
from ha_tasks.workflows.actions.base import PlainAction
from ha_tasks.workflows.actions.verify import VerifyService, VerifyTools
from ha_tasks.workflows.actions.versions import ApplyVersion, VersionTools
from ha_tasks.workflows.cluster_moves import PostgresTools


def actions(
    http_tools: http.HttpTools,
    pg_tools: PostgresTools,
    version_tools: VersionTools,
    verify_tools: VerifyTools,
    own: OwnActions,
) -> Actions:
    """Every action by its name. The list of ours is closed, and a test says when one is missing."""
    ours = shipped(http_tools, pg_tools, version_tools, verify_tools)
    return Actions({**own.actions, **ours}, own.faults)


HTTP: Mapping[ActionName, type[http.HttpAction]] = {
    ActionName.TAKE_OUT: http.TakeOut,
    ActionName.SPARE_IN: http.SpareIn,
    ActionName.RESTART_INSTANCE: http.RestartInstance,
    ActionName.PUT_BACK: http.PutBack,
    ActionName.SPARE_OUT: http.SpareOut,
}
POSTGRES: Mapping[ActionName, type[postgres.PostgresAction]] = {
    ActionName.OPEN_EPOCH: postgres.OpenEpoch,
    ActionName.ISOLATE_PRIMARY: postgres.IsolatePrimary,
    ActionName.FENCE_PRIMARY: postgres.FencePrimary,
    ActionName.REVOKE_STANDBYS: postgres.RevokeStandbys,
    ActionName.CHOOSE_CANDIDATE: postgres.ChooseCandidate,
    ActionName.REPOINT_SURVIVORS: postgres.RepointSurvivors,
    ActionName.PROMOTE_CANDIDATE: postgres.PromoteCandidate,
    ActionName.ROUTE_WRITES: postgres.RouteWrites,
    ActionName.COMMIT_PRIMARY: postgres.CommitPrimary,
    ActionName.CHECKPOINT_PRIMARY: rejoin.CheckpointPrimary,
    ActionName.REJOIN_NODE: rejoin.RejoinNode,
    ActionName.AWAIT_STREAMING: rejoin.AwaitStreaming,
    ActionName.WIDEN_SYNC_SET: sync_set.WidenSyncSet,
    ActionName.ROUTE_READS: rejoin.RouteReads,
    ActionName.CHECK_SWITCHOVER: switchover.CheckSwitchover,
    ActionName.CHECKPOINT_NODES: switchover.CheckpointNodes,
    ActionName.PAUSE_POOLER: switchover.PausePooler,
    ActionName.STOP_PRIMARY: switchover.StopPrimary,
    ActionName.CHOOSE_SUCCESSOR: switchover.ChooseSuccessor,
    ActionName.RESUME_POOLER: switchover.ResumePooler,
    ActionName.DEMOTE_PRIMARY: switchover.DemotePrimary,
    ActionName.RESTORE_REDUNDANCY: switchover.RestoreRedundancy,
    ActionName.CLOSE_READS: restarting.CloseReads,
    ActionName.RESTART_STANDBY: restarting.RestartStandby,
    ActionName.NARROW_SYNC_SET: sync_set.NarrowSyncSet,
}
STEP_LIMIT_S = 60
LONG_STEP_LIMIT_S = 240
"""For what moves a whole data directory, waits until it has caught up, or goes from host to host."""
LONG_STEPS = frozenset(
    {
        ActionName.REJOIN_NODE,
        ActionName.AWAIT_STREAMING,
        ActionName.CHECKPOINT_NODES,
        ActionName.RESTART_STANDBY,
        ActionName.APPLY_VERSION,
    }
)


def shipped(
    http_tools: http.HttpTools,
    pg_tools: PostgresTools,
    version_tools: VersionTools,
    verify_tools: VerifyTools,
) -> Mapping[str, Action]:
    """The actions of this package."""
    return {
        **{name: kind(http_tools) for name, kind in HTTP.items()},
        **{name: kind(pg_tools) for name, kind in POSTGRES.items()},
        ActionName.APPLY_VERSION: ApplyVersion(version_tools),
        ActionName.VERIFY_SERVICE: VerifyService(verify_tools),
    }


def limit_s(action: ActionName) -> int:
    """Seconds after which the task of one of our actions is ended."""
    return LONG_STEP_LIMIT_S if action in LONG_STEPS else STEP_LIMIT_S


def shipped_traits() -> Mapping[str, Traits]:
    """What is known of the actions of this package that a step may name, without any tool of theirs."""
    kinds = dict.fromkeys(POSTGRES, (ServiceKind.POSTGRES,))
    classes: Mapping[ActionName, type[PlainAction]] = {
        **HTTP,
        **POSTGRES,
        ActionName.APPLY_VERSION: ApplyVersion,
    }
    return {
        name: Traits(takes=kind.takes, undoes=kind.undoes, limit_s=limit_s(name), kinds=kinds.get(name, ()))
        for name, kind in classes.items()
    }
