"""What ``ha-tasks doctor`` reports: what was found, which version, from where, and the mending line."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.embedded import unprivileged
from ha_tasks.embedded.binaries import SERVERS, resolve, version_of
from ha_tasks.errors import BrokerUnreachable, HaTasksError, MissingBinary
from ha_tasks.model.broker import BrokerAddress
from ha_tasks.model.broker_settings import Setting

PYTHON_NEEDED = (3, 11)
INVENTORY = "ha-tasks.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the report; ``remedy`` is empty when ``ok``."""

    what: str
    path: str
    version: str
    source: str
    ok: bool
    remedy: str = ""


def examine() -> tuple[Row, ...]:
    """Every row, in the order in which things are needed. Runs each program once with its version flag."""
    return (_python(), *(_server(name) for name in SERVERS), _postgres_user(), _flower())


def examine_broker(address: BrokerAddress) -> tuple[Row, ...]:
    """A row for each thing that the broker of an inventory must be set to; asks it, within a few seconds."""
    # Two drivers, which only this needs.
    from ha_tasks.adapters.broker_facts import broker_settings

    try:
        found = tuple(broker_settings(address))
    except BrokerUnreachable as error:
        remedy = f"{error}; start it, or mend [broker] in ha-tasks.toml"
        found = (Setting(what="broker", found="", ok=False, remedy=remedy),)
    return tuple(
        Row(what=s.what, path=address.shown, version=s.found, source=INVENTORY, ok=s.ok, remedy=s.remedy)
        for s in found
    )


def _python() -> Row:
    ok = sys.version_info >= PYTHON_NEEDED
    return Row(
        what="python",
        path=sys.executable,
        version=".".join(map(str, sys.version_info[:3])),
        source="this interpreter",
        ok=ok,
        remedy="" if ok else f"install Python {'.'.join(map(str, PYTHON_NEEDED))} or newer",
    )


def _server(name: str) -> Row:
    try:
        binary = resolve(name)
    except MissingBinary as missing:
        return Row(what=name, path="", version="", source="", ok=False, remedy=str(missing))
    path, source = str(binary.path), binary.source
    try:
        return Row(what=name, path=path, version=version_of(binary), source=source, ok=True)
    except MissingBinary as unfit:
        return Row(what=name, path=path, version="", source=source, ok=False, remedy=str(unfit))


def _postgres_user() -> Row:
    """How PostgreSQL, which refuses root, is run here."""
    try:
        way = unprivileged.choose(os.geteuid())
    except HaTasksError as error:
        return Row(what="postgres user", path="", version="", source="", ok=False, remedy=str(error))
    return Row(what="postgres user", path="", version="", source=way.description, ok=True)


def _flower() -> Row:
    try:
        found = importlib.metadata.distribution("flower")
    except importlib.metadata.PackageNotFoundError:
        remedy = f"`{sys.executable} -m pip install flower`"
        return Row(what="flower", path="", version="", source="", ok=False, remedy=remedy)
    path = str(Path(str(found.locate_file("flower"))))
    return Row(what="flower", path=path, version=found.version, source="wheel flower", ok=True)
