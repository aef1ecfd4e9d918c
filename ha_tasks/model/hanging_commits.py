"""Whether commits that hung on the synchronous set are acknowledged again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from ha_tasks.model.probe import ProbeOutcome

FLOW_FOR = timedelta(seconds=3)
"""So long no commit must be found waiting twice. A client that gives up and tries again waits anew each time,
and so does the heartbeat, each second: with less its pauses would be taken for the end."""
LOOKS = 3


def commits_flow(outcomes: Iterable[ProbeOutcome], primary: str, now: datetime) -> bool:
    """True when each vantage has looked at the primary in FLOW_FOR, and found no commit waiting twice.

    A commit that is found waiting once may be any of a busy server. A probe that failed shows nothing.
    """
    seen: dict[str, list[ProbeOutcome]] = {}
    for outcome in sorted(outcomes, key=lambda o: o.sent_at):
        if outcome.target.instance == primary and outcome.sent_at >= now - FLOW_FOR:
            seen.setdefault(outcome.vantage, []).append(outcome)
    return bool(seen) and all(_flow(looks) for looks in seen.values())


def _flow(looks: Sequence[ProbeOutcome]) -> bool:
    enough = len(looks) >= LOOKS and all(look.ok for look in looks)
    waiting = [_waiting(look.facts.get("waits", {})) for look in looks]
    return enough and not any(a is not None and a == b for a, b in pairwise(waiting))


def _waiting(waits: Mapping[str, str]) -> str | None:
    return waits.get("sync")
