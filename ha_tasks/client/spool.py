"""The spool: requests on the disk that wait for the broker, one file each, named by the key's hash.

A request is on the disk (file and directory flushed) before ``put`` returns. Any number of processes may
share a spool: the worst that can happen is that a request is sent twice, and it is carried out once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ha_tasks.errors import IdempotencyConflict, SpoolFull
from ha_tasks.model.plain import Json
from ha_tasks.model.request import RecoveryRequest, parse_request

logger = logging.getLogger(__name__)

MOST = 1000
"""Requests for recoveries are rare: a thousand of them is a caller gone wild."""
SUFFIX = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request that waits. ``since``: seconds since the epoch, by this machine's clock."""

    path: Path
    since: float
    asked: RecoveryRequest

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return self.asked.idempotency_key

    @property
    def body(self) -> Json:
        """The keyword arguments of the message."""
        return self.asked.to_json()

    def too_late(self, now: float) -> bool:
        """Its deadline has passed while it waited."""
        return self.asked.deadline_s is not None and now - self.since > self.asked.deadline_s


class Spool:
    """A directory, mode 0700, of files with mode 0600."""

    def __init__(self, directory: Path, most: int = MOST) -> None:
        self._directory = directory
        self._most = most
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, asked: RecoveryRequest) -> Waiting:
        """Keeps the request; idempotent. IdempotencyConflict: its key is that of another; SpoolFull."""
        path = self._path(asked.idempotency_key)
        there = _read(path)
        if there is not None:
            if there.asked != asked:
                raise IdempotencyConflict(f"{asked.idempotency_key} waits in the spool with another body")
            return there
        if sum(1 for _ in self._files()) >= self._most:
            raise SpoolFull(f"{self._most} requests wait in {self._directory}: the broker is away for long")
        waiting = Waiting(path=path, since=time.time(), asked=asked)
        self._write(waiting)
        return waiting

    def waiting(self) -> tuple[Waiting, ...]:
        """What waits, oldest first. A file that is none of ours is left alone."""
        found = (_read(path) for path in self._files())
        return tuple(sorted((w for w in found if w is not None), key=lambda w: w.since))

    def holds(self, key: str) -> bool:
        """Whether a request of that key waits."""
        return self._path(key).exists()

    def remove(self, waiting: Waiting) -> None:
        """It is sent. Idempotent."""
        waiting.path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self._directory.glob(f"*{SUFFIX}"))

    def _path(self, key: str) -> Path:
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()}{SUFFIX}"

    def _write(self, waiting: Waiting) -> None:
        """Whole or not at all, also when the machine loses its power."""
        partial = waiting.path.with_name(f".{waiting.path.stem}.{os.getpid()}.{time.monotonic_ns()}")
        opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(opened, "w", encoding="utf-8") as file:
            json.dump({"v": 1, "since": waiting.since, "body": waiting.body}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(waiting.path)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _read(path: Path) -> Waiting | None:
    """None: it is gone (another sent it), or it is none of ours."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        logger.warning("%s is no request that waits: %s", path, type(error).__name__)
        return None
    return _waiting(path, content)


def _waiting(path: Path, content: Any) -> Waiting | None:  # noqa: ANN401 - what JSON can hold
    if isinstance(content, Mapping) and isinstance(content.get("body"), Mapping):
        asked, _ = parse_request(content["body"])
        if asked is not None and isinstance(content.get("since"), int | float):
            return Waiting(path=path, since=float(content["since"]), asked=asked)
    logger.warning("%s is no request that waits", path)
    return None
