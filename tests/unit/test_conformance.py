"""The contract of actions as a check: a good action breaks nothing, each bad one is told its fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ha_tasks.errors import PassingFailure, StaleAuthority, VerificationFailed
from ha_tasks.model.action import Takes
from ha_tasks.model.playbook import VerifySettings
from ha_tasks.ports.action import StepContext
from ha_tasks.workflows.actions.base import PlainAction
from ha_tasks.workflows.actions.conformance import Trial, check_action
from tests.unit.builders import web


class Lamp:
    """What the actions change."""

    def __init__(self) -> None:
        self.lit = False
        self.presses = 0
        self.fence = 0
        self.cut_off = False

    def look(self) -> object:
        return self.lit, self.presses

    @contextmanager
    def cut(self) -> Iterator[None]:
        self.cut_off = True
        try:
            yield
        finally:
            self.cut_off = False

    def set(self, lit: bool, fence: int) -> None:
        if fence < self.fence:
            raise StaleAuthority("a higher fence was seen")
        self.fence, self.lit = fence, lit
        if self.cut_off:
            raise PassingFailure("cut off")


class Light(PlainAction):
    """Lights the lamp."""

    takes = Takes(may=("colour",))

    def __init__(self, lamp: Lamp) -> None:
        self.lamp = lamp

    def capture(self, ctx):
        return {"lit": self.lamp.lit}

    def check(self, ctx):
        return {"lit": True} if self.lamp.lit else None

    def do(self, ctx):
        self.lamp.set(True, ctx.fence)
        return {"lit": True}

    def verify(self, ctx):
        if not self.lamp.lit:
            raise VerificationFailed("it is dark")

    def undo(self, ctx):
        self.lamp.set(ctx.captured["lit"], ctx.fence)


class Undeclared(Light):
    takes = PlainAction.takes


class Declares(Light):
    takes = Takes(needed=("room",))


class PlansNothing(Light):
    def plan(self, ctx):
        return 7


class PlansWithEffect(Light):
    def plan(self, ctx):
        self.lamp.presses += 1
        return "lights"


class CapturesAnything(Light):
    def capture(self, ctx):
        return {"lit": self.lamp.lit, "what": {1}}


class CapturesTheMoment(Light):
    def capture(self, ctx):
        self.asked = getattr(self, "asked", 0) + 1
        return {"lit": self.lamp.lit, "asked": self.asked}


class ChecksItself(Light):
    def check(self, ctx):
        return {"lit": True}


class ChecksNothing(Light):
    def check(self, ctx):
        return None


class UndoesBlindly(Light):
    def undo(self, ctx):
        self.lamp.set(not self.lamp.lit, ctx.fence)


class KeepsQuiet(Light):
    def do(self, ctx):
        try:
            return super().do(ctx)
        except PassingFailure:
            return {"lit": True}


class DoesNothing(Light):
    def do(self, ctx):
        if self.lamp.cut_off:
            raise PassingFailure("cut off")
        return {}

    def verify(self, ctx):
        return


class AnswersAnything(Light):
    def do(self, ctx):
        super().do(ctx)
        return ["lit"]


class Presses(Light):
    def do(self, ctx):
        self.lamp.presses += not self.lamp.cut_off
        return super().do(ctx)


class Unfenced(Light):
    def undo(self, ctx):
        self.lamp.lit = ctx.captured["lit"]


class UndoesHalf(Light):
    def undo(self, ctx):
        if not self.lamp.lit or ctx.fence < 6:
            super().undo(ctx)


class UndoesTwice(Light):
    def undo(self, ctx):
        super().undo(ctx)
        self.lamp.presses += ctx.fence > 6


class AlwaysContent(Light):
    def verify(self, ctx):
        return


class NeverUndone(PlainAction):
    """Lights it for good."""

    takes = Takes()

    def __init__(self, lamp: Lamp) -> None:
        self.lamp = lamp

    def check(self, ctx):
        return {} if self.lamp.lit else None

    def do(self, ctx):
        self.lamp.set(True, ctx.fence)
        return {}


def checked(kind: type[PlainAction]) -> tuple[str, ...]:
    lamp = Lamp()
    context = StepContext(
        run=1,
        step=1,
        key="run-1-step-1",
        service=web(),
        incident=None,
        args={},
        captured={},
        outputs={},
        fence=1,
        verify=VerifySettings(),
        remaining_s=lambda: 5.0,
        lost=lambda: False,
    )
    return check_action(kind(lamp), Trial(context=context, look=lamp.look, cut=lamp.cut, fenced=True))


@pytest.mark.parametrize("kind", [Light, NeverUndone])
def test_an_action_that_keeps_the_contract_breaks_nothing(kind: type[PlainAction]):
    assert checked(kind) == ()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Undeclared, "takes: it does not declare its arguments, so lint cannot judge a playbook's"),
        (Declares, "takes: it declares ('room',) and (), but is called with []"),
        (PlansNothing, "plan: answers neither a line nor a Difference"),
        (PlansWithEffect, "plan, capture or check: changed something"),
        (CapturesAnything, "capture: answers no plain JSON object"),
        (CapturesTheMoment, "capture: answers something else when it is asked again"),
        (ChecksItself, "check: says that it is so before it was done"),
        (ChecksNothing, "check: does not see that it is so after it was done"),
        (UndoesBlindly, "undo: changed something although do never began"),
        (KeepsQuiet, "do: says nothing of an effect that broke off"),
        (DoesNothing, "do: changed nothing that can be seen"),
        (AnswersAnything, "do: answers no plain JSON object"),
        (Presses, "do: has its effect twice"),
        (Unfenced, "a late call under a lower fence was not refused"),
        (Unfenced, "a late call under a lower fence changed something"),
        (UndoesHalf, "undo: does not bring back what was before"),
        (UndoesTwice, "undo: has its effect twice"),
        (AlwaysContent, "verify: is content although it was undone"),
    ],
)
def test_what_an_action_breaks_is_told(kind: type[PlainAction], said: str):
    assert said in checked(kind)


def test_what_a_do_that_broke_off_leaves_is_told():
    class LeavesIt(Light):
        def undo(self, ctx):
            if ctx.fence != 3:
                super().undo(ctx)

    assert "undo: leaves something of a do that broke off in the middle" in checked(LeavesIt)
