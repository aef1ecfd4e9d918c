"""What the bench needs of a system under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ha_tasks.adapters.postgres_session import Login


class System(Protocol):
    """A cluster of three nodes behind a balancer. ``name`` is how it is called in the results."""

    name: str
    wake_after_s: float
    """How long something stays frozen or dark: longer than the system needs to fail over."""

    def start(self) -> None:
        """Returns once it is whole."""
        ...

    def stop(self) -> None:
        """Ends every process and deletes its files. Idempotent."""
        ...

    def whole(self) -> str | None:
        """The primary, when everybody is well and would survive the next fault; None otherwise."""
        ...

    @property
    def entry(self) -> str:
        """``host:port`` of the balancer for writes."""
        ...

    @property
    def nodes(self) -> Mapping[str, str]:
        """Name -> ``host:port`` past the balancer."""
        ...

    @property
    def login(self) -> Login:
        """Whoever may create a table and write."""
        ...

    @property
    def version(self) -> str:
        """Of the database server."""
        ...

    def agents(self, node: str) -> Sequence[int]:
        """Pids of what guards the database there."""
        ...

    def database(self, node: str) -> Sequence[int]:
        """Pids of the database there that live, the postmaster first."""
        ...

    def hold(self, node: str) -> None:
        """Nobody starts the killed node again, as nobody does when a machine is gone."""
        ...

    def release(self, node: str) -> None:
        """The machine is back: its agent starts. Idempotent."""
        ...

    def darken(self, node: str) -> None:
        """Takes its network link down."""
        ...

    def light(self, node: str) -> None:
        """Takes it up again. Idempotent."""
        ...
