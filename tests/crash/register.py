"""A register of grants in a file: a resource that can refuse a stale fence, with its own evidence.

It stands for whatever a recovery changes outside of us. Each grant has a key; the register admits no fence
lower than the highest that it has seen for the key, and takes what it has done under a key already as done.
Every deed stands in the file beside its effect, written with it; every refusal is a line in a log.
No journal of ours writes here.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ha_tasks.errors import StaleAuthority

EMPTY = {"done": {}, "fences": {}, "deeds": []}


class Register:
    """``grant`` and ``revoke`` are each one atomic change of the file."""

    def __init__(self, directory: Path, name: str) -> None:
        self._file = directory / f"{name}.json"
        self._refusals = directory / f"{name}.refusals"

    def grant(self, key: str, value: str, fence: int) -> None:
        """StaleAuthority for a fence that is too low."""
        with self._turn(key, "grant", fence) as held:
            if key not in held["done"]:
                held["done"][key] = value
                held["deeds"].append(["grant", value, fence])

    def revoke(self, key: str, value: str, fence: int) -> None:
        """Of what was never granted too: then nothing changes, but a late grant will be refused."""
        with self._turn(key, "revoke", fence) as held:
            if held["done"].pop(key, None) is not None:
                held["deeds"].append(["revoke", value, fence])

    def holds(self, key: str) -> bool:
        """True when the key's grant stands."""
        return key in self._read()["done"]

    @property
    def standing(self) -> list[str]:
        """The values that are granted now."""
        return list(self._read()["done"].values())

    @property
    def deeds(self) -> list[tuple[str, str]]:
        """(grant | revoke, value), in the order in which they were done."""
        return [(verb, value) for verb, value, _ in self._read()["deeds"]]

    @property
    def refusals(self) -> list[dict[str, Any]]:
        """Every stale fence that came."""
        text = self._refusals.read_text() if self._refusals.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def _read(self) -> dict[str, Any]:
        return json.loads(self._file.read_text() if self._file.exists() else json.dumps(EMPTY))

    @contextmanager
    def _turn(self, key: str, verb: str, fence: int) -> Iterator[dict[str, Any]]:
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held = self._read()
            highest = held["fences"].get(key, 0)
            if fence < highest:
                self._refuse({"key": key, "verb": verb, "fence": fence, "highest": highest})
            held["fences"][key] = fence
            yield held
            scratch = self._file.with_suffix(".new")
            scratch.write_text(json.dumps(held))
            scratch.replace(self._file)

    def _refuse(self, line: dict[str, Any]) -> None:
        descriptor = os.open(self._refusals, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{json.dumps({**line, 'at': time.time()})}\n".encode())
        finally:
            os.close(descriptor)
        too_low = f"fence {line['fence']} is lower than {line['highest']}"
        raise StaleAuthority(f"{too_low}, which {line['key']} has seen")
