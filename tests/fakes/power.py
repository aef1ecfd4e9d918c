"""A switch for machines, in memory."""

from __future__ import annotations

from ha_tasks.errors import PassingFailure


class FakePower:
    """See ports/power.py. ``known``: host -> whether its command works."""

    def __init__(self, known: dict[str, bool] | None = None) -> None:
        self.known = known or {}
        self.switched_off: list[str] = []

    def off(self, host: str, *, timeout_s: float) -> bool:
        if host not in self.known:
            return False
        if not self.known[host]:
            raise PassingFailure(f"{host} was not switched off")
        self.switched_off.append(host)
        return True
