"""Playbooks: TOML files, read strictly; every fault is found and reported, all at once.

The shipped ones stand in ``ha_tasks/playbooks/``; own ones come from directories of the inventory.
"""

from __future__ import annotations

import graphlib
import hashlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from ha_tasks.disaster_recovery.playbook_schema import GuardsTable, PlaybookFile, StepTable
from ha_tasks.errors import PlaybookError
from ha_tasks.model.fault import Fault, closest, faults_of
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.platform import Platform, ServiceKind
from ha_tasks.model.playbook import (
    Approval,
    GuardSettings,
    Match,
    Playbook,
    PlaybookStep,
    UndoPolicy,
    VerifySettings,
)
from ha_tasks.names import RecoveryType, action_named

SHIPPED = Path(__file__).parent.parent / "playbooks"
LOOKUPS = ("incident.instance", "incident.service", "incident.kind")
"""What ``${...}`` in an argument may look up. There is no other expression."""

_Read: TypeAlias = tuple[PlaybookFile | None, Playbook | None, tuple[Fault, ...]]
LOOKUP = re.compile(r"\$\{([^}]*)\}?")
_OF_POSTGRES = frozenset(IncidentKind) - {IncidentKind.INSTANCE_DOWN, IncidentKind.VERSION_ORDERED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What came of reading playbooks; with faults, ``playbooks`` are those without."""

    playbooks: tuple[Playbook, ...]
    faults: tuple[Fault, ...]
    tables: Mapping[Path, PlaybookFile] = field(default_factory=dict)
    """Every file that has the shape of a playbook, also with faults."""


def load_playbooks(directories: Sequence[Path] = ()) -> tuple[Playbook, ...]:
    """The shipped playbooks and those of ``directories``. Raises PlaybookError that lists every fault."""
    shelf = read_playbooks((SHIPPED, *directories))
    if shelf.faults:
        raise PlaybookError("\n".join(str(fault) for fault in shelf.faults))
    return shelf.playbooks


def read_playbooks(directories: Sequence[Path]) -> Shelf:
    """As ``load_playbooks``, of exactly these directories, with faults as an answer."""
    files = [file for directory in directories for file in sorted(directory.glob("*.toml"))]
    return read_files(files)


def read_files(files: Sequence[Path]) -> Shelf:
    """Reads these files and judges them one by one and side by side."""
    playbooks: dict[Path, Playbook] = {}
    tables: dict[Path, PlaybookFile] = {}
    faults: list[Fault] = []
    for file in files:
        table, playbook, wrong = _read(file)
        faults += wrong
        if table is not None:
            tables[file] = table
        if playbook is not None:
            playbooks[file] = playbook
    faults += _rivals(playbooks)
    return Shelf(playbooks=tuple(playbooks.values()), faults=tuple(faults), tables=tables)


def specificity(match: Match) -> tuple[bool, bool, bool]:
    """Orders matches: what was changed, then one service before a kind of service before everything."""
    return match.changed, match.service is not None, match.kind is not None


def strangers(playbooks: Sequence[Playbook], platform: Platform) -> tuple[str, ...]:
    """Playbooks for a service that the platform does not have, in one sentence each."""
    return tuple(
        f'{playbook.name}: match.service: there is no service "{wanted}"; '
        f"{closest(wanted, platform.services)}"
        for playbook in playbooks
        if (wanted := playbook.match.service) is not None and wanted not in platform.services
    )


def longest_s(table: PlaybookFile) -> float:
    """Seconds that its limits add up to, each step taken once, and the health gate."""
    return sum(step.timeout_s for step in table.step) + table.verify.within_s


def _read(file: Path) -> _Read:
    try:
        body = file.read_bytes()
        content = tomllib.loads(body.decode("utf-8"))
    except OSError as error:
        return None, None, (_fault(file, "", f"cannot be read: {error.strerror}", "mend its permissions"),)
    except UnicodeDecodeError:
        return None, None, (_fault(file, "", "is no text", "save it as UTF-8"),)
    except tomllib.TOMLDecodeError as error:
        return None, None, (_fault(file, "", f"is no TOML: {error}", "mend that line"),)
    return _judged(file, body, content)


def _judged(file: Path, body: bytes, content: Mapping[str, Any]) -> _Read:
    try:
        table = PlaybookFile.model_validate(content)
    except ValidationError as error:
        schema = PlaybookFile.model_json_schema(by_alias=True)
        return None, None, faults_of(error.errors(), schema=schema, content=content, file=str(file))
    faults = tuple(_misfits(file, table))
    playbook = None if faults else _playbook(table, hashlib.sha256(body).hexdigest())
    return table, playbook, faults


def _misfits(file: Path, table: PlaybookFile) -> Iterator[Fault]:
    """What the shape alone does not show."""
    if table.name != file.stem:
        yield _fault(file, "name", f'is "{table.name}"', f'call it "{file.stem}", like the file')
    of_postgres = IncidentKind(table.match.incident) in _OF_POSTGRES
    if of_postgres and table.match.kind not in (None, "postgres"):
        text = f"{table.match.incident} happens to kind postgres only"
        yield _fault(file, "match.kind", text, 'write kind = "postgres"')
    yield from _misfit_steps(file, table.step)


def _misfit_steps(file: Path, steps: Sequence[StepTable]) -> Iterator[Fault]:
    ids = [step_id(step) for step in steps]
    for twice in sorted(name for name, count in Counter(ids).items() if count > 1):
        yield _fault(file, f"step.{twice}.id", "is the id of two steps", "give each its own id")
    for step in steps:
        yield from _misfit_step(file, step, ids)
    try:
        graphlib.TopologicalSorter({step_id(step): step.needs for step in steps}).prepare()
    except graphlib.CycleError as error:
        circle = list(reversed(error.args[1]))
        text = f"goes round in a circle: {' needs '.join(circle)}"
        yield _fault(file, f"step.{circle[0]}.needs", text, "take one of these needs out")


def _misfit_step(file: Path, step: StepTable, ids: Sequence[str]) -> Iterator[Fault]:
    for need in step.needs:
        if need not in ids:
            known = [name for name in ids if name != step_id(step)]
            yield _fault(
                file, f"step.{step_id(step)}.needs", f'there is no step "{need}"', closest(need, known)
            )
    for name, value in step.args.items():
        for word in LOOKUP.findall(value):
            if word not in LOOKUPS or f"${{{word}}}" not in value:
                remedy = f"write one of {', '.join(f'${{{lookup}}}' for lookup in LOOKUPS)}"
                yield _fault(
                    file, f"step.{step_id(step)}.args.{name}", f"${{{word}}} cannot be looked up", remedy
                )


def _rivals(playbooks: Mapping[Path, Playbook]) -> Iterator[Fault]:
    """Names that are given twice, and ties: which of two playbooks runs must never be left to chance."""
    names: dict[str, Path] = {}
    claims: dict[tuple[object, ...], Path] = {}
    for file, playbook in playbooks.items():
        other = names.setdefault(playbook.name, file)
        if other != file:
            yield _fault(file, "name", f"{other} bears it too", "give it a name (and a file name) of its own")
        match = playbook.match
        claim = (match.incident, match.kind, match.service, match.changed, playbook.priority)
        rival = claims.setdefault(claim, file)
        if rival != file:
            text = f"{rival} answers the same incidents with the same priority"
            yield _fault(file, "priority", text, "give the one that shall win a higher priority")


def _fault(file: Path, key: str, problem: str, mending: str) -> Fault:
    return Fault(file=str(file), key=key, problem=problem, mending=mending)


def step_id(step: StepTable) -> str:
    """Its id: its action's name unless it has one of its own."""
    return step.id or step.action


def _playbook(table: PlaybookFile, sha256: str) -> Playbook:
    match = table.match
    return Playbook(
        name=table.name,
        version=table.version,
        summary=table.summary,
        recovery_type=RecoveryType(table.recovery_type),
        match=Match(
            incident=IncidentKind(match.incident),
            kind=None if match.kind is None else ServiceKind(match.kind),
            service=match.service,
            changed=match.changed,
        ),
        steps=tuple(_step(step) for step in table.step),
        guards=_guards(table.guards),
        verify=VerifySettings(**table.verify.model_dump()),
        mitigates=table.mitigates,
        priority=table.priority,
        sha256=sha256,
    )


def _guards(table: GuardsTable) -> GuardSettings:
    return GuardSettings(**{**table.model_dump(), "approval": Approval(table.approval)})


def _step(table: StepTable) -> PlaybookStep:
    return PlaybookStep(
        id=step_id(table),
        action=action_named(table.action),
        needs=tuple(table.needs),
        args=dict(table.args),
        undo=UndoPolicy(table.undo),
        timeout_s=table.timeout_s,
        attempts=table.attempts,
        point_of_no_return=table.point_of_no_return,
    )
