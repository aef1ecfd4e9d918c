"""Registrations as they are kept. Each verb is one transaction; StoreUnreachable is retryable."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from ha_tasks.model.registration import NewRegistration, Registration


class Registrations(Protocol):
    """Instances that registered themselves, each under a lease."""

    def register(self, new: NewRegistration, now: datetime) -> Registration:
        """Keeps it under a new lease; of the same name the later one counts, whoever it is.

        What expired long ago is forgotten in the same transaction, see ``forgotten``.
        """
        ...

    def renew(self, service: str, name: str, lease: int, now: datetime) -> Registration:
        """Its lease lasts from now on again. An earlier moment than the recorded one changes nothing.

        StaleFence: somebody has registered that name since. KeyError: there is none, register again.
        """
        ...

    def remove(
        self, service: str, name: str, lease: int | None, now: datetime, *, staffed: bool = False
    ) -> bool:
        """It serves no more, and is known as one that left until it is forgotten; False when there is none.
        ``lease`` None: whosever it is.

        Refused: it is the last one of its service, unless that is ``staffed`` by others. StaleFence: as
        above. Nothing is changed then.
        """
        ...

    def all(self) -> tuple[Registration, ...]:
        """Every one, expired or not, by service and name."""
        ...
