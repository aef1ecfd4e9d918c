"""A switch: what a person has turned off, for everything or for one service, and since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

STOP, OBSERVE, DRILL = "stop", "observe", "drill"
EVERYTHING = ""
"""The scope of a switch or a maintenance window that is not about one service."""
EVERYTHING_WORD = "everything"
"""How that scope is written and shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """An engaged switch. ``name``: STOP, OBSERVE or DRILL; ``scope``: a service, or EVERYTHING."""

    name: str
    scope: str
    actor: str
    reason: str
    since: datetime

    @property
    def way_back(self) -> str:
        """The command that releases it."""
        return f"ha-tasks switch on {self.scope}".rstrip()


def shown(scope: str) -> str:
    """The scope as a person reads it."""
    return scope or EVERYTHING_WORD
