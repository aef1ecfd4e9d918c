"""A playbook: which failure it is for, and the steps that mend it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ServiceKind
from ha_tasks.names import RecoveryType


class UndoPolicy(StrEnum):
    """What a compensation does with a done step."""

    RUN = "run"
    KEEP = "keep"
    """Its effect stays on purpose, for example a dead instance stays out of the balancer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybookStep:
    """One step. ``needs`` are ids of steps that must come before; ``timeout_s`` seconds per attempt."""

    id: str
    action: str
    needs: tuple[str, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)
    """Values may look up ``${incident.instance}``, ``${incident.service}``; nothing else."""
    undo: UndoPolicy = UndoPolicy.RUN
    timeout_s: float = 15.0
    attempts: int = 2
    point_of_no_return: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which incidents it answers; an empty field matches everything."""

    incident: IncidentKind
    kind: ServiceKind | None = None
    service: str | None = None
    changed: bool = False
    """Only where what the service is served from was changed since it was last known to be good."""


class Approval(StrEnum):
    """Whether a person must say yes before a run begins."""

    NEVER = "never"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """Limits of this playbook. ``cooldown_s`` counts from the last success on the scope."""

    cooldown_s: float = 600.0
    min_healthy: int = 1
    """Refused when fewer other instances of the service are healthy."""
    max_targets: int = 1
    max_share: float = 0.34
    """Of the pool that may be out at a time, one instance at least."""
    approval: Approval = Approval.NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySettings:
    """The three gates. ``within_s``: how long the health gate may take; ``good_probes`` in a row."""

    within_s: float = 20.0
    good_probes: int = 3
    data: bool = False
    max_latency_ratio: float = 10.0
    """Performance gate: median latency at most this multiple of the baseline (and 50 ms)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Playbook:
    """``sha256`` is of the file it came from; the plan keeps it."""

    name: str
    version: int
    summary: str
    recovery_type: RecoveryType
    match: Match
    steps: tuple[PlaybookStep, ...]
    guards: GuardSettings = field(default_factory=GuardSettings)
    verify: VerifySettings = field(default_factory=VerifySettings)
    mitigates: bool = False
    """True: success leaves the incident MITIGATED, redundancy is brought back by another playbook."""
    priority: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """So much acknowledged data may be lost by a run, by a person's word or the policy ``availability``."""

    bytes: int
    primary_at: int | None = None
    """The furthest position (bytes) at which the primary was seen; None: it is not known."""
    off: tuple[str, ...] = ()
    """Nodes of which a person says that they are off, and stay off until they are rejoined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step with its arguments resolved. ``no`` counts from 1."""

    no: int
    id: str
    action: str
    args: Json
    undo: UndoPolicy
    timeout_s: float
    attempts: int
    point_of_no_return: bool
    provider: str = ""
    """The package that brings the action, with its version; empty: ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Immutable once made: what will be done, about what, by which version of which playbook."""

    service: str
    scope: str
    playbook: str
    version: int
    sha256: str
    recovery_type: RecoveryType
    targets: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
    guards: GuardSettings
    verify: VerifySettings
    mitigates: bool
    summary: str
    situation: Json = field(default_factory=dict)
    """What it was made for, as far as that decides what the steps do; part of its hash."""
    accepts: Acceptance | None = None
    """Given with the order to run it, so no part of its hash. None: nothing may be lost."""
