"""The home of an embedded stack: one directory that holds everything it writes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.errors import StartFailed, UsageError

MARKER = ".ha-tasks-demo"
"""Only a directory that bears this file is ever written to, or deleted, by the embedded stack."""

MARKER_TEXT = "Made by `ha-tasks demo`. `ha-tasks demo --stop --purge` deletes this directory.\n"
FREE_SPACE_NEEDED_BYTES = 900 * 1024 * 1024
"""Three clusters take about 110 MB at first, and each comes to keep 256 MB of WAL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Paths below ``root``, which is absolute and without links, as the kernel shows it."""

    root: Path

    @property
    def marker(self) -> Path:
        """Says that this directory is ours."""
        return self.root / MARKER

    @property
    def inventory(self) -> Path:
        """The inventory of the demo platform."""
        return self.root / "ha-tasks.toml"

    @property
    def database(self) -> Path:
        """The state store, unless it was put elsewhere."""
        return self.root / "ha.db"

    @property
    def state(self) -> Path:
        """The record of the running stack."""
        return self.root / "state.json"

    @property
    def ports(self) -> Path:
        """The ports that were chosen, so that a later start chooses them again."""
        return self.root / "ports.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.root / "lock"

    @property
    def reaper_lock(self) -> Path:
        """Held by the reaper as long as it lives."""
        return self.root / "reaper.lock"

    @property
    def secrets(self) -> Path:
        """One secret a file, mode 0600."""
        return self.root / "secrets"

    @property
    def conf(self) -> Path:
        """Configuration files that are written at each start."""
        return self.root / "conf"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Sockets and pid files."""
        return self.root / "run"

    @property
    def hold(self) -> Path:
        """A file here named like a process keeps the supervisor from starting it again."""
        return self.root / "hold"

    @property
    def crash_points(self) -> Path:
        """A drill's files here have a worker stop dead at a boundary of a run."""
        return self.root / "crash-points"

    @property
    def agents(self) -> Path:
        """What each host agent remembers, one directory each."""
        return self.root / "agents"

    @property
    def stack(self) -> Path:
        """The id of the latest stack, by which its processes are found when it was not stopped."""
        return self.root / "stack"

    @property
    def nodes(self) -> Path:
        """The PostgreSQL nodes, one directory each; a link to elsewhere when ``unprivileged`` needs it."""
        return self.root / "nodes"

    def log_of(self, process: str) -> Path:
        """The log of a process."""
        return self.logs / f"{process}.log"

    def secret(self, name: str) -> Path:
        """The file of a secret."""
        return self.secrets / name

    def node_dir(self, node: str) -> Path:
        """The directory of a node, links resolved."""
        return self.nodes.resolve() / node

    def data_dir(self, node: str) -> Path:
        """PGDATA of a node."""
        return self.node_dir(node) / "data"

    @property
    def site_conf(self) -> Path:
        """What the web services are served from."""
        return self.conf / "site.json"

    def conf_dir(self, node: str) -> Path:
        """The configuration of a node, outside PGDATA, because pg_rewind copies what is inside."""
        return self.node_dir(node) / "conf"

    def is_ours(self) -> bool:
        """True when the directory bears our marker."""
        return self.marker.is_file()


def home_at(path: Path) -> Home:
    """The home at ``path``; nothing is created."""
    return Home(root=path.expanduser().resolve())


def prepare(home: Home) -> None:
    """Creates the directories. Raises UsageError when the directory is used for something else.

    Idempotent.
    """
    _claim(home)
    for name in ("secrets", "conf", "logs", "run", "hold", "agents", "crash-points"):
        (home.root / name).mkdir(mode=0o700, exist_ok=True)


def _claim(home: Home) -> None:
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not home.is_ours():
            if any(home.root.iterdir()):
                raise UsageError(
                    f"{home.root} is not empty and was not made by `ha-tasks demo`: "
                    "give an empty or new directory with --home DIR"
                )
            home.marker.write_text(MARKER_TEXT)
    except OSError as error:
        raise UsageError(
            f"{home.root} cannot be used as home ({error.strerror}): give another one with --home DIR"
        ) from error


def check_space(home: Home, needed_bytes: int = FREE_SPACE_NEEDED_BYTES) -> None:
    """Raises StartFailed when the disk has less than ``needed_bytes`` left."""
    free = shutil.disk_usage(home.root).free
    if free < needed_bytes:
        raise StartFailed(
            f"only {free // 2**20} MB are free at {home.root}, {needed_bytes // 2**20} MB are needed: "
            "make room, or give a home on another disk with --home DIR"
        )


def purge(home: Home) -> None:
    """Deletes the home. Raises UsageError when it does not bear our marker; idempotent."""
    if not home.root.exists():
        return
    if not home.is_ours():
        raise UsageError(f"{home.root} was not made by `ha-tasks demo` and is left as it is")
    shutil.rmtree(home.root)
