"""An event: an entry of the audit chain as others get it, and the rules of telling it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from ha_tasks.model.audit import AuditEntry
from ha_tasks.model.plain import Json

VERSION = 1
TOLD = ("incident.*", "run.*", "switch.*")
"""What leaves the house at all, if a destination asks for it."""
EXCHANGE = "exchange"
"""Name of the destination that is the exchange ``ha.events``; webhooks have their own names."""
GIVE_UP_AFTER = timedelta(hours=24)
"""An event that a destination has not taken by then is left out for it: its successors wait behind it."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``seq`` is the number in the audit chain; ``verb`` (``incident.opened``) the routing key."""

    seq: int
    at: datetime
    actor: str
    verb: str
    object: str
    before: Json | None
    after: Json | None

    def to_json(self) -> Json:
        """The body: ``ha_tasks/contract/event.schema.json``."""
        return {
            "v": VERSION,
            "seq": self.seq,
            "at": self.at.isoformat(),
            "actor": self.actor,
            "verb": self.verb,
            "object": self.object,
            "before": self.before,
            "after": self.after,
        }


def event_of(entry: AuditEntry) -> Event:
    """The entry without its hashes."""
    return Event(
        seq=entry.seq,
        at=entry.at,
        actor=entry.actor,
        verb=entry.verb,
        object=entry.object,
        before=entry.before,
        after=entry.after,
    )


def wanted(verb: str, patterns: Iterable[str]) -> bool:
    """True when one of the patterns (``run.succeeded``, ``incident.*``, ``*``) is for the verb."""
    return any(fnmatchcase(verb, p) for p in TOLD) and any(fnmatchcase(verb, p) for p in patterns)


def pause_s(attempts: int) -> float:
    """Seconds until the next attempt after so many failed ones: 1, 2, 4 ... 300."""
    return min(FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 20), LONGEST_PAUSE_S)


def too_old(event: Event, now: datetime) -> bool:
    """True when the event is given up for a destination that does not take it."""
    return now - event.at > GIVE_UP_AFTER
