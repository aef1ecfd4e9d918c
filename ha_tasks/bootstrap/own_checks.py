"""One's own health checks: what installed packages offer, each run apart from the others.

A package offers a check by an entry point of the group ``ha_tasks.checks``: its name is the check's (with a
dot in it), its value a factory that is given ``ActionTools`` and answers an object with ``examine()``.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points

from ha_tasks.bootstrap.own_actions import Revealed, offer_of, said
from ha_tasks.inventory import Inventory
from ha_tasks.model.action import sifted
from ha_tasks.model.fault import Fault
from ha_tasks.model.system_health import DOWN, Examined
from ha_tasks.ports.action import ActionTools
from ha_tasks.ports.clock import Clock

GROUP = "ha_tasks.checks"
WITHIN_S = 5.0


class EntryPointChecks:
    """Implements ports.checks.OwnChecks. A check that hangs is not asked again here until it ends."""

    def __init__(self, tools_for: Callable[[str], ActionTools], *, within_s: float = WITHIN_S) -> None:
        offers, self._faults = sifted(offer_of(point, "check") for point in entry_points(group=GROUP))
        points = {point.name: point for point in entry_points(group=GROUP)}
        self._checks = [_Check(points[offer.name], tools_for(offer.name)) for offer in offers]
        self._within_s = within_s

    def examine_all(self) -> Sequence[Examined]:
        """See the port."""
        looks = [(check, check.begin()) for check in self._checks]
        end = time.monotonic() + self._within_s
        for _, thread in looks:
            thread.join(max(0.0, end - time.monotonic()))
        return [*map(_of_fault, self._faults), *(check.outcome(self._within_s) for check, _ in looks)]


def own_checks(inventory: Inventory, clock: Clock) -> EntryPointChecks:
    """Each check with what the inventory has for it. Imports nothing of theirs before it is asked."""

    def tools_for(name: str) -> ActionTools:
        return ActionTools(
            name=name,
            platform=inventory.platform,
            clock=clock,
            settings=inventory.check_settings.get(name, {}),
            secret=Revealed(lambda secret: inventory.check_secret_of(name, secret)),
        )

    return EntryPointChecks(tools_for)


class _Check:
    """One check; its code is imported in its own thread, too, as that may hang as well."""

    def __init__(self, point: EntryPoint, tools: ActionTools) -> None:
        self._point = point
        self._tools = tools
        self._thread = threading.Thread()
        self._outcome: Examined | None = None

    def begin(self) -> threading.Thread:
        """Begins, unless it still runs."""
        if not self._thread.is_alive():
            self._outcome = None
            self._thread = threading.Thread(target=self._run, name=f"check {self._point.name}", daemon=True)
            self._thread.start()
        return self._thread

    def outcome(self, within_s: float) -> Examined:
        if self._outcome is not None:
            return self._outcome
        return self._ill(
            f"it has not answered within {within_s:g} s", "mend it: a check has to have a deadline"
        )

    def _run(self) -> None:
        try:
            found = self._point.load()(self._tools).examine()
            whole = isinstance(found, Examined) and (found.score is None or 0.0 <= found.score <= 1.0)
            self._outcome = self._told(found) if whole else self._odd(found)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others may raise anything
            self._outcome = self._ill(f"it raised {said(error)}", "mend or uninstall its package")

    def _told(self, found: Examined) -> Examined:
        """In its own words, under its own name. Raises TypeError for facts that are no plain JSON."""
        return Examined(
            subject=self._point.name,
            check=self._hidden(f"{found.subject} {found.check}".strip()),
            score=found.score,
            problem=self._hidden(found.problem),
            remedy=self._hidden(found.remedy),
            facts=json.loads(self._hidden(json.dumps(found.facts, allow_nan=False))),
        )

    def _odd(self, found: object) -> Examined:
        told = f"it answered {type(found).__name__}, not an Examined with a score from 0 to 1"
        return self._ill(told, "mend it: docs/howto/system-health.md")

    def _hidden(self, text: str) -> str:
        """A secret that it was given does not get into a report."""
        return self._tools.secret.hide(text) if isinstance(self._tools.secret, Revealed) else text

    def _ill(self, problem: str, remedy: str) -> Examined:
        return Examined(
            subject=self._point.name,
            check="own check",
            score=DOWN,
            problem=self._hidden(problem)[:300],
            remedy=remedy,
        )


def _of_fault(fault: Fault) -> Examined:
    return Examined(
        subject=fault.file, check=fault.key, score=DOWN, problem=fault.problem, remedy=fault.mending
    )
