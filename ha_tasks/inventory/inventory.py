"""The inventory: the platform as it was written down, and the way to its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.errors import InventoryError
from ha_tasks.inventory.secret import Endpoint, Secret
from ha_tasks.model.fault import Fault
from ha_tasks.model.platform import ManagedBy, Platform, Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What ha-tasks.toml says, in values of the model. Its repr shows no secret.

    ``metrics_listen`` is ``host:port``; ``warnings`` keep nothing from working.
    """

    path: Path
    platform: Platform
    store: Endpoint
    broker: Endpoint
    metrics_listen: str
    playbook_directories: tuple[Path, ...]
    agents_key: Secret | None
    passwords: Mapping[str, Secret]
    warnings: tuple[Fault, ...] = ()

    def store_url(self) -> str:
        """URL of the state store with its password; raises InventoryError when that cannot be read."""
        return self.store.url()

    def broker_url(self) -> str:
        """URL of the broker with its password; raises InventoryError when that cannot be read."""
        return self.broker.url()

    def agent_key(self) -> bytes:
        """The key that signs requests to agents; raises InventoryError when there is none."""
        if self.agents_key is None:
            raise InventoryError(
                f"{self.path}: agents.key: is missing; "
                'add [agents] with key = { file = "secrets/agent-key" }, the same key as the agents have'
            )
        return self.agents_key.reveal().encode()

    def secret_for(self, service: Service | str) -> str | None:
        """Password with which the control plane comes to that service; None when it needs none."""
        secret = self.passwords.get(service if isinstance(service, str) else service.name)
        return None if secret is None else secret.reveal()

    @property
    def managed_by(self) -> Mapping[str, ManagedBy]:
        """Who recovers each service."""
        return {name: service.managed_by for name, service in self.platform.services.items()}
