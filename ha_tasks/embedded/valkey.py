"""Configuration of the two Valkey (or Redis) servers: the broker, and the cache that is protected."""

from __future__ import annotations

from pathlib import Path

from ha_tasks.embedded.ports import LOOPBACK
from ha_tasks.embedded.secret_files import read, write_private

CACHE_MEMORY_MB = 64


def write_broker_conf(path: Path, *, port: int, directory: Path, password_file: Path) -> None:
    """The broker keeps what it was given (append-only file, no eviction) and asks for a password.

    The password stands in the file, mode 0600: an argument would be seen by every user. Idempotent.
    """
    write_private(
        path,
        _common(port, directory)
        + f"requirepass {_quoted(read(password_file))}\n"
        + "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n",
    )


def write_cache_conf(path: Path, *, port: int, directory: Path) -> None:
    """The cache forgets: no file, bounded memory, the least used goes first. Idempotent."""
    write_private(
        path,
        _common(port, directory)
        + f"appendonly no\nmaxmemory {CACHE_MEMORY_MB}mb\nmaxmemory-policy allkeys-lru\n",
    )


def _common(port: int, directory: Path) -> str:
    directory.mkdir(mode=0o700, exist_ok=True)
    return (
        f"bind {LOOPBACK}\nport {port}\nprotected-mode yes\ndaemonize no\n"
        f'dir {_quoted(str(directory))}\nsave ""\nlogfile ""\n'
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
