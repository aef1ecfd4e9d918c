"""What the agent must not forget about its PostgreSQL node, on its own disk, outside PGDATA."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from workers.agent.disk import read_json, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The node's past, as far as a later command depends on it."""

    promotion_begun: int | None = None
    """Epoch in which a promotion was begun since the node last followed another."""
    upstream: str | None = None
    """Node that it is told to follow."""
    left: str | None = None
    """Node that it followed before it was told to follow nobody."""
    kept_conninfo: str = ""
    """``primary_conninfo`` as it was before the last revocation."""
    received_timeline: int | None = None
    """Timeline of what was received last, seen before the receiver was ended."""
    self_fenced: str = ""
    """Why the agent ended its primary by itself; empty since it was started again."""
    unsound: str = ""
    """Why PGDATA must not be started: a rewind was begun and did not end."""
    restarted: str = ""
    """Key of the last restart that was done."""


class Memory:
    """Remembers durably: what ``note`` was given is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        known = {f.name for f in fields(Remembered)}
        kept = read_json(path) or {}
        self._now = Remembered(**{name: value for name, value in kept.items() if name in known})

    @property
    def now(self) -> Remembered:
        """What is remembered."""
        return self._now

    def note(self, **changes: str | int | None) -> None:
        """Changes some of it. Idempotent."""
        changed = replace(self._now, **changes)  # type: ignore[arg-type] # the names are Remembered's own
        if changed != self._now:
            write_json(self._path, asdict(changed))
            self._now = changed
