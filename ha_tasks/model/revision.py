"""Revisions of the inventory: what was applied, what the next one changes, who may act under which. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ha_tasks.model.plain import Facts, Json

NOTHING_APPLIED = "no revision of the inventory is applied: look at it and apply it: ha-tasks apply"


def sha256_of(body: Facts) -> str:
    """Of the content as canonical JSON: comments, order and layout of the file do not count."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that another inventory says differently. None: it is not there, before or afterwards."""

    key: str
    before: Any
    after: Any

    @property
    def added(self) -> bool:
        """True for what was not there."""
        return self.before is None

    @property
    def removed(self) -> bool:
        """True for what is there no more."""
        return self.after is None

    def to_json(self) -> Json:
        """As it is kept with the revision."""
        return {"key": self.key, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """``body`` is the content of ha-tasks.toml without any override; it holds secrets as references only."""

    no: int
    sha256: str
    body: Facts
    changes: tuple[Change, ...]
    actor: str
    reason: str
    applied_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a process stands: ``own`` is the revision that its file is; ``problem``: why it takes no new
    work, None when it does.
    """

    own: int | None = None
    problem: str | None = None

    def may_take(self, revision: int | None) -> bool:
        """True when it may go on with a run of that revision: its own, or any while it has the newest."""
        return self.problem is None or revision == self.own


UNREVISED = Standing()
"""Where nobody keeps revisions everybody may act."""


def standing_of(own: int | None, applied: int | None) -> Standing:
    """``own``: the newest revision with the content that the process has loaded; ``applied``: the newest."""
    if applied is None:
        return Standing(own=own, problem=NOTHING_APPLIED)
    if own == applied:
        return Standing(own=own)
    has = (
        "the file that it has loaded was never applied" if own is None else f"this process has revision {own}"
    )
    mending = "deploy the applied file here, or apply this one: ha-tasks apply"
    return Standing(own=own, problem=f"{has}, applied is {applied}: {mending}")


def difference(before: Facts, after: Facts) -> tuple[Change, ...]:
    """What ``after`` says differently, by key; a table that only one of them has is one change.

    The entries of a list of named tables (instances) count by their names, not by their places.
    """
    return tuple(_changes("", named_tables(before), named_tables(after)))


def _changes(prefix: str, before: Facts, after: Facts) -> Iterator[Change]:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        whole = prefix == "" and key in GROUPS
        if whole or (isinstance(old, Mapping) and isinstance(new, Mapping)):
            yield from _changes(f"{prefix}{key}.", named_tables(old or {}), named_tables(new or {}))
        else:
            yield Change(key=f"{prefix}{key}", before=old, after=new)


GROUPS = ("services", "hosts", "balancers")
"""Tables of named things: told thing by thing, also where only one of both has any."""


def named_tables(table: Facts) -> Facts:
    """The table with each list of named tables as a table of them."""
    return {key: _by_name(value) for key, value in table.items() if value is not None}


def _by_name(value: Any) -> Any:  # noqa: ANN401 - what JSON can hold
    tables = isinstance(value, list) and value and all(isinstance(e, Mapping) and "name" in e for e in value)
    if not tables:
        return value
    return {str(e["name"]): {k: v for k, v in e.items() if k != "name"} for e in value}
