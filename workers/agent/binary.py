"""The server program on disk, which an upgrade of its package exchanges under a server that runs."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path

_LIMIT_S = 2.0
_VERSION = re.compile(r"\(PostgreSQL\) (\S+)")


class ServerProgram:
    """Thread-safe. It is run once for each file that it has been, not once for each question."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: tuple[tuple[int, int], str] | None = None

    def version(self) -> str:
        """Like ``15.13``; empty when the program is not there, or says nothing within 2 s."""
        try:
            file = self._path.stat()
        except OSError:
            return ""
        which = (file.st_ino, file.st_mtime_ns)
        with self._lock:
            if self._known is None or self._known[0] != which:
                self._known = (which, self._asked())
            return self._known[1]

    def _asked(self) -> str:
        command = [str(self._path), "--version"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        found = _VERSION.search(done.stdout)
        return found[1] if found else ""
