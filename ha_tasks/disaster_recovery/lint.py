"""Playbook lint: what would go wrong with a playbook, found before it has to run.

Beyond what keeps a file from being read (see playbooks.py) it knows the actions, ours and those of installed
packages, and the inventory. An error makes the playbook do something else than it says, or nothing; a
warning is for a person to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.disaster_recovery.playbook_schema import MatchTable, PlaybookFile, StepTable
from ha_tasks.disaster_recovery.playbooks import SHIPPED, Shelf, longest_s, step_id
from ha_tasks.model.action import Traits
from ha_tasks.model.fault import Fault, closest
from ha_tasks.model.incident import ORDERED, IncidentKind
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Service, ServiceKind

_STEP_KEY = re.compile(rf"^step\.(.+?)(?:\.(?:{'|'.join(StepTable.model_fields)})(?:\..*)?)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``step``: id of the step that it is about; empty: the playbook as a whole."""

    file: str
    step: str
    what: str
    mending: str
    warning: bool = False

    def __str__(self) -> str:
        """One line: where, what, how to mend it."""
        step = f": step {self.step}" if self.step else ""
        return f"{self.file}{step}: {self.what}; {self.mending}"

    def to_json(self) -> Json:
        """The finding as plain JSON."""
        level = "warning" if self.warning else "error"
        return {
            "file": self.file,
            "step": self.step,
            "what": self.what,
            "mending": self.mending,
            "level": level,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A step beside what is known of its action; None: nothing. ``passed``: behind a point of no return."""

    table: StepTable
    traits: Traits | None
    passed: str | None

    @property
    def id(self) -> str:
        return step_id(self.table)


def findings(shelf: Shelf, actions: Mapping[str, Traits], platform: Platform | None) -> tuple[Finding, ...]:
    """Everything that is to be said of the files, errors before warnings, in the order of the files.

    ``actions``: every action, ours and one's own; ``platform``: None where there is no inventory.
    """
    found = [_of_fault(fault) for fault in shelf.faults]
    for file, table in shelf.tables.items():
        found += _steps(file, table, actions)
        if platform is not None:
            found += _selector(file, table, platform)
            found += _objectives(file, table, platform)
    return tuple(sorted(found, key=lambda finding: finding.warning))


def _of_fault(fault: Fault) -> Finding:
    step = _STEP_KEY.match(fault.key)
    if step is not None:
        key = fault.key.removeprefix(f"step.{step[1]}").removeprefix(".")
        name = step[1]
    else:
        key, name = fault.key, ""
    what = f"{key}: {fault.problem}" if key else fault.problem
    return Finding(file=fault.file, step=name, what=what, mending=fault.mending)


def _steps(file: Path, table: PlaybookFile, actions: Mapping[str, Traits]) -> Iterator[Finding]:
    passed: str | None = None
    for each in _in_order(table.step):
        step = _Step(table=each, traits=actions.get(each.action), passed=passed)
        yield from _action(file, step, actions)
        yield from _arguments(file, step)
        yield from _way_back(file, step)
        yield from _limit(file, step)
        yield from _kind(file, step, table.match)
        passed = step.id if each.point_of_no_return and passed is None else passed
    yield from _never(file, table.step)


def _in_order(steps: Sequence[StepTable]) -> list[StepTable]:
    """As they would run; those that never can (a circle) stand where the file has them."""
    done: set[str] = set()
    left, ordered = list(steps), []
    while left:
        ready = next((s for s in left if set(s.needs) <= done), left[0])
        left.remove(ready)
        done.add(step_id(ready))
        ordered.append(ready)
    return ordered


def _error(file: Path, step: str, what: str, mending: str) -> Finding:
    return Finding(file=str(file), step=step, what=what, mending=mending)


def _action(file: Path, step: _Step, actions: Mapping[str, Traits]) -> Iterator[Finding]:
    name = step.table.action
    if step.traits is None:
        text = f'no installed package offers the action "{name}"'
        yield _error(file, step.id, text, f"install the one that does; {closest(name, actions)}")
    elif step.traits.missing:
        text = f'the action "{name}" cannot be used: {step.traits.missing}'
        yield _error(file, step.id, text, "mend that package, or take the step out")


def _arguments(file: Path, step: _Step) -> Iterator[Finding]:
    if step.traits is None or step.traits.takes.anything:
        return
    takes, given = step.traits.takes, step.table.args
    known = (*takes.needed, *takes.may)
    for name in given:
        if name not in known:
            text = f'args: {step.table.action} has no argument "{name}"'
            yield _error(file, step.id, text, closest(name, known))
    for name in takes.needed:
        if name not in given:
            text = f'args: {step.table.action} needs the argument "{name}"'
            yield _error(file, step.id, text, f'write args = {{ {name} = "..." }}')


def _way_back(file: Path, step: _Step) -> Iterator[Finding]:
    if step.passed is not None:
        if step.table.undo == "run" and "undo" in step.table.model_fields_set:
            text = f"its undo can never run: {step.passed}, a point of no return, comes before it"
            yield _error(file, step.id, text, "take undo out, or move the step before it")
        return
    blind = step.traits is not None and not step.traits.undoes and not step.traits.missing
    if blind and step.table.undo == "run" and not step.table.point_of_no_return:
        text = f"{step.table.action} cannot be undone, and this is no point of no return"
        mending = 'write undo = "keep" where its effect may stay, else point_of_no_return = true'
        yield _error(file, step.id, text, mending)


def _limit(file: Path, step: _Step) -> Iterator[Finding]:
    if step.traits is not None and step.table.timeout_s > step.traits.limit_s:
        text = f"timeout_s: its task is ended after {step.traits.limit_s:g} s, before that"
        yield _error(file, step.id, text, f"write {step.traits.limit_s:g} at most")


def _kind(file: Path, step: _Step, match: MatchTable) -> Iterator[Finding]:
    kinds = step.traits.kinds if step.traits is not None else ()
    if kinds and match.kind is not None and match.kind not in kinds:
        text = f"{step.table.action} is for kind {', '.join(kinds)}, and this playbook for {match.kind}"
        yield _error(file, step.id, text, "take the step out")


def _never(file: Path, steps: Sequence[StepTable]) -> Iterator[Finding]:
    """Steps behind one that can never run. That one itself is told when the file is read."""
    able: set[str] = set()
    while more := {step_id(s) for s in steps if set(s.needs) <= able} - able:
        able |= more
    ids = {step_id(s) for s in steps}
    roots = {step_id(s) for s in steps if not set(s.needs) <= ids} | _circular(steps)
    for step in steps:
        name = step_id(step)
        if name not in able and name not in roots:
            stuck = next(need for need in step.needs if need not in able)
            yield _error(file, name, f"can never run: {stuck}, which it needs, never does", f"mend {stuck}")


def _circular(steps: Sequence[StepTable]) -> set[str]:
    """Steps that need themselves in the end."""
    needs = {step_id(s): set(s.needs) for s in steps}

    def reaches(start: str) -> bool:
        seen: set[str] = set()
        stack = list(needs[start])
        while stack:
            name = stack.pop()
            if name == start:
                return True
            if name not in seen:
                seen.add(name)
                stack += needs.get(name, ())
        return False

    return {name for name in needs if reaches(name)}


def matched(match: MatchTable, platform: Platform) -> list[Service]:
    """The services of the inventory that the playbook could ever run for."""
    return [
        service
        for service in platform.services.values()
        if match.service in (None, service.name)
        and match.kind in (None, service.kind)
        and is_ours(service)
        and _happens(IncidentKind(match.incident), service.kind)
    ]


def _happens(incident: IncidentKind, kind: ServiceKind) -> bool:
    if incident is IncidentKind.VERSION_ORDERED:
        return True
    return (incident is not IncidentKind.INSTANCE_DOWN) == (kind is ServiceKind.POSTGRES)


def _selector(file: Path, table: PlaybookFile, platform: Platform) -> Iterator[Finding]:
    match = table.match
    if matched(match, platform) or file.parent == SHIPPED:
        return
    service = platform.services.get(match.service or "")
    if match.service is not None and service is None:
        text = f'match.service: there is no service "{match.service}"'
        yield _error(file, "", text, closest(match.service, platform.services))
    elif service is not None and not is_ours(service):
        text = f"match.service: {service.name} is managed by {service.managed_by}, it is never acted on"
        yield _error(file, "", text, "take the playbook out")
    elif service is not None:
        text = f"match: {match.incident} of kind {match.kind or 'any'} never happens to {service.name}"
        yield _error(file, "", f"{text} ({service.kind})", "mend incident or kind")
    else:
        about = f"{match.incident} of kind {match.kind}" if match.kind else match.incident
        yield Finding(
            file=str(file),
            step="",
            what=f"match: no service of the inventory can have {about}",
            mending="add such a service, or take the playbook out",
            warning=True,
        )


def _objectives(file: Path, table: PlaybookFile, platform: Platform) -> Iterator[Finding]:
    """Time limits that add up to more than an objective: only drills show whether it is met."""
    if table.match.incident in (IncidentKind.STANDBY_DOWN, IncidentKind.SYNC_MEMBER_SILENT, *ORDERED):
        return  # The service serves all the while, or a person waits: its objective does not run.
    longest = longest_s(table)
    for service in matched(table.match, platform):
        if longest > service.rto_s:
            yield Finding(
                file=str(file),
                step="",
                what=f"its limits add up to {longest:.0f} s, "
                f"the objective of {service.name} is {service.rto_s:.0f} s",
                mending="have drills prove that it is faster",
                warning=True,
            )


def errors(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that are not warnings."""
    return tuple(finding for finding in found if not finding.warning)
