"""Files that must survive a power cut: written whole, synced with their directory before anybody goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from ha_tasks.errors import UsageError
from ha_tasks.model.plain import Json


def write_durably(path: Path, content: str | bytes, *, prepare: Callable[[Path], None] | None = None) -> None:
    """Replaces the file in one act (mode 0600); returns when file and directory are on the disk.

    ``prepare`` is called with the new file before it takes the place of the old one; what it raises leaves
    the old one where it is.
    """
    fresh = path.with_name(f".{path.name}.fresh")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    try:
        if prepare:
            prepare(fresh)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def append_durably(path: Path, line: str) -> None:
    """Adds one line; returns when it is on the disk."""
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def remove_durably(path: Path) -> None:
    """Removes the file; returns when its directory says so on the disk. Idempotent."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Returns when the names in ``directory`` are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Json | None:
    """The object in the file, None when there is no file; UsageError when it cannot be read.

    Nothing is assumed of an unreadable file: an epoch or a mark that is guessed is no fence.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); restore it or ask who changed it") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object")
    return value


def write_json(path: Path, value: Json) -> None:
    """``write_durably`` for an object."""
    write_durably(path, json.dumps(value, sort_keys=True) + "\n")
