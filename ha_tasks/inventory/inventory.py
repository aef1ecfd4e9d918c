"""The inventory: the platform as it was written down, and the way to its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ha_tasks.errors import InventoryError
from ha_tasks.inventory.broker import BrokerEndpoint
from ha_tasks.inventory.secret import Endpoint, Secret
from ha_tasks.model.fault import Fault
from ha_tasks.model.plain import Facts
from ha_tasks.model.platform import ManagedBy, Platform, Service
from ha_tasks.model.revision import sha256_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What ha-tasks.toml says, in values of the model. Its repr shows no secret.

    ``metrics_listen`` is ``host:port``; ``warnings`` keep nothing from working.
    """

    path: Path
    platform: Platform
    store: Endpoint
    broker: BrokerEndpoint
    metrics_listen: str
    playbook_directories: tuple[Path, ...]
    agents_key: Secret | None
    passwords: Mapping[str, Secret]
    pooler_passwords: Mapping[str, Secret]
    """Service -> password of the user of its poolers' consoles."""
    audit_heads: Path
    """File outside the database that keeps heads of the audit chain."""
    store_on_protected_cluster: bool = False
    """Somebody insists on a store that falls together with what it recovers."""
    warnings: tuple[Fault, ...] = ()
    content: Facts = field(default_factory=dict)
    """What the file says, without any override from the environment; secrets as references."""
    action_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    action_secrets: Mapping[str, Mapping[str, Secret]] = field(default_factory=dict)
    check_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    check_secrets: Mapping[str, Mapping[str, Secret]] = field(default_factory=dict)
    webhook_secrets: Mapping[str, Secret] = field(default_factory=dict)
    patroni_passwords: Mapping[str, Secret] = field(default_factory=dict)
    sentinel_passwords: Mapping[str, Secret] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the content: two files with the same are the same revision."""
        return sha256_of(self.content)

    def store_url(self) -> str:
        """URL of the state store with its password; raises InventoryError when that cannot be read."""
        return self.store.url()

    def broker_url(self) -> str:
        """The broker's address as one text (model/broker.py), with its passwords.

        Raises InventoryError when one of them cannot be read.
        """
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

    def pooler_secret_for(self, service: Service) -> str | None:
        """Password for the consoles of the service's poolers; None when they need none."""
        secret = self.pooler_passwords.get(service.name)
        return None if secret is None else secret.reveal()

    def patroni_password(self, service: Service) -> str | None:
        """Password for changes by that service's Patroni, read anew; None when it asks for none."""
        secret = self.patroni_passwords.get(service.name)
        return None if secret is None else secret.reveal()

    def sentinel_password(self, service: Service) -> str | None:
        """Password of the Sentinels that lead that service, read anew; None when they ask for none."""
        secret = self.sentinel_passwords.get(service.name)
        return None if secret is None else secret.reveal()

    def secret_of(self, action: str, name: str) -> str:
        """A secret of one's own action; raises InventoryError when it has none of that name."""
        return self._own_secret("actions", self.action_secrets, action, name)

    def check_secret_of(self, check: str, name: str) -> str:
        """A secret of one's own check; raises InventoryError when it has none of that name."""
        return self._own_secret("checks", self.check_secrets, check, name)

    def _own_secret(
        self, section: str, secrets: Mapping[str, Mapping[str, Secret]], owner: str, name: str
    ) -> str:
        secret = secrets.get(owner, {}).get(name)
        if secret is None:
            raise InventoryError(
                f"{self.path}: {section}.{owner}.secrets.{name}: is missing; "
                f'add [{section}."{owner}".secrets] with {name} = {{ file = "secrets/..." }}'
            )
        return secret.reveal()

    def webhook_secret(self, name: str) -> bytes:
        """What signs the events for that webhook, read anew; raises InventoryError, KeyError."""
        return self.webhook_secrets[name].reveal().encode()

    @property
    def managed_by(self) -> Mapping[str, ManagedBy]:
        """Who recovers each service."""
        return {name: service.managed_by for name, service in self.platform.services.items()}
