"""The agent's configuration file, read strictly: what is unknown is an error that names it."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ha_tasks.adapters.agent_signing import SHORTEST_KEY
from ha_tasks.adapters.wire import parse_address
from ha_tasks.errors import UsageError
from workers.agent.verbs import FILE_VERBS, NODE_VERBS, UNIT_VERB, VERBS

T = TypeVar("T")
_COMMAND_TIMEOUT_S = 10.0
_NOT_SAID = ("?",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresConfig:
    """One PostgreSQL node. ``peers``: node name -> address (``host:port``) of every other node."""

    node: str
    bin_dir: Path
    data_dir: Path
    conf_dir: Path
    address: str
    user: str
    password: str = field(repr=False)
    replication_user: str
    passfile: Path
    peers: Mapping[str, str]
    run_as: tuple[str, ...]
    log: Path
    state_dir: Path
    job_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitConfig:
    """What is restarted under ``name``: a ``command``, or else the ``systemd`` unit."""

    name: str
    command: tuple[str, ...] = ()
    cwd: Path = Path("/")
    log: Path = Path(os.devnull)
    autostart: bool = False
    systemd: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileConfig:
    """What may be exchanged under ``name``: the file at ``path``, or with ``releases`` the link at ``path``
    that leads to one of the directories in there. ``staged``: where the next one waits; None: nowhere.

    ``check`` (``{}`` stands for the candidate) says beforehand whether it can be used. ``reload`` is run
    afterwards, or else the unit ``unit`` is restarted.
    """

    name: str
    path: Path
    staged: Path | None = None
    releases: Path | None = None
    check: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything that ``agent.toml`` says, paths absolute, secrets read."""

    host: str
    listen: tuple[str, int]
    key: bytes = field(repr=False)
    state_dir: Path
    postgres: PostgresConfig | None
    units: Mapping[str, UnitConfig]
    files: Mapping[str, FileConfig]
    allow: frozenset[str]
    """Verbs that this agent carries out; others are refused, however well signed."""


