"""What keeps the automation in bounds. Each verb is one transaction; StoreUnreachable is retryable."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from ha_tasks.model.cooldown import CoolDown
from ha_tasks.model.switch import Switch


class Limits(Protocol):
    """Cool-downs, switches, refusals: what keeps the automation in bounds."""

    def cool(self, scope: str, playbook: str, until: datetime, *, length_s: float | None = None) -> None:
        """Starts a cool-down. ``length_s``: how long it was made, by which the next one is judged."""
        ...

    def cooldown(self, scope: str, playbook: str) -> CoolDown | None:
        """The latest, whether it is over, or was acknowledged, or not; None when there never was one."""
        ...

    def cooling(self, scope: str, playbook: str) -> datetime | None:
        """Until when; None when there is none or it was acknowledged."""
        ...

    def acknowledge(self, scope: str, now: datetime, actor: str) -> tuple[str, ...]:
        """Ends every cool-down of the scope; answers which playbooks' they were."""
        ...

    def switch(self, name: str, scope: str = "") -> str | None:
        """Who engaged the switch of that name (``stop``, ``observe``) for that scope; None: nobody.

        The scope "" is the switch of everything; that of a service does not look at it.
        """
        ...

    def switches(self) -> tuple[Switch, ...]:
        """Every switch that is engaged, by name and scope."""
        ...

    def set_switch(
        self, name: str, engaged: bool, actor: str, reason: str, now: datetime, *, scope: str = ""
    ) -> None:
        """Engages or releases a switch for that scope, a service or "" (everything)."""
        ...

    def refused(self, incident: int, guard: str, detail: str, now: datetime) -> bool:
        """Records a refusal; the same guard again counts up. True when it is a new one."""
        ...

    def last_refusal(self, incident: int) -> str | None:
        """The guard that refused latest; None when none ever did."""
        ...
