"""One's own actions: what installed packages offer, loaded one by one; none can keep the others from working.

A package offers an action by an entry point of the group ``ha_tasks.actions``: its name is the action's
(with a dot in it), its value a factory that is given ``ActionTools`` and answers an ``Action``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from ha_tasks.errors import ActionFailed, HaTasksError, PassingFailure
from ha_tasks.inventory import Inventory
from ha_tasks.model.action import Offer, Traits, sifted, unusable
from ha_tasks.model.fault import Fault
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import Action, ActionTools, Difference, StepContext, takes_of, undoes
from ha_tasks.ports.clock import Clock

GROUP = "ha_tasks.actions"
OWN_LIMIT_S = 240
"""Seconds after which the task of an own action is ended: what it may need is not known here."""
VERBS = ("plan", "capture", "check", "do", "verify", "undo")
HIDDEN = "***"
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnActions:
    """What came of loading. ``offers``: every action that is offered under a name it can have, by name."""

    actions: Mapping[str, Action]
    offers: Mapping[str, Offer]
    faults: tuple[Fault, ...]

    @property
    def traits(self) -> Mapping[str, Traits]:
        """Every action that is offered, also those that cannot be used: those say why in ``missing``."""
        broken = {
            fault.key.removeprefix("action "): Traits(
                provider=fault.file, missing=f"{fault.file}: {fault.problem}; {fault.mending}"
            )
            for fault in self.faults
        }
        usable = {name: self._traits(name, action) for name, action in self.actions.items()}
        return {**broken, **usable}

    def _traits(self, name: str, action: Action) -> Traits:
        provider = self.offers[name].provider
        return Traits(takes=takes_of(action), undoes=undoes(action), limit_s=OWN_LIMIT_S, provider=provider)


def offered() -> tuple[Mapping[str, Offer], tuple[Fault, ...]]:
    """What installed packages offer, and what is wrong with their names. Imports nothing of theirs."""
    good, faults = sifted(offer_of(point) for point in entry_points(group=GROUP))
    return {offer.name: offer for offer in good}, faults


def own_actions(inventory: Inventory, clock: Clock) -> OwnActions:
    """As ``load``, each action with what the inventory has for it."""

    def tools_for(name: str) -> ActionTools:
        return ActionTools(
            name=name,
            platform=inventory.platform,
            clock=clock,
            settings=inventory.action_settings.get(name, {}),
            secret=lambda secret: inventory.secret_of(name, secret),
        )

    return load(tools_for)


def load(tools_for: Callable[[str], ActionTools]) -> OwnActions:
    """Every action that is offered and can be loaded. Raises nothing: what is wrong is a fault, and logged.

    A package that is broken must not stop the recoveries that do not need it.
    """
    offers, faults = offered()
    points = {point.name: point for point in entry_points(group=GROUP)}
    actions: dict[str, Action] = {}
    broken: list[Fault] = []
    for name, offer in offers.items():
        made = _made(offer, points[name], tools_for(name))
        if isinstance(made, Fault):
            broken.append(made)
        else:
            actions[name] = made
    every = (*faults, *broken)
    for fault in every:
        log.error("%s", fault)
    return OwnActions(actions=actions, offers=offers, faults=every)


def offer_of(point: EntryPoint, what: str = "action") -> Offer:
    """What an entry point offers, without importing it."""
    name = point.dist.metadata["Name"] if point.dist else None
    version = point.dist.metadata["Version"] if point.dist else None
    provider = f"{name or 'a package without a name'} {version or ''}".strip()
    return Offer(name=point.name, provider=provider, target=point.value, what=what)


def _made(offer: Offer, point: EntryPoint, tools: ActionTools) -> Action | Fault:
    revealed = Revealed(tools.secret)
    try:
        factory = point.load()
        action = factory(
            ActionTools(
                name=tools.name,
                platform=tools.platform,
                clock=tools.clock,
                settings=tools.settings,
                secret=revealed,
            )
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others may raise anything
        problem = f"{offer.target} cannot be loaded: {revealed.hide(said(error))}"
        return unusable(offer, problem, "mend or uninstall the package, then restart the workers")
    lacking = [verb for verb in VERBS if not callable(getattr(action, verb, None))]
    if lacking or isinstance(action, type):
        lacks = f": it has no {', '.join(lacking)}" if lacking else ""
        problem = f"{offer.target} answered no Action{lacks}"
        return unusable(offer, problem, "have the factory answer one, see docs/howto/add-an-action.md")
    return OwnAction(action, offer, revealed.hide)


def said(error: BaseException) -> str:
    """What code of others raised."""
    return f"{type(error).__name__}: {error}"


class Revealed:
    """Hands secrets out and remembers them, so that they can be kept out of messages."""

    def __init__(self, secret: Callable[[str], str]) -> None:
        self._secret = secret
        self._values: set[str] = set()

    def __call__(self, name: str) -> str:
        """The secret of that name."""
        value = self._secret(name)
        self._values.add(value)
        return value

    def hide(self, text: str) -> str:
        """The text without any secret that was handed out."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        return text