def load_config(path: Path) -> AgentConfig:
    """Reads ``agent.toml``; relative paths are relative to its directory. UsageError says key and mending."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    top = _Table(content, file=path, where="")
    if top.take("schema", int) != 1:
        raise UsageError(f"{path}: schema must be 1")
    state_dir = top.path("state_dir")
    run_as = top.texts("run_as", default=())
    config = AgentConfig(
        host=top.take("host", str),
        listen=top.address("listen"),
        key=_key(top),
        state_dir=state_dir,
        postgres=_postgres(top, run_as, state_dir),
        units={name: _unit(name, table) for name, table in top.tables("units")},
        files={name: _file(name, table) for name, table in top.tables("files")},
        allow=frozenset(top.texts("allow", default=_NOT_SAID)),
    )
    top.finish()
    _units_exist(config, path)
    return replace(config, allow=_allowed(config))


def _allowed(config: AgentConfig) -> frozenset[str]:
    """What was said, or else what its node and its units need."""
    if config.allow != frozenset(_NOT_SAID):
        unknown = sorted(config.allow - VERBS)
        if unknown:
            raise UsageError(f"allow names {unknown[0]}, which is none of {', '.join(sorted(VERBS))}")
        return config.allow
    return frozenset(
        {
            *(NODE_VERBS if config.postgres else ()),
            *((UNIT_VERB,) if config.units else ()),
            *(FILE_VERBS if config.files else ()),
        }
    )


def _key(top: _Table) -> bytes:
    key = top.secret("key").encode()
    if len(key) < SHORTEST_KEY:
        raise UsageError(f"{top.file}: key is shorter than {SHORTEST_KEY} bytes; write a longer one")
    return key


def _postgres(top: _Table, run_as: tuple[str, ...], state_dir: Path) -> PostgresConfig | None:
    table = top.table("postgres")
    if table is None:
        return None
    address = table.take("address", str)
    config = PostgresConfig(
        node=table.take("node", str),
        bin_dir=table.path("bin_dir"),
        data_dir=table.path("data_dir").resolve(),
        conf_dir=table.path("conf_dir"),
        address=":".join(map(str, table.as_address("address", address))),
        user=_user(table),
        password=table.secret("password"),
        replication_user=table.take("replication_user", str),
        passfile=table.path("passfile"),
        peers=_peers(table),
        run_as=run_as,
        log=table.path("log", default=state_dir / "postgresql.log"),
        state_dir=state_dir,
        job_timeout_s=table.seconds("job_timeout_s", default=3600.0),
    )
    table.finish()
    if config.node in config.peers:
        raise UsageError(f"{top.file}: postgres.peers.{config.node} is the node itself; take it out")
    return config


def _user(table: _Table) -> str:
    """``user``; earlier versions called it ``superuser``, and it had to be one."""
    return table.take("user", str, default=table.take("superuser", str, default="") or None)


def _peers(table: _Table) -> Mapping[str, str]:
    peers = table.table("peers")
    if peers is None:
        return {}
    return {name: ":".join(map(str, peers.address(name))) for name in peers.names()}


def _unit(name: str, table: _Table) -> UnitConfig:
    unit = UnitConfig(
        name=name,
        command=table.texts("command", default=()),
        cwd=table.path("cwd", default=table.file.parent),
        log=table.path("log", default=Path(os.devnull)),
        autostart=table.take("autostart", bool, default=False),
        systemd=table.take("systemd", str, default=""),
    )
    table.finish()
    if bool(unit.command) == bool(unit.systemd):
        raise UsageError(f"{table.file}: units.{name} needs either command or systemd")
    _must_be_a_name(table, f"units.{name}", name)
    return unit


def _file(name: str, table: _Table) -> FileConfig:
    file = FileConfig(
        name=name,
        path=table.path("path"),
        staged=table.path_or_none("staged"),
        releases=table.path_or_none("releases"),
        check=table.texts("check", default=()),
        reload=table.texts("reload", default=()),
        unit=table.take("unit", str, default=""),
    )
    table.finish()
    if bool(file.reload) == bool(file.unit):
        raise UsageError(f"{table.file}: files.{name} needs either reload or unit: who reads it must be told")
    _must_be_a_name(table, f"files.{name}", name)
    return file


def _units_exist(config: AgentConfig, path: Path) -> None:
    for file in config.files.values():
        if file.unit and file.unit not in config.units:
            raise UsageError(f"{path}: files.{file.name}.unit: there is no [units.{file.unit}]")


def _must_be_a_name(table: _Table, key: str, name: str) -> None:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"{table.file}: {key}: only letters, digits, - and _ make a name")


class _Table:
    """A TOML table from which keys are taken; what is left at the end is unknown."""

    def __init__(self, content: dict[str, object], *, file: Path, where: str) -> None:
        self._left = dict(content)
        self.file = file
        self._where = where

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of ``key``; UsageError when it is missing or of another type."""
        value = self._left.pop(key, default)
        if value is None:
            raise self._wrong(key, "is missing")
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise self._wrong(key, f"must be {kind.__name__}")
        return value

    def seconds(self, key: str, *, default: float) -> float:
        """A positive number, whole or not."""
        value = self._left.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self._wrong(key, "must be a positive number of seconds")
        return float(value)

    def path(self, key: str, *, default: Path | None = None) -> Path:
        """A path, relative to the file's directory."""
        text = self.take(key, str, default=None if default is None else str(default))
        return (self.file.parent / Path(text).expanduser()).absolute()

    def path_or_none(self, key: str) -> Path | None:
        """As ``path``; None when it is not there."""
        return self.path(key) if key in self._left else None

    def texts(self, key: str, *, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of strings."""
        value = self.take(key, list, default=list(default))
        if not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "must be a list of strings")
        return tuple(value)

    def address(self, key: str) -> tuple[str, int]:
        """``host:port``."""
        return self.as_address(key, self.take(key, str))

    def as_address(self, key: str, text: str) -> tuple[str, int]:
        """``text`` as host and port."""
        try:
            return parse_address(text)
        except ValueError as error:
            raise self._wrong(key, str(error)) from error

    def table(self, key: str) -> _Table | None:
        """A table below, None when it is not there."""
        if key not in self._left:
            return None
        return self._below(key, self.take(key, dict))

    def tables(self, key: str) -> list[tuple[str, _Table]]:
        """The tables of a table."""
        outer = self.table(key)
        return [] if outer is None else [(n, outer._below(n, outer.take(n, dict))) for n in outer.names()]

    def names(self) -> list[str]:
        """Keys that were not taken yet."""
        return list(self._left)

    def secret(self, key: str) -> str:
        """``{ file = PATH }``, ``{ env = NAME }`` or ``{ command = [...] }``, without the line's end."""
        reference = self.table(key)
        if reference is None:
            raise self._wrong(key, "is missing")
        if len(reference.names()) != 1:
            raise self._wrong(key, "needs exactly one of file, env, command")
        secret = reference._resolve()
        reference.finish()
        return secret

    def finish(self) -> None:
        """UsageError when something was not taken."""
        if self._left:
            raise self._wrong(next(iter(self._left)), "is unknown; correct or remove it")

    def _resolve(self) -> str:
        if "file" in self._left:
            return _read(self.path("file"))
        if "env" in self._left:
            name = self.take("env", str)
            if name not in os.environ:
                raise self._wrong("env", f"names {name}, which is not set")
            return os.environ[name]
        return _output(self.texts("command", default=())) if "command" in self._left else ""

    def _below(self, key: str, content: dict[str, object]) -> _Table:
        return _Table(content, file=self.file, where=f"{self._where}{key}.")

    def _wrong(self, key: str, what: str) -> UsageError:
        return UsageError(f"{self.file}: {self._where}{key} {what}")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise UsageError(f"the secret in {path} cannot be read: {error.strerror}") from error


def _output(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, timeout=_COMMAND_TIMEOUT_S, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise UsageError(f"the secret's command {command[:1]} failed: {type(error).__name__}") from error
    return done.stdout.strip()
