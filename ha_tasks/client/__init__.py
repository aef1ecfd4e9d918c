"""For other services: asking for recoveries. ``from ha_tasks.client import RecoveryClient``.

It needs the broker's address and nothing else, and imports nothing heavy until a client is made.
"""

from ha_tasks.client.recovery_client import Receipt, RecoveryClient
from ha_tasks.errors import BrokerUnreachable, DeadlineExceeded, IdempotencyConflict, SpoolFull, UsageError

__all__ = [
    "BrokerUnreachable",
    "DeadlineExceeded",
    "IdempotencyConflict",
    "Receipt",
    "RecoveryClient",
    "SpoolFull",
    "UsageError",
]