class OwnAction:
    """An action of somebody else's package, kept to the contract.

    Whatever it raises becomes an error of the tree, so that the run goes on as its playbook says; what it
    answers must be plain JSON; a secret that it was given does not get into a message.
    """

    def __init__(self, action: Action, offer: Offer, hide: Callable[[str], str]) -> None:
        self._action = action
        self._offer = offer
        self._hide = hide
        self.takes = takes_of(action)
        self.undoes = undoes(action)

    def plan(self, ctx: StepContext) -> str | Difference:
        """See ports/action.py, as the others."""
        return self._called(lambda: self._action.plan(ctx))

    def capture(self, ctx: StepContext) -> Json | None:
        """What undo will need."""
        captured = self._called(lambda: self._action.capture(ctx))
        return None if captured is None else self._plain("capture", captured)

    def check(self, ctx: StepContext) -> Json | None:
        """The output, when it is already so."""
        output = self._called(lambda: self._action.check(ctx))
        return None if output is None else self._plain("check", output)

    def do(self, ctx: StepContext) -> Json:
        """The effect."""
        return self._plain("do", self._called(lambda: self._action.do(ctx)))

    def verify(self, ctx: StepContext) -> None:
        """Raises unless the effect is there."""
        self._called(lambda: self._action.verify(ctx))

    def undo(self, ctx: StepContext) -> None:
        """Takes the effect back."""
        self._called(lambda: self._action.undo(ctx))

    def _called(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except HaTasksError as error:
            text = self._hide(str(error))
            if text == str(error):
                raise
            raise _reworded(error, text) from None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others may raise anything
            raise ActionFailed(self._hide(f"{self._offer.provider}: {said(error)}")) from None

    def _plain(self, verb: str, answer: Json) -> Json:
        try:
            json.dumps(answer, allow_nan=False)
            plain = isinstance(answer, dict)
        except (TypeError, ValueError, RecursionError):
            plain = False
        if not plain:
            raise ActionFailed(f"{self._offer.provider}: {verb}() answered no plain JSON object")
        return answer


def _reworded(error: HaTasksError, text: str) -> HaTasksError:
    """The same error with another text; of a kind that is made otherwise, the nearest of ours."""
    try:
        return type(error)(text)
    except TypeError:
        return (PassingFailure if error.retryable else ActionFailed)(text)


class Absent:
    """Stands for an action that a journal or a playbook names and that cannot be used here."""

    def __init__(self, name: str, why: str) -> None:
        self._name = name
        self._why = why

    def _fail(self, ctx: StepContext) -> ActionFailed:
        wanted = ctx.provider or "the package that offers it"
        remedy = f"install {wanted} where the workers run, and restart them"
        return ActionFailed(f"action {self._name} {self._why or f'is not installed here; {remedy}'}")

    def plan(self, ctx: StepContext) -> str | Difference:
        """ActionFailed, as every verb: it says what to install."""
        raise self._fail(ctx)

    def capture(self, ctx: StepContext) -> Json:
        """As ``plan``."""
        raise self._fail(ctx)

    def check(self, ctx: StepContext) -> Json | None:
        """As ``plan``."""
        raise self._fail(ctx)

    def do(self, ctx: StepContext) -> Json:
        """As ``plan``."""
        raise self._fail(ctx)

    def verify(self, ctx: StepContext) -> None:
        """As ``plan``."""
        raise self._fail(ctx)

    def undo(self, ctx: StepContext) -> None:
        """As ``plan``."""
        raise self._fail(ctx)


class Actions(Mapping[str, Action]):
    """Every action that there is, by name. For a name that there is not it answers ``Absent``.

    A run that was begun with a package installed must not crash whoever meets it without: its step fails,
    and says what to install.
    """

    def __init__(self, actions: Mapping[str, Action], faults: Sequence[Fault] = ()) -> None:
        self._actions = dict(actions)
        self._why = {fault.key.removeprefix("action "): fault for fault in faults}

    def __getitem__(self, name: str) -> Action:
        """The action, or what stands for it."""
        found = self._actions.get(name)
        if found is not None:
            return found
        fault = self._why.get(name)
        return Absent(str(name), "" if fault is None else f"of {fault.file} cannot be used: {fault.problem}")

    def __contains__(self, name: object) -> bool:
        """True for an action that can be used."""
        return name in self._actions

    def __iter__(self) -> Iterator[str]:
        """The names of those that can be used."""
        return iter(self._actions)

    def __len__(self) -> int:
        """How many can be used."""
        return len(self._actions)
