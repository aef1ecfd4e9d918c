"""Reading ha-tasks.toml: every fault is found and reported, all at once."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ha_tasks.errors import InventoryError
from ha_tasks.inventory import forms, tls
from ha_tasks.inventory.broker import BrokerEndpoint
from ha_tasks.inventory.convert import platform_from
from ha_tasks.inventory.crosscheck import findings
from ha_tasks.inventory.environment import override, variable_for
from ha_tasks.inventory.inventory import Inventory
from ha_tasks.inventory.schema import ActionTable, InventoryFile
from ha_tasks.inventory.schema_base import SecretTable
from ha_tasks.inventory.schema_services import ServiceTable
from ha_tasks.inventory.secret import (
    Endpoint,
    Secret,
    known_already,
    secret_from,
    whereabouts,
    without_password,
)
from ha_tasks.inventory.store_place import looked_up
from ha_tasks.model.fault import Fault, faults_of
from ha_tasks.model.plain import Facts


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


def at_revision(inventory: Inventory, content: Facts, environ: Mapping[str, str]) -> Inventory:
    """The inventory as an applied revision says it, at the place and in the environment of this one.

    Only its shape is judged, not whether its files are still there: what is missing is told where it is
    used. Raises InventoryError when this version of the program cannot read it.
    """
    overridden = override(content, environ)
    try:
        file = InventoryFile.model_validate(overridden.content)
    except ValidationError as error:
        raise InventoryError(f"an applied revision cannot be read: {error.errors()[0]['msg']}") from error
    return _inventory(
        inventory.path, file, content=content, sources=overridden.sources, environ=environ, warnings=()
    )


def filled(content: Facts) -> Facts:
    """The content with every default that it does not say itself; as it is where the environment has to
    complete it first.
    """
    try:
        file = InventoryFile.model_validate(content)
    except ValidationError:
        return content
    return dict(file.model_dump(mode="json", by_alias=True, exclude_none=True))


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
    inventory = (
        None
        if faults
        else _inventory(
            path, file, content=content, sources=overridden.sources, environ=environ, warnings=warnings
        )
    )
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
    for finding in findings(file, looked_up):
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
    faults += [
        Fault(file=str(path), key=key, problem=problem, mending=mending)
        for key, problem, mending in tls.file_problems(file, path.absolute().parent)
    ]
    return tuple(faults), tuple(warnings)


def _references(file: InventoryFile) -> Iterator[tuple[str, SecretTable]]:
    """(dotted key, reference) of every secret that the file asks for."""
    candidates = [
        ("store.password", file.store.password),
        ("broker.password", file.broker.password),
        ("broker.sentinel_password", file.broker.sentinel_password),
        ("agents.key", file.agents.key if file.agents else None),
    ]
    candidates += [
        (_password_key(name, service), table.password)
        for name, service in file.services.items()
        if (table := service.postgres or service.redis) is not None
    ]
    candidates += [
        (_pooler_key(name), service.pooler.password)
        for name, service in file.services.items()
        if service.pooler is not None
    ]
    candidates += [
        (_manager_key(name, word), table.password)
        for name, service in file.services.items()
        for word, table in (("patroni", service.patroni), ("sentinel", service.sentinel))
        if table is not None
    ]
    candidates += [
        (_own_key(section, name, secret), table)
        for section, owners in (("actions", file.actions), ("checks", file.checks))
        for name, owner in owners.items()
        for secret, table in owner.secrets.items()
    ]
    candidates += [(_webhook_key(table.name), table.secret) for table in file.webhooks]
    return ((key, table) for key, table in candidates if table is not None)


def _password_key(name: str, service: ServiceTable) -> str:
    return f"services.{name}.{service.kind}.password"


def _pooler_key(name: str) -> str:
    return f"services.{name}.pooler.password"


def _manager_key(name: str, manager: str) -> str:
    return f"services.{name}.{manager}.password"


def _own_key(section: str, owner: str, secret: str) -> str:
    return f"{section}.{owner}.secrets.{secret}"


def _webhook_key(name: str) -> str:
    return f"webhooks.{name}.secret"


def _clear_passwords(path: Path, file: InventoryFile, sources: Mapping[str, str]) -> Iterator[Fault]:
    """Passwords inside an URL are for the environment alone; in a file they stand for everyone to read."""
    for section, url in (("store", file.store.url), *(("broker", each) for each in file.broker.urls)):
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
    *,
    content: Facts,
    sources: Mapping[str, str],
    environ: Mapping[str, str],
    warnings: tuple[Fault, ...],
) -> Inventory:
    directory = path.absolute().parent
    secrets = {key: secret_from(key, table, directory, environ) for key, table in _references(file)}
    return Inventory(
        path=path.absolute(),
        platform=platform_from(file, directory),
        store=replace(
            _endpoint("store", _absolute(file.store.url, directory), secrets, sources),
            query=tls.store_query(file, directory),
        ),
        broker=_broker(file, directory, secrets, sources),
        store_on_protected_cluster=file.store.on_protected_cluster,
        metrics_listen=file.metrics.listen,
        audit_heads=directory / file.audit.heads,
        playbook_directories=tuple(directory / each for each in file.playbooks.directories),
        agents_key=secrets.get("agents.key"),
        passwords={
            name: secrets[key]
            for name, service in file.services.items()
            if (key := _password_key(name, service)) in secrets
        },
        pooler_passwords={
            name: secrets[key] for name in file.services if (key := _pooler_key(name)) in secrets
        },
        patroni_passwords=_manager_passwords("patroni", file, secrets),
        sentinel_passwords=_manager_passwords("sentinel", file, secrets),
        content=content,
        action_settings={name: table.settings for name, table in file.actions.items()},
        action_secrets=_own_secrets("actions", file.actions, secrets),
        check_settings={name: table.settings for name, table in file.checks.items()},
        check_secrets=_own_secrets("checks", file.checks, secrets),
        webhook_secrets={table.name: secrets[_webhook_key(table.name)] for table in file.webhooks},
        warnings=warnings,
    )


def _own_secrets(
    section: str, owners: Mapping[str, ActionTable], secrets: Mapping[str, Secret]
) -> Mapping[str, Mapping[str, Secret]]:
    return {
        name: {secret: secrets[_own_key(section, name, secret)] for secret in table.secrets}
        for name, table in owners.items()
    }


def _manager_passwords(
    manager: str, file: InventoryFile, secrets: Mapping[str, Secret]
) -> Mapping[str, Secret]:
    return {n: secrets[key] for n in file.services if (key := _manager_key(n, manager)) in secrets}


def _broker(
    file: InventoryFile, directory: Path, secrets: Mapping[str, Secret], sources: Mapping[str, str]
) -> BrokerEndpoint:
    ends = [_endpoint("broker", url, secrets, sources) for url in file.broker.urls]
    return BrokerEndpoint(
        bare_urls=tuple(end.bare_url for end in ends),
        password=ends[0].password,
        master_name=file.broker.master_name,
        sentinel_password=secrets.get("broker.sentinel_password"),
        query=tls.broker_query(file, directory),
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
