"""Every action that a playbook may name."""

from __future__ import annotations

from collections.abc import Mapping

from ha_tasks.names import ActionName
from ha_tasks.ports.action import Action
from ha_tasks.workflows.actions import http, postgres, rejoin
from ha_tasks.workflows.actions.verify import VerifyService, VerifyTools
from ha_tasks.workflows.cluster_moves import PostgresTools


def actions(
    http_tools: http.HttpTools, pg_tools: PostgresTools, verify_tools: VerifyTools
) -> Mapping[str, Action]:
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
