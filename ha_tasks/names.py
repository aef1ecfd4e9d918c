"""Closed lists of names: tasks, queues, actions, recovery types. Nothing else may become a label."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


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
    PROBE_REDIS = "ha.probe.redis"
    CHECK_REPLICATION = "ha.check_replication"
    MONITOR_SYSTEM_HEALTH = "ha.monitor_system_health"
    DETECT_AND_RECOVER = "ha.detect_and_recover"
    SWEEP = "ha.sweep"
    PRUNE = "ha.prune"
    VERIFY_AUDIT = "ha.verify_audit"
    RECOVERY_REQUEST = "ha.recovery.request"
    RECOVERY_STATUS = "ha.recovery.status"
    PUBLISH_EVENTS = "ha.publish_events"


class RecoveryType(StrEnum):
    """Label of ``recovery_time_seconds``."""

    FAILOVER = "failover"
    RESTART = "restart"
    REJOIN = "rejoin"
    SWITCHOVER = "switchover"
    SYNC_SET = "sync_set"
    ROLLBACK = "rollback"


class ActionName(StrEnum):
    """Every action of this package that a playbook step may name; one's own come by entry point."""

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
    # a planned switchover, and a planned restart
    CHECK_SWITCHOVER = "check_switchover"
    CHECKPOINT_NODES = "checkpoint_nodes"
    PAUSE_POOLER = "pause_pooler"
    STOP_PRIMARY = "stop_primary"
    CHOOSE_SUCCESSOR = "choose_successor"
    RESUME_POOLER = "resume_pooler"
    DEMOTE_PRIMARY = "demote_primary"
    RESTORE_REDUNDANCY = "restore_redundancy"
    CLOSE_READS = "close_reads"
    RESTART_STANDBY = "restart_standby"
    # a standby that receives nothing
    NARROW_SYNC_SET = "narrow_sync_set"
    # another version of what a service is served from
    APPLY_VERSION = "apply_version"
    # the three gates
    VERIFY_SERVICE = "verify_service"


class PoisonReason(StrEnum):
    """Why a message was put aside; label of ``ha_poison_messages_total``."""

    NOT_JSON = "not_json"
    NOT_A_TASK = "not_a_task"
    UNKNOWN_TASK = "unknown_task"
    CONTENT_TYPE = "content_type"
    HUGE = "huge"
    DELIVERY_LIMIT = "delivery_limit"


STORE_WATCH = "store-watch"
"""Who engages the switch ``observe`` while the store is not to be trusted."""
DEAD_QUEUE = "ha.dead"
"""Where messages that cannot be worked on are put aside; nobody consumes it."""
DEAD_KEPT = 1000
"""So many of them are kept, the newest."""
DELIVERY_LIMIT = 3
"""A message over which so many workers have died is put aside: it may be what kills them."""


class ScheduleEntry(StrEnum):
    """Rows of the schedule; label ``entry`` of ``ha_schedule_missed_total``."""

    SWEEP = "sweep"
    PROBE_HTTP = "probe-http"
    PROBE_POSTGRES = "probe-postgres"
    PROBE_REDIS = "probe-redis"
    CHECK_REPLICATION = "check-replication"
    MONITOR_SYSTEM_HEALTH = "monitor-system-health"
    PUBLISH_EVENTS = "publish-events"
    PRUNE = "prune"
    VERIFY_AUDIT = "verify-audit"


class Handling(StrEnum):
    """What is done about a tick of the schedule that was missed; label ``handling``."""

    MADE_UP = "made_up"
    DROPPED = "dropped"


class RollbackTrigger(StrEnum):
    """Why a run turned round; label of ``ha_rollbacks_total``."""

    STEP_FAILED = "step_failed"
    VERIFICATION_FAILED = "verification_failed"
    MANUAL = "manual"


