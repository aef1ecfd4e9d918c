"""The contract of an action as a check that its author's tests call; needs no test framework.

It takes the action through what happens to a step in real life: read before, done, done again after its
executor died, undone, undone without ever having begun, cut off in the middle, overtaken by another executor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from ha_tasks.errors import HaTasksError
from ha_tasks.model.action import Takes
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import Action, Difference, StepContext, takes_of, undoes


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the check needs beside the action.

    ``look``: the state of what the action changes, as a value that can be compared; asked of the thing
    itself, not of the action. ``cut``: while it is entered, the effect breaks off in the middle: ``do`` must
    raise. ``fenced``: the thing refuses a lower fence than it has seen.
    """

    context: StepContext
    look: Callable[[], object]
    cut: Callable[[], AbstractContextManager[object]] | None = None
    fenced: bool = False


def check_action(action: Action, trial: Trial) -> tuple[str, ...]:
    """The promises that the action breaks, each in a sentence; empty: it keeps the contract.

    The thing that it changes is left as it was found, if the action can undo. What ``do`` raises where it
    must not is raised on.
    """
    return tuple(_Check(action, trial).broken())


@dataclass(slots=True)
class _Check:
    action: Action
    trial: Trial
    captured: Json = field(default_factory=dict)

    def broken(self) -> Iterator[str]:
        yield from self._arguments()
        yield from self._reading()
        self.captured = self._captured() or {}
        if undoes(self.action):
            yield from self._undone_without_beginning()
            yield from self._cut_off()
        yield from self._done()

    def _ctx(self, fence: int = 2) -> StepContext:
        return replace(self.trial.context, fence=fence, captured=self.captured)

    def _captured(self) -> Json | None:
        return self.action.capture(self._ctx())

    def _arguments(self) -> Iterator[str]:
        takes: Takes = takes_of(self.action)
        if takes.anything:
            yield "takes: it does not declare its arguments, so lint cannot judge a playbook's"
            return
        given = set(self.trial.context.args)
        if not set(takes.needed) <= given <= {*takes.needed, *takes.may}:
            yield f"takes: it declares {takes.needed} and {takes.may}, but is called with {sorted(given)}"

    def _reading(self) -> Iterator[str]:
        before = self.trial.look()
        said: object = self.action.plan(replace(self._ctx(), captured=self._captured() or {}))
        if not isinstance(said, str | Difference):
            yield "plan: answers neither a line nor a Difference"
        first, second = self._captured(), self._captured()
        if first is not None and not _is_plain(first):
            yield "capture: answers no plain JSON object"
        if first != second:
            yield "capture: answers something else when it is asked again"
        if self.action.check(replace(self._ctx(), captured=first or {})) is not None:
            yield "check: says that it is so before it was done"
        if self.trial.look() != before:
            yield "plan, capture or check: changed something"

    def _undone_without_beginning(self) -> Iterator[str]:
        before = self.trial.look()
        self.action.undo(self._ctx())
        if self.trial.look() != before:
            yield "undo: changed something although do never began"

    def _cut_off(self) -> Iterator[str]:
        if self.trial.cut is None:
            return
        before = self.trial.look()
        try:
            with self.trial.cut():
                self.action.do(self._ctx())
        except HaTasksError:  # which is what an effect that broke off has to end with
            pass
        else:
            yield "do: says nothing of an effect that broke off"
        self.action.undo(self._ctx(fence=3))
        if self.trial.look() != before:
            yield "undo: leaves something of a do that broke off in the middle"

    def _done(self) -> Iterator[str]:
        before = self.trial.look()
        output = self.action.do(self._ctx(fence=4))
        after = self.trial.look()
        if after == before:
            yield "do: changed nothing that can be seen"
        if not _is_plain(output):
            yield "do: answers no plain JSON object"
        self.action.verify(self._ctx(fence=4))
        if self.action.check(self._ctx(fence=4)) is None:
            yield "check: does not see that it is so after it was done"
        self.action.do(self._ctx(fence=5))
        if self.trial.look() != after:
            yield "do: has its effect twice"
        if self.trial.fenced:
            yield from self._overtaken(after)
        if undoes(self.action):
            yield from self._undone(before)

    def _overtaken(self, after: object) -> Iterator[str]:
        """Another executor has done it under a higher fence; this one wakes up, and would undo it."""
        late = self.action.undo if undoes(self.action) else self.action.do
        try:
            late(self._ctx(fence=1))
        except HaTasksError:
            pass
        else:
            yield "a late call under a lower fence was not refused"
        if self.trial.look() != after:
            yield "a late call under a lower fence changed something"

    def _undone(self, before: object) -> Iterator[str]:
        self.action.undo(self._ctx(fence=6))
        if self.trial.look() != before:
            yield "undo: does not bring back what was before"
        self.action.undo(self._ctx(fence=7))
        if self.trial.look() != before:
            yield "undo: has its effect twice"
        try:
            self.action.verify(self._ctx(fence=7))
        except HaTasksError:
            return
        yield "verify: is content although it was undone"


def _is_plain(answer: object) -> bool:
    try:
        json.dumps(answer, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return isinstance(answer, dict)
