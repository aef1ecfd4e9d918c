"""Secrets: where each is found, and the way to it. A secret is read when it is asked for, never kept.

No secret is ever part of a repr, of a message or of another program's arguments.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ha_tasks.errors import InventoryError
from ha_tasks.inventory.schema_base import SecretTable
from ha_tasks.model.tls import with_query

COMMAND_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """``key`` is where the inventory asks for it, ``source`` says in words where it is found."""

    key: str
    source: str
    _read: Callable[[], str] = field(repr=False, compare=False)

    def reveal(self) -> str:
        """The secret, without the end of line; raises InventoryError, which never repeats it."""
        try:
            value = self._read().rstrip("\r\n")
        except OSError as error:
            raise InventoryError(f"{self.key}: {self.source} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            # "from None": the error that decoding raises carries the bytes of the secret.
            raise InventoryError(f"{self.key}: {self.source} is no text; write it as UTF-8") from None
        if not value:
            raise InventoryError(f"{self.key}: {self.source} is empty; put the secret there")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An URL without its password, the password's whereabouts, and what TLS adds to the URL's query."""

    bare_url: str
    password: Secret | None = None
    query: Mapping[str, str] = field(default_factory=dict)

    def url(self) -> str:
        """The URL with password and TLS merged in; raises InventoryError when the password cannot be read."""
        url = self.bare_url if self.password is None else with_password(self.bare_url, self.password.reveal())
        return with_query(url, self.query) if self.query else url


def with_password(url: str, password: str) -> str:
    """``redis://host`` -> ``redis://:password@host``; the user stays."""
    parts = urlsplit(url)
    user, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))


def without_password(url: str) -> tuple[str, str | None]:
    """The URL without its password, and the password (None: it bears none)."""
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    if not colon:
        return url, None
    return urlunsplit(parts._replace(netloc=f"{user}{at if user else ''}{place}")), unquote(password)


def known_already(key: str, source: str, value: str) -> Secret:
    """A secret that an environment override brought along."""
    return Secret(key=key, source=source, _read=lambda: value)


def secret_from(key: str, table: SecretTable, directory: Path, environ: Mapping[str, str]) -> Secret:
    """The secret that a reference leads to; relative paths count from ``directory``. Reads nothing yet."""
    if table.file is not None:
        path = directory / table.file
        return Secret(key=key, source=f"file {path}", _read=lambda: path.read_text("utf-8"))
    if table.env is not None:
        variable = table.env
        value = environ.get(variable)
        return Secret(
            key=key, source=f"environment variable {variable}", _read=lambda: _present(key, variable, value)
        )
    command = list(table.command or ())
    return Secret(key=key, source=f"command {command[0]}", _read=lambda: printed_by(key, command, directory))


def _present(key: str, variable: str, value: str | None) -> str:
    if value is None:
        raise InventoryError(f"{key}: environment variable {variable} is not set; export it")
    return value


def printed_by(key: str, command: list[str], directory: Path, deadline_s: float = COMMAND_DEADLINE_S) -> str:
    """What the command prints. What it says on stderr is left out of the InventoryError that is raised
    when it fails or is late: it may repeat what it was asked for.
    """
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        text = f"{key}: {command[0]} did not answer within {deadline_s:g} s; run it by hand"
        raise InventoryError(text) from None
    if done.returncode:
        raise InventoryError(f"{key}: {command[0]} ended with status {done.returncode}; run it by hand")
    return done.stdout.decode("utf-8")


def whereabouts(table: SecretTable, directory: Path, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """(problem, mending) of a reference that leads nowhere, judged without reading it; None: it is fine."""
    if table.file is not None:
        return closed_file_problem(directory / table.file)
    if table.env is not None:
        # Whoever only looks at the platform needs no secret, so this is judged where it is used as well.
        return None if table.env in environ else (f"environment variable {table.env} is not set", "export it")
    program = (table.command or [""])[0]
    found = shutil.which(program, path=environ.get("PATH")) or (directory / program).is_file()
    return None if found else (f"program {program} is not found", "install it, or name it by its path")


def open_file_problem(path: Path, what: str) -> tuple[str, str] | None:
    """(problem, mending) of a file that is no secret; None: it is there."""
    return None if path.is_file() else (f"file {path} does not exist", f"put {what} there, in PEM form")


def closed_file_problem(path: Path) -> tuple[str, str] | None:
    """(problem, mending) of a file that holds a secret; None: it is there, for us alone."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return (
            f"file {path} does not exist",
            f"write the secret into it, with mode 0600: (umask 077; cat > '{path}')",
        )
    except OSError as error:
        return f"file {path} cannot be looked at: {error.strerror}", "mend its directory's permissions"
    if not stat.S_ISREG(mode):
        return f"{path} is no file", "name a file that holds the secret"
    if os.name == "posix" and mode & stat.S_IRWXO:
        return f"file {path} is open to others (mode {stat.S_IMODE(mode):04o})", f"chmod 0600 '{path}'"
    return None
