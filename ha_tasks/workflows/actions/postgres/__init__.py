"""Recovering a dead PostgreSQL primary: the steps of the failover protocol.

Evidence decides, revocation fences: nothing is promoted unless so many standbys are confirmed to
have stopped receiving that the old primary can no longer acknowledge a commit (R + W > N), and every
refusal undoes what was begun. Each command carries (epoch, fence); agents refuse lower pairs.
"""

from ha_tasks.workflows.actions.postgres.base import PostgresAction
from ha_tasks.workflows.actions.postgres.epoch import CommitPrimary, OpenEpoch
from ha_tasks.workflows.actions.postgres.old_primary import FencePrimary, IsolatePrimary
from ha_tasks.workflows.actions.postgres.promotion import (
    ChooseCandidate,
    PromoteCandidate,
    RepointSurvivors,
    RouteWrites,
)
from ha_tasks.workflows.actions.postgres.revocation import RevokeStandbys

__all__ = [
    "ChooseCandidate",
    "CommitPrimary",
    "FencePrimary",
    "IsolatePrimary",
    "OpenEpoch",
    "PostgresAction",
    "PromoteCandidate",
    "RepointSurvivors",
    "RevokeStandbys",
    "RouteWrites",
]
