"""Configuration of the two Valkey (or Redis) servers: the broker, and the cache that is protected."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ha_tasks.embedded.ports import LOOPBACK
from ha_tasks.embedded.secret_files import read, write_private

CACHE_MEMORY_MB = 64
ACL = Path(__file__).parents[1] / "privileges" / "broker.acl"
"""The users that are shipped for every broker; this one has them, too."""
CONTROL_USER = "ha_control"
REQUEST_USER = "ha_request"
"""For services that only ask for recoveries."""


def write_broker_conf(path: Path, *, port: int, directory: Path, password_files: Mapping[str, Path]) -> None:
    """The broker keeps what it was given (append-only file, no eviction) and asks who one is.

    ``password_files``: user -> file. Only hashes stand in the configuration. Idempotent.
    """
    hashes = {user: hashlib.sha256(read(file).encode()).hexdigest() for user, file in password_files.items()}
    write_private(
        path,
        _common(port, directory)
        + "".join(f"{line}\n" for line in users(hashes))
        + "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n",
    )


def users(hashes: Mapping[str, str]) -> Iterator[str]:
    """The lines of the shipped users, with the SHA-256 of each one's password."""
    for line in ACL.read_text("utf-8").splitlines():
        if line.startswith("user "):
            name = line.split()[1]
            yield f"{line} #{hashes[name]}" if name in hashes else line


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
