"""The memory of a home: the id of the state store that it served, in a small file."""

from __future__ import annotations

import os
from pathlib import Path


class ServedStoreFile:
    """Implements ports/identity.py's ServedStore. Raises OSError where the home cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self) -> str | None:
        """See the port."""
        try:
            return self._path.read_text("ascii").strip() or None
        except FileNotFoundError:
            return None

    def remember(self, store_id: str) -> None:
        """See the port. Several processes of one home may do it at once."""
        if self.last() == store_id:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with fresh.open("w", encoding="ascii") as file:
            file.write(f"{store_id}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
