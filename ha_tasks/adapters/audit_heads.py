"""Heads of the audit chain in a file outside the database: one line each, only ever appended."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ha_tasks.model.audit import AuditHead

log = logging.getLogger("ha_tasks.audit")

FULL_BYTES = 16 * 1024 * 1024
"""A file this long is laid aside under the number of its last entry; every file is kept."""
TAIL_BYTES = 4096


class HeadFile:
    """Implements ``AuditHeads``. Any number of processes may append: each line is one write."""

    def __init__(self, path: Path, *, full_bytes: int = FULL_BYTES) -> None:
        self._path = path
        self._full_bytes = full_bytes

    def note(self, head: AuditHead, by: str, at: datetime) -> None:
        """See the port."""
        told = {"at": at.isoformat(), "seq": head.seq, "hash": head.hash, "by": by}
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            # A line that an earlier writer's death has cut is ended first, so that it spoils no other.
            os.write(descriptor, f"\n{json.dumps(told)}\n".encode())
            os.fsync(descriptor)
            length = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        log.info("head of the audit chain: %s %s", head.seq, head.hash)
        if length > self._full_bytes:
            self._lay_aside(head)

    def last(self) -> AuditHead:
        """See the port."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                tail = file.read()
        except FileNotFoundError:
            return AuditHead()
        return max(_heads(tail), key=lambda head: head.seq, default=AuditHead())

    def known(self) -> tuple[AuditHead, ...]:
        """See the port."""
        files = [*self._path.parent.glob(f"{self._path.stem}.*{self._path.suffix}"), self._path]
        return tuple(head for file in files if file.exists() for head in _heads(file.read_bytes()))

    def _lay_aside(self, head: AuditHead) -> None:
        """Under a name that nobody else gives: whatever file another process has made there meanwhile is
        only moved, never lost.
        """
        name = f"{self._path.stem}.{head.seq}-{secrets.token_hex(4)}{self._path.suffix}"
        with suppress(FileNotFoundError):
            self._path.rename(self._path.with_name(name))


def _heads(content: bytes) -> Iterator[AuditHead]:
    """Those of whole lines; a line that was cut by a full disk says nothing."""
    for line in content.splitlines():
        try:
            told = json.loads(line)
            yield AuditHead(seq=int(told["seq"]), hash=str(told["hash"]))
        except (ValueError, KeyError, TypeError):
            continue
