"""Reading ha-tasks.toml: every fault is found and reported, all at once."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ha_tasks.errors import InventoryError
from ha_tasks.inventory import forms
from ha_tasks.inventory.convert import platform_from
from ha_tasks.inventory.crosscheck import findings
from ha_tasks.inventory.environment import override, variable_for
from ha_tasks.inventory.inventory import Inventory
from ha_tasks.inventory.schema import InventoryFile, SecretTable, ServiceTable
from ha_tasks.inventory.secret import (
    Endpoint,
    Secret,
    known_already,
    secret_from,
    whereabouts,
    without_password,
)
from ha_tasks.model.fault import Fault, faults_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What came of reading a file: an inventory, or the faults that stand in its way."""

    inventory: Inventory | None
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...] = ()


def load(path: Path, environ: Mapping[str, str]) -> Inventory:
    """The inventory at ``path``, overridden by ``environ``. Raises InventoryError that lists every fault."""
    reading = read(path, environ)
    if reading.inventory is None:
        raise InventoryError("\n".join(str(fault) for fault in reading.faults))
    return reading.inventory


def read(path: Path, environ: Mapping[str, str]) -> Reading:
    """As ``load``, but a fault is an answer, not an error. Reads no secret, only looks where it is."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return Reading(inventory=None, faults=(_unreadable(path, error),))
    return _judged(path, content, environ)


def _unreadable(path: Path, error: Exception) -> Fault:
    """The fault of a file that cannot even be parsed."""
    problem, mending = "cannot be read", "mend its permissions"
    if isinstance(error, FileNotFoundError):
        problem, mending = "does not exist", "write one with: ha-tasks init"
    elif isinstance(error, OSError):
        problem = f"cannot be read: {error.strerror}"
    elif isinstance(error, UnicodeDecodeError):
        problem, mending = "is no text", "save it as UTF-8"
    elif isinstance(error, tomllib.TOMLDecodeError):
        problem, mending = f"is no TOML: {error}", "mend that line"
    return Fault(file=str(path), key="", problem=problem, mending=mending)


def _judged(path: Path, content: Mapping[str, Any], environ: Mapping[str, str]) -> Reading:
    overridden = override(content, environ)
    try:
        file = InventoryFile.model_validate(overridden.content)
    except ValidationError as error:
        found = faults_of(error.errors(), schema=json_schema(), content=overridden.content, file=str(path))
        faults = (*overridden.faults, *(_sourced(fault, overridden.sources) for fault in found))
        return Reading(inventory=None, faults=faults)
    faults, warnings = _sorted(path, file, overridden.sources, environ)
    faults = (*overridden.faults, *faults)
    inventory = None if faults else _inventory(path, file, overridden.sources, environ, warnings)
    return Reading(inventory=inventory, faults=faults, warnings=warnings)


@functools.cache
def json_schema() -> Mapping[str, Any]:
    """The JSON schema of ha-tasks.toml, made from the classes in schema.py."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **InventoryFile.model_json_schema(by_alias=True),
        "title": "ha-tasks.toml",
    }


def _sourced(fault: Fault, sources: Mapping[str, str]) -> Fault:
    """The fault, laid at the door of the variable that brought it."""
    variable = variable_for(fault.key, sources)
    if variable is None:
        return fault
    return Fault(
        file=f"environment variable {variable}", key=fault.key, problem=fault.problem, mending=fault.mending
    )


def _sorted(
    path: Path, file: InventoryFile, sources: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
    """(faults, warnings) of everything that the shape alone does not show."""
    faults: list[Fault] = []
    warnings: list[Fault] = []
    for finding in findings(file):
        fault = Fault(file=str(path), key=finding.key, problem=finding.problem, mending=finding.mending)
        (warnings if finding.warning else faults).append(_sourced(fault, sources))
    for key, table in _references(file):
        wrong = whereabouts(table, path.parent, environ)
        if wrong is not None:
            fault = Fault(file=str(path), key=key, problem=wrong[0], mending=wrong[1])
            # A file is part of the installation; a variable or a program may be there for one process only.
            (warnings if table.file is None else faults).append(_sourced(fault, sources))
    faults += _clear_passwords(path, file, sources)
    faults += _missing_directories(path, file)
    return tuple(faults), tuple(warnings)


def _references(file: InventoryFile) -> Iterator[tuple[str, SecretTable]]:
    """(dotted key, reference) of every secret that the file asks for."""
    candidates = [
        ("store.password", file.store.password),
        ("broker.password", file.broker.password),
        ("agents.key", file.agents.key if file.agents else None),
    ]
    candidates += [
        (_password_key(name, service), table.password)
        for name, service in file.services.items()
        if (table := service.postgres or service.redis) is not None
    ]
    return ((key, table) for key, table in candidates if table is not None)


def _password_key(name: str, service: ServiceTable) -> str:
    return f"services.{name}.{service.kind}.password"


def _clear_passwords(path: Path, file: InventoryFile, sources: Mapping[str, str]) -> Iterator[Fault]:
    """Passwords inside an URL are for the environment alone; in a file they stand for everyone to read."""
    for section, url in (("store", file.store.url), ("broker", file.broker.url)):
        key = f"{section}.url"
        if without_password(url)[1] is not None and variable_for(key, sources) is None:
            yield Fault(
                file=str(path),
                key=key,
                problem="bears a password in clear",
                mending='take it out and add: password = { file = "secrets/..." }',
            )


def _missing_directories(path: Path, file: InventoryFile) -> Iterator[Fault]:
    for each in file.playbooks.directories:
        if not (path.parent / each).is_dir():
            yield Fault(
                file=str(path),
                key="playbooks.directories",
                problem=f"{path.parent / each} is no directory",
                mending="make it, or take it out",
            )


def _inventory(
    path: Path,
    file: InventoryFile,
    sources: Mapping[str, str],
    environ: Mapping[str, str],
    warnings: tuple[Fault, ...],
) -> Inventory:
    directory = path.absolute().parent
    secrets = {key: secret_from(key, table, directory, environ) for key, table in _references(file)}
    return Inventory(
        path=path.absolute(),
        platform=platform_from(file),
        store=_endpoint("store", _absolute(file.store.url, directory), secrets, sources),
        broker=_endpoint("broker", file.broker.url, secrets, sources),
        metrics_listen=file.metrics.listen,
        playbook_directories=tuple(directory / each for each in file.playbooks.directories),
        agents_key=secrets.get("agents.key"),
        passwords={
            name: secrets[key]
            for name, service in file.services.items()
            if (key := _password_key(name, service)) in secrets
        },
        warnings=warnings,
    )


def _absolute(url: str, directory: Path) -> str:
    """A relative sqlite path counts from the directory of the file, whatever the working directory is."""
    if not url.startswith(forms.SQLITE):
        return url
    return f"{forms.SQLITE}{directory / url.removeprefix(forms.SQLITE)}"


def _endpoint(section: str, url: str, secrets: Mapping[str, Secret], sources: Mapping[str, str]) -> Endpoint:
    bare, password = without_password(url)
    secret = secrets.get(f"{section}.password")
    if secret is None and password is not None:
        key = f"{section}.url"
        source = f"environment variable {variable_for(key, sources)}"
        secret = known_already(key, source, password)
    return Endpoint(bare_url=bare, password=secret)
