"""Closed lists of names: tasks, queues, actions, recovery types. Nothing else may become a label."""

from __future__ import annotations

from enum import StrEnum


class Queue(StrEnum):
    """The queues that every plain worker serves; ``host.<name>`` comes beside them."""

    PROBES = "probes"
    RECOVERY = "recovery"
    BACKUPS = "backups"
    TUNING = "tuning"
    ALERTS = "alerts"


class TaskName(StrEnum):
    """Tasks that are not steps of a run."""

    PROBE_HTTP = "ha.probe.http"
    PROBE_POSTGRES = "ha.probe.postgres"
    CHECK_REPLICATION = "ha.check_replication"
    DETECT_AND_RECOVER = "ha.detect_and_recover"
    SWEEP = "ha.sweep"
    PRUNE = "ha.prune"


class RecoveryType(StrEnum):
    """Label of ``recovery_time_seconds``."""

    FAILOVER = "failover"
    RESTART = "restart"
    REJOIN = "rejoin"


class ActionName(StrEnum):
    """Every action that a playbook step may name."""

    # one dead HTTP instance
    TAKE_OUT = "take_out"
    SPARE_IN = "spare_in"
    RESTART_INSTANCE = "restart_instance"
    PUT_BACK = "put_back"
    SPARE_OUT = "spare_out"
    # a dead PostgreSQL primary
    OPEN_EPOCH = "open_epoch"
    ISOLATE_PRIMARY = "isolate_primary"
    FENCE_PRIMARY = "fence_primary"
    REVOKE_STANDBYS = "revoke_standbys"
    CHOOSE_CANDIDATE = "choose_candidate"
    REPOINT_SURVIVORS = "repoint_survivors"
    PROMOTE_CANDIDATE = "promote_candidate"
    ROUTE_WRITES = "route_writes"
    COMMIT_PRIMARY = "commit_primary"
    # the way back of a PostgreSQL node
    CHECKPOINT_PRIMARY = "checkpoint_primary"
    REJOIN_NODE = "rejoin_node"
    AWAIT_STREAMING = "await_streaming"
    WIDEN_SYNC_SET = "widen_sync_set"
    ROUTE_READS = "route_reads"
    # the three gates
    VERIFY_SERVICE = "verify_service"


def step_task(action: ActionName) -> str:
    """Name of the Celery task that does a step."""
    return f"ha.step.{action}"


def undo_task(action: ActionName) -> str:
    """Name of the Celery task that undoes a step."""
    return f"ha.undo.{action}"


def host_queue(host: str) -> str:
    """Name of the queue that the worker on ``host`` consumes."""
    return f"host.{host}"
