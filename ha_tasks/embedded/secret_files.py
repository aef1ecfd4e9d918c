"""Secrets of the stack: random, one a file, readable by its owner only, the same again at a later start."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

NAMES = (
    "agent-key",
    "broker",
    "broker-request",
    "flower",
    "pg-agent",
    "pg-replication",
    "pg-control",
    "pg-app",
)
"""File names below ``secrets/``."""


def ensure(directory: Path, names: Iterable[str] = NAMES) -> None:
    """Writes those that are missing (mode 0600, 32 random bytes as URL-safe text). Idempotent."""
    for name in names:
        path = directory / name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32) + "\n")


def read(path: Path) -> str:
    """The secret in a file, without the line's end."""
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner reads, at no moment half: replaced in one move."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
