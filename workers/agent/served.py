"""What a host serves from: a configuration file, or a link to one of several releases.

Both are read as a content, whose SHA-256 is its name, and exchanged in one act, so that whoever reads
finds the old one or the new one, never half of it. Only the places of the agent's configuration are touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from ha_tasks.errors import ActionFailed, AgentRefused
from workers.agent.config import FileConfig
from workers.agent.disk import sync_directory, write_durably

LARGEST = 16 * 1024 * 1024
"""Bytes of a configuration file."""
Check = Callable[[Path], None]


class Served(Protocol):
    """Raises ActionFailed for what cannot be read or written."""

    def content(self, place: Path) -> bytes | None:
        """What is there; None when nothing is."""
        ...

    def place(self, content: bytes, *, check: Check) -> None:
        """Has it in its place, durably; what ``check`` raises leaves everything as it is. Idempotent."""
        ...


def served_by(config: FileConfig) -> Served:
    """A file, or with ``releases`` a link."""
    return ConfigurationFile(config) if config.releases is None else Release(config, config.releases)


class ConfigurationFile:
    """Its content is its bytes. The new file gets owner and mode of the old one; 0600 without an old one."""

    def __init__(self, config: FileConfig) -> None:
        self._config = config

    def content(self, place: Path) -> bytes | None:
        """A symbolic link is refused: it would be exchanged itself, or lead out of what is allowed."""
        try:
            # Not blocking: a pipe would never be opened.
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            why = "is a symbolic link: write its real path" if place.is_symlink() else error.strerror
            raise ActionFailed(f"{self._config.name}: {place} {why}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ActionFailed(f"{self._config.name}: {place} is no file")
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ActionFailed(f"{self._config.name}: {place} is larger than {LARGEST} bytes")
        return content

    def place(self, content: bytes, *, check: Check) -> None:
        """See ``Served``."""

        def prepare(fresh: Path) -> None:
            self._as_before(fresh)
            check(fresh)

        try:
            write_durably(self._config.path, content, prepare=prepare)
        except OSError as error:
            raise ActionFailed(f"{self._config.name}: {self._config.path}: {error.strerror}") from error

    def _as_before(self, fresh: Path) -> None:
        try:
            before = self._config.path.lstat()
        except FileNotFoundError:
            return
        if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(fresh, before.st_uid, before.st_gid)
        fresh.chmod(stat.S_IMODE(before.st_mode))


class Release:
    """Its content says which directory, and the digest of everything in there: the directory itself stays
    where a deployment has put it, and one that was changed since is not gone back to.
    """

    def __init__(self, config: FileConfig, releases: Path) -> None:
        self._config = config
        self._releases = Path(os.path.normpath(releases))
        self._known: dict[str, tuple[str, str]] = {}
        """Release -> (how its files look, digest of their contents): read again when the look differs."""

    def content(self, place: Path) -> bytes | None:
        """AgentRefused when the link leads anywhere but to a directory of ``releases``."""
        try:
            target = (place.parent / place.readlink()).absolute()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ActionFailed(f"{self._config.name}: {place} is no symbolic link") from error
        if Path(os.path.normpath(target)).parent != self._releases:
            raise AgentRefused(f"{self._config.name}: {place} leads out of {self._releases}")
        return self._content_of(target.name)

    def place(self, content: bytes, *, check: Check) -> None:
        """ActionFailed when the release is gone or was changed since it was recorded."""
        name = str(json.loads(content)["release"])
        if self._content_of(name) != content:
            raise ActionFailed(f"{self._config.name}: release {name} was changed since it was recorded")
        check(self._releases / name)
        fresh = self._config.path.with_name(f".{self._config.path.name}.fresh")
        try:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self._releases / name)
            fresh.replace(self._config.path)
            sync_directory(self._config.path.parent)
        except OSError as error:
            raise ActionFailed(f"{self._config.name}: {self._config.path}: {error.strerror}") from error

    def _content_of(self, name: str) -> bytes:
        directory = self._releases / name
        if not directory.is_dir() or directory.is_symlink():
            raise ActionFailed(f"{self._config.name}: there is no release {name} in {self._releases}")
        try:
            look = digest_of(_looks(directory))
            if self._known.get(name, ("", ""))[0] != look:
                self._known[name] = (look, digest_of(_contents(directory)))
        except OSError as error:
            raise ActionFailed(f"{self._config.name}: release {name} cannot be read: {error}") from error
        return json.dumps({"release": name, "tree": self._known[name][1]}, sort_keys=True).encode()


def digest_of(lines: Iterable[str]) -> str:
    """SHA-256 in hexadecimal digits."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _contents(directory: Path) -> Iterator[str]:
    """Every file (path, whether it is a program, content) and every link (path, target)."""
    for path in _everything(directory):
        where = json.dumps(str(path.relative_to(directory)))
        if path.is_symlink():
            yield f"link {where} {json.dumps(str(path.readlink()))}"
        elif path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            yield f"{'program' if os.access(path, os.X_OK) else 'file'} {where} {content}"


def _looks(directory: Path) -> Iterator[str]:
    """What changes with every write to a file, a link or their rights; nothing is read for it."""
    for path in _everything(directory):
        it = path.lstat()
        yield f"{path} {it.st_ino} {it.st_mode} {it.st_size} {it.st_mtime_ns} {it.st_ctime_ns}"


def _everything(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders.sort()
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*names, *links]):
            yield Path(folder) / name
