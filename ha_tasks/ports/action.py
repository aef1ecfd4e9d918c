"""An action: what a playbook's step does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ha_tasks.model.action import Takes
from ha_tasks.model.incident import Incident
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Service
from ha_tasks.model.playbook import Acceptance, VerifySettings
from ha_tasks.model.progress import Progress, Tell
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.repositories import Warrant


def _to_nobody(_: Progress) -> None:
    """Where nobody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What an action is given. ``fence`` is this claim's; ``key`` is the same for every attempt.

    ``outputs`` are those of the steps before, by step id. ``remaining_s`` says how long it may still take;
    ``lost`` is true once the lease could not be renewed: a long action must then stop.
    """

    run: int
    step: int
    key: str
    service: Service
    incident: Incident | None
    args: Json
    captured: Json
    outputs: Mapping[str, Json]
    fence: int
    verify: VerifySettings
    remaining_s: Callable[[], float]
    lost: Callable[[], bool]
    provider: str = ""
    """The package that brought the action when the run was planned; empty: ours."""
    action: str = ""
    """Name of the action that is called."""
    accepts: Acceptance | None = None
    """How much acknowledged data the run may lose; None: none at all."""
    tell: Tell = _to_nobody
    """For a step that takes long: how far it is, for whoever looks. Raises StaleFence."""

    @property
    def warrant(self) -> Warrant:
        """For what is written into SQL: refused once another executor has taken the run over."""
        return Warrant(run=self.run, fence=self.fence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a step would change: ``what`` is ``before`` now and would be ``after`` then."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a step would change now. ``text``: in one line; ``changes``: thing by thing, as a diff.

    ``output``: what the step would hand on, as far as that can be told: the plans of the steps behind it
    find it in ``ctx.outputs``. ``doubt``: why it would refuse or fail as things stand; empty: it would not.
    """

    text: str
    changes: tuple[Change, ...] = ()
    doubt: str = ""
    output: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTools:
    """What the factory of one's own action is given.

    ``settings`` and ``secret`` are the action's own table of the inventory, ``[actions."acme.cdn_mode"]``.
    ``secret(name)`` reads one anew; it raises InventoryError when it is not there. ``platform`` is what the
    inventory describes; everything about the step comes with the StepContext, its fence too.
    """

    name: str
    platform: Platform
    clock: Clock
    settings: Mapping[str, str]
    secret: Callable[[str], str]


class Action(Protocol):
    """All verbs but ``do`` and ``undo`` only read. A raised error whose class is ``retryable`` passes."""

    def plan(self, ctx: StepContext) -> str | Difference:
        """What ``do`` would change now, in one line or as a difference. ``ctx.captured`` is ``capture``'s."""
        ...

    def capture(self, ctx: StepContext) -> Json | None:
        """What ``undo`` will need; stored in the journal before ``do`` begins.

        None: it needs nothing, now or ever, so nothing is stored and ``ctx.captured`` is empty.
        """
        ...

    def check(self, ctx: StepContext) -> Json | None:
        """The output, when it is already so (``do`` is left out then); else None."""
        ...

    def do(self, ctx: StepContext) -> Json:
        """The effect, idempotent or fenced; answers the step's output."""
        ...

    def verify(self, ctx: StepContext) -> None:
        """Raises VerificationFailed, or a retryable error, unless the effect is there."""
        ...

    def undo(self, ctx: StepContext) -> None:
        """Takes the effect back by ``ctx.captured``; idempotent, also when ``do`` never began."""
        ...


UNDECLARED = Takes(anything=True)


def takes_of(action: Action) -> Takes:
    """The arguments that it declares in its attribute ``takes``."""
    declared = getattr(action, "takes", UNDECLARED)
    return declared if isinstance(declared, Takes) else UNDECLARED


def undoes(action: Action) -> bool:
    """False when it says, in its attribute ``undoes``, that its effect cannot be taken back."""
    return bool(getattr(action, "undoes", True))
