"""Versioned files: the configuration files and releases of this host, kept by content and put into place.

What they contain never leaves the host: it is kept under its SHA-256 in ``files/<name>/`` of the state
directory (0600), and whoever asks is told digests only. What a check or a reload prints may quote a secret,
so it goes to a log beside that, and an error names the log.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ha_tasks.errors import ActionFailed, AgentRefused, PassingFailure, StaleAuthority
from ha_tasks.model.plain import Json
from workers.agent.config import FileConfig
from workers.agent.disk import read_json, write_durably, write_json
from workers.agent.served import Served, served_by
from workers.agent.units import Units

KEPT = 200
"""So many contents of a file are kept, those last used."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHORT = 12


class Files:
    """All versioned files of a host."""

    def __init__(
        self, files: Mapping[str, FileConfig], state_dir: Path, units: Units, *, kept: int = KEPT
    ) -> None:
        directory = state_dir / "files"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._files = {name: _File(config, directory, units, kept) for name, config in files.items()}

    def status(self, name: str) -> Json:
        """``{"digest", "staged", "loaded": str|None, "untold": bool, "fence": int}``.

        Digests of what is there, of what waits, and of what was put there by this agent and told to who reads
        it; whether that was begun and did not end.
        """
        return self._file(name).status()

    def keep(self, name: str, *, staged: bool) -> Json:
        """Keeps what the file holds, or what waits to be put there: ``{"digest": str}``. Idempotent."""
        return self._file(name).keep(staged=staged)

    def put(self, name: str, digest: str, key: str, *, fence: int, timeout_s: float) -> Json:
        """Has the file hold a kept content, in one act, and tells who reads it. Idempotent.

        ActionFailed when its check refuses it (nothing is changed then) or who reads it cannot be told.
        StaleAuthority when the file has seen a higher fence. ``key``: of a restart of its unit.
        """
        return self._file(name).put(digest, key, fence=fence, timeout_s=timeout_s)

    def _file(self, name: str) -> _File:
        if name not in self._files:
            raise AgentRefused(f"there is no file {name} here; add [files.{name}] to the agent's file")
        return self._files[name]


class _File:
    """One file or link; what it has held, its fence and its log are files in ``directory``."""

    def __init__(self, config: FileConfig, directory: Path, units: Units, most: int) -> None:
        self._config = config
        self._served: Served = served_by(config)
        self._units = units
        self._most = most
        self._kept = directory / config.name
        self._kept.mkdir(mode=0o700, exist_ok=True)
        self._record = directory / f"{config.name}.json"
        self._log = directory / f"{config.name}.log"
        self._turn = threading.Lock()

    def status(self) -> Json:
        record = self._remembered()
        staged = self._config.staged
        return {
            "digest": _digest(self._served.content(self._config.path)),
            "staged": None if staged is None else _digest(self._served.content(staged)),
            "loaded": record["loaded"],
            "untold": record["untold"],
            "fence": record["fence"],
        }

    def keep(self, *, staged: bool) -> Json:
        place = self._config.staged if staged else self._config.path
        if place is None:
            raise AgentRefused(f"{self._config.name} has no staged place; add staged to [files] of the agent")
        content = self._served.content(place)
        if content is None:
            raise ActionFailed(f"{self._config.name}: there is nothing at {place}")
        with self._turn:
            return {"digest": self._keep(content)}

    def put(self, digest: str, key: str, *, fence: int, timeout_s: float) -> Json:
        ends = time.monotonic() + timeout_s
        if not self._turn.acquire(timeout=timeout_s):
            raise PassingFailure(f"{self._config.name} is being exchanged by another command")
        try:
            self._admit(fence)
            content = self._content(digest)
            before = self._served.content(self._config.path)
            if before is not None:
                # Whoever wrote it since the last look may want it back.
                self._keep(before)

            def check(candidate: Path) -> None:
                self._check(candidate, digest, ends)
                self._remember(fence, untold=True)

            if before != content:
                self._served.place(content, check=check)
            self._remember(fence, untold=True)
            self._tell(digest, key, fence, ends)
            self._remember(fence, loaded=digest)
            return {"digest": digest}
        finally:
            self._turn.release()

    def _remembered(self) -> Json:
        return {"fence": 0, "loaded": None, "untold": False, **(read_json(self._record) or {})}

    def _remember(self, fence: int, *, loaded: str | None = None, untold: bool = False) -> None:
        write_json(self._record, {"fence": fence, "loaded": loaded, "untold": untold})

    def _admit(self, fence: int) -> None:
        """A higher fence is on the disk before the first effect; a lower one is StaleAuthority."""
        record = self._remembered()
        highest = int(record["fence"])
        if fence < highest:
            raise StaleAuthority(f"fence {fence} is lower than {highest}, which {self._config.name} has seen")
        self._remember(fence, loaded=record["loaded"], untold=record["untold"])

    def _keep(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = self._kept / digest
        if path.exists():
            path.touch()
        else:
            write_durably(path, content)
            self._forget_the_oldest()
        return digest

    def _forget_the_oldest(self) -> None:
        kept = [path for path in self._kept.iterdir() if _DIGEST.fullmatch(path.name)]
        for path in sorted(kept, key=lambda path: path.stat().st_mtime_ns)[: -self._most]:
            path.unlink()

    def _content(self, digest: str) -> bytes:
        """ActionFailed when it is not kept here, or is not any more what it was."""
        if not _DIGEST.fullmatch(digest):
            raise AgentRefused("a digest is 64 hexadecimal digits")
        path = self._kept / digest
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            text = f"{self._config.name}: content {digest[:_SHORT]} is not kept on this host"
            raise ActionFailed(f"{text}; record it here first, or choose another version") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise ActionFailed(
                f"{self._config.name}: {path} was changed: it is not content {digest[:_SHORT]}"
            )
        path.touch()
        return content

    def _check(self, candidate: Path, digest: str, ends: float) -> None:
        if self._config.check:
            command = [word.replace("{}", str(candidate)) for word in self._config.check]
            self._run(command, f"its check refuses content {digest[:_SHORT]}, nothing was changed", ends)

    def _tell(self, digest: str, key: str, fence: int, ends: float) -> None:
        left_s = max(0.1, ends - time.monotonic())
        if self._config.unit:
            own_key = f"{key}/{self._config.name}/{digest[:_SHORT]}"
            self._units.restart(self._config.unit, own_key, fence=fence, timeout_s=left_s)
        else:
            self._run(self._config.reload, "its reload failed", ends)

    def _run(self, command: tuple[str, ...] | list[str], what: str, ends: float) -> None:
        """ActionFailed with ``what`` unless it ends with 0; what it prints is for the log alone."""
        name = self._config.name
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(self._log, flags, 0o600), "wb") as output:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=max(0.1, ends - time.monotonic()),
                    check=False,
                )
        except subprocess.TimeoutExpired as error:
            raise PassingFailure(f"{name}: {Path(command[0]).name} takes too long") from error
        except OSError as error:
            raise ActionFailed(f"{name}: {command[0]} cannot be run: {error.strerror}") from error
        if done.returncode != 0:
            raise ActionFailed(f"{name}: {what} (status {done.returncode}); what it said: {self._log}")


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()
