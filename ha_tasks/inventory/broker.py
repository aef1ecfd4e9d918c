"""The broker of an inventory: where it is, and the whereabouts of its passwords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ha_tasks.inventory.secret import Secret, with_password
from ha_tasks.model.broker import BrokerAddress
from ha_tasks.model.tls import with_query


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerEndpoint:
    """URLs without passwords, in the order in which they are tried; one password for all of them.

    ``master_name`` and ``sentinel_password`` are Sentinel's; ``query`` is what TLS adds to each URL.
    """

    bare_urls: tuple[str, ...]
    password: Secret | None = None
    master_name: str = ""
    sentinel_password: Secret | None = None
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def bare_url(self) -> str:
        """All of them as one text, for people."""
        return ";".join(self.bare_urls)

    def address(self) -> BrokerAddress:
        """With the passwords merged in; raises InventoryError when one cannot be read."""
        secret = None if self.password is None else self.password.reveal()
        return BrokerAddress(
            urls=tuple(self._whole(url, secret) for url in self.bare_urls),
            master_name=self.master_name,
            sentinel_password="" if self.sentinel_password is None else self.sentinel_password.reveal(),
        )

    def _whole(self, url: str, secret: str | None) -> str:
        known = url if secret is None else with_password(url, secret)
        return with_query(known, self.query) if self.query else known

    def url(self) -> str:
        """The address as one text; raises as ``address`` does."""
        return self.address().text()
