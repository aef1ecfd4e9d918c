"""The tree of errors.

::

    HaTasksError
    ├── UsageError                 exit 2  the caller asked for something that cannot be
    │   ├── InventoryError                 ha-tasks.toml: says file, key and mending
    │   ├── PlaybookError                  a playbook: says file, step and mending
    │   └── MissingBinary                  a server program: names the remedies
    ├── Refused                    exit 3  a rule said no; nothing was changed
    │   ├── ScopeBusy                      another run holds the scope
    │   ├── SpoolFull                      too many requests wait for the broker
    │   ├── IdempotencyConflict            same key, other body
    │   ├── StaleFence                     another executor has taken the run over
    │   ├── StaleEpoch                     another controller has moved the cluster on
    │   ├── RevisionConflict               another revision of the inventory was applied meanwhile
    │   ├── NotSafe                        R + W <= N: a promotion could lose acknowledged rows
    │   └── AlreadyRunning                 a second demo on the same home
    ├── Unreachable                exit 4  nobody answered in time; retryable
    │   ├── ServiceUnreachable
    │   ├── AgentUnreachable
    │   ├── BalancerUnreachable
    │   ├── PoolerUnreachable
    │   ├── ManagerUnreachable             the manager of a cluster that others lead
    │   ├── BrokerUnreachable
    │   │   └── Unroutable                     it has no such queue; the message waits in the outbox
    │   ├── NotDelivered                   a destination of events did not take the next one
    │   └── StoreUnreachable
    └── Failed                     exit 1  it was tried and did not work
        ├── ActionFailed                   an effect failed for good
        ├── PassingFailure                 an effect failed in a way that passes; retryable
        ├── VerificationFailed             the effect is there, the service is not right
        ├── AgentRefused                   the host agent understood and said no
        │   └── StaleAuthority                 it has seen a higher (epoch, fence); retryable
        ├── BalancerError                  the balancer understood and said no
        ├── PoolerError                    the connection pooler understood and said no
        ├── ManagerRefused                 the manager of a cluster understood and said no
        ├── StartFailed                    a process of the embedded stack did not come up
        └── DeadlineExceeded                  retryable

``reason`` is a label value (a closed, low-cardinality word); ``retryable`` says whether the
same call may succeed later without anybody changing anything.
"""

from __future__ import annotations

from typing import ClassVar


class HaTasksError(Exception):
    """Root of everything this package raises on purpose."""

    reason: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    exit_status: ClassVar[int] = 1


class UsageError(HaTasksError):
    """The request itself is wrong; asking again will not help."""

    reason = "usage"
    exit_status = 2


class InventoryError(UsageError):
    """``ha-tasks.toml`` (or what it points to) is wrong."""

    reason = "inventory"


class PlaybookError(UsageError):
    """A playbook is wrong or none matches."""

    reason = "playbook"


class MissingBinary(UsageError):
    """A server program was found nowhere; the message names every remedy."""

    reason = "missing_binary"


class Refused(HaTasksError):
    """A rule said no and nothing was changed."""

    reason = "refused"
    exit_status = 3


class ScopeBusy(Refused):
    """Another run is active on this scope."""

    reason = "scope_busy"


class SpoolFull(Refused):
    """Too many requests wait for the broker already."""

    reason = "spool_full"


class IdempotencyConflict(Refused):
    """The idempotency key was used before with another body."""

    reason = "idempotency_conflict"


class StaleFence(Refused):
    """The run was taken over: whatever this executor still wants to write is refused."""

    reason = "stale_fence"


class StaleEpoch(Refused):
    """The cluster has moved to another epoch."""

    reason = "stale_epoch"


class RevisionConflict(Refused):
    """Somebody else has applied another revision of the inventory since it was looked at."""

    reason = "revision_conflict"


class NotSafe(Refused):
    """Promotion would not be safe: R + W <= N for a recorded set."""

    reason = "not_safe"


class AlreadyRunning(Refused):
    """Another process holds the lock of this home."""

    reason = "already_running"


class Unreachable(HaTasksError):
    """Nobody answered within the deadline."""

    reason = "unreachable"
    retryable = True
    exit_status = 4


class ServiceUnreachable(Unreachable):
    """A protected service did not answer."""

    reason = "service_unreachable"


class AgentUnreachable(Unreachable):
    """A host agent did not answer."""

    reason = "agent_unreachable"


class BalancerUnreachable(Unreachable):
    """HAProxy's runtime socket did not answer."""

    reason = "balancer_unreachable"


class PoolerUnreachable(Unreachable):
    """pgbouncer's admin console did not answer."""

    reason = "pooler_unreachable"


class ManagerUnreachable(Unreachable):
    """The manager of a cluster that others lead (Patroni) did not answer."""

    reason = "manager_unreachable"


class BrokerUnreachable(Unreachable):
    """The broker did not take a message."""

    reason = "broker_unreachable"


class Unroutable(BrokerUnreachable):
    """There is no such queue."""

    reason = "unroutable"


class StoreUnreachable(Unreachable):
    """The state store did not answer."""

    reason = "store_unreachable"


class NotDelivered(Unreachable):
    """A destination of events did not take the next one. The text bears neither secret nor path."""

    reason = "not_delivered"


class Failed(HaTasksError):
    """It was tried and did not work."""

    reason = "failed"


class ActionFailed(Failed):
    """An effect failed for good."""

    reason = "action_failed"


class PassingFailure(Failed):
    """An effect failed in a way that passes by itself."""

    reason = "passing_failure"
    retryable = True


class VerificationFailed(Failed):
    """The effect is there, and the service is still not right."""

    reason = "verification_failed"


class AgentRefused(Failed):
    """The host agent understood the command and refused it."""

    reason = "agent_refused"


class StaleAuthority(AgentRefused):
    """The agent has seen a higher (epoch, fence): a later claim of the same run may succeed."""

    reason = "stale_authority"
    retryable = True


class BalancerError(Failed):
    """HAProxy understood the command and refused it."""

    reason = "balancer_error"


class PoolerError(Failed):
    """pgbouncer understood the command and refused it."""

    reason = "pooler_error"


class ManagerRefused(Failed):
    """The manager of a cluster that others lead understood and said no."""

    reason = "manager_refused"


class StartFailed(Failed):
    """A process of the embedded stack did not come up."""

    reason = "start_failed"


class DeadlineExceeded(Failed):
    """The deadline passed before the condition held."""

    reason = "deadline"
    retryable = True