class RequestAnswer(StrEnum):
    """How a request of another service was answered; label of ``ha_recovery_requests_total``."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REHEARSED = "rehearsed"
    REFUSED = "refused"
    CONFLICT = "conflict"
    INVALID = "invalid"


class FailoverOutcome(StrEnum):
    """How a failover ended; label of ``ha_failovers_total``."""

    PROMOTED = "promoted"
    ABORTED = "aborted"
    FAILED = "failed"


class Counter(StrEnum):
    """Counters that are kept in the ledger; their label names stand in ``LABELS``."""

    PROBES = "ha_probes_total"
    PROBE_FAILURES = "ha_probe_failures_total"
    INCIDENTS = "ha_incidents_total"
    RECOVERIES = "ha_recoveries_total"
    RECOVERY_FAILURES = "ha_recovery_failures_total"
    STEP_FAILURES = "ha_recovery_step_failures_total"
    ROLLBACKS = "ha_rollbacks_total"
    ROLLBACK_FAILURES = "ha_rollback_failures_total"
    FAILOVERS = "ha_failovers_total"
    BLOCKED = "ha_recovery_blocked_total"
    BALANCER_DRIFT = "ha_balancer_drift_total"
    SYNC_SET_EDITED = "ha_sync_set_edited_total"
    REQUESTS = "ha_recovery_requests_total"
    EVENTS_DELIVERED = "ha_events_delivered_total"
    EVENT_FAILURES = "ha_event_delivery_failures_total"
    EVENTS_GIVEN_UP = "ha_events_given_up_total"
    POISON = "ha_poison_messages_total"
    SCHEDULE_MISSED = "ha_schedule_missed_total"


class Histogram(StrEnum):
    """Histograms that are kept in the ledger, in seconds; their bounds stand in ``BUCKETS``."""

    RECOVERY_TIME = "recovery_time_seconds"
    PROBE_DURATION = "ha_probe_duration_seconds"
    DETECTION_DELAY = "ha_detection_delay_seconds"
    STEP_DURATION = "ha_recovery_step_duration_seconds"


LABELS: Mapping[Counter | Histogram, tuple[str, ...]] = MappingProxyType(
    {
        Counter.PROBES: ("service_name", "probe"),
        Counter.PROBE_FAILURES: ("service_name", "probe", "reason"),
        Counter.INCIDENTS: ("service_name", "severity"),
        Counter.RECOVERIES: ("recovery_type",),
        Counter.RECOVERY_FAILURES: ("recovery_type",),
        Counter.STEP_FAILURES: ("recovery_type", "step"),
        Counter.ROLLBACKS: ("trigger",),
        Counter.ROLLBACK_FAILURES: ("trigger",),
        Counter.FAILOVERS: ("cluster", "outcome"),
        Counter.BLOCKED: ("guard",),
        Counter.BALANCER_DRIFT: ("backend",),
        Counter.SYNC_SET_EDITED: ("cluster",),
        Counter.REQUESTS: ("answer",),
        Counter.EVENTS_DELIVERED: ("destination",),
        Counter.EVENT_FAILURES: ("destination",),
        Counter.EVENTS_GIVEN_UP: ("destination",),
        Counter.POISON: ("reason",),
        Counter.SCHEDULE_MISSED: ("entry", "handling"),
        Histogram.RECOVERY_TIME: ("recovery_type",),
        Histogram.PROBE_DURATION: ("probe",),
        Histogram.DETECTION_DELAY: ("detector",),
        Histogram.STEP_DURATION: ("recovery_type", "step"),
    }
)
"""Label names of what the ledger keeps. ``probe``, ``detector``: a ServiceKind; ``step``: an ActionName."""

_RECOVERY_BOUNDS = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""The targets of 30 s and 300 s are edges, so "share under target" is exact."""
_FAST_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

BUCKETS: Mapping[Histogram, tuple[float, ...]] = MappingProxyType(
    {
        Histogram.RECOVERY_TIME: _RECOVERY_BOUNDS,
        Histogram.PROBE_DURATION: _FAST_BOUNDS,
        Histogram.DETECTION_DELAY: (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0),
        Histogram.STEP_DURATION: (0.01, 0.05, 0.1, 0.25, *_RECOVERY_BOUNDS),
    }
)
"""Upper bounds in seconds, ascending; the bucket ``+Inf`` is the count itself."""


_OURS = frozenset(ActionName)


def action_named(word: str) -> str:
    """The action of that name: one of ours as an ActionName, one's own (an entry point) as it is written."""
    return ActionName(word) if word in _OURS else word


def step_task(action: str) -> str:
    """Name of the Celery task that does a step."""
    return f"ha.step.{action}"


def undo_task(action: str) -> str:
    """Name of the Celery task that undoes a step."""
    return f"ha.undo.{action}"


def host_queue(host: str) -> str:
    """Name of the queue that the worker on ``host`` consumes."""
    return f"host.{host}"
