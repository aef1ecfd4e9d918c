"""Connections to the broker: our transports, and the patience of those who wait for a broker that is away."""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES, pyamqp

from ha_tasks.tasks.redis_transport import SentinelTransport, Transport


class AmqpsTransport(pyamqp.SSLTransport):
    """Compares the certificate with the host of the URL that is being tried.

    Kombu's own fills the name in once and keeps it, so a failover to the next URL would be refused.
    """

    def establish_connection(self) -> Any:
        """As Kombu's."""
        client: Any = self.client
        if isinstance(client.ssl, dict) and "server_hostname" in client.ssl:
            client.ssl = {**client.ssl, "server_hostname": client.hostname}
        return super().establish_connection()


# Kombu's pools make connections of their own class, which know no others than these names.
TRANSPORT_ALIASES["amqps"] = f"{AmqpsTransport.__module__}:{AmqpsTransport.__qualname__}"
TRANSPORTS = {"redis": Transport, "rediss": Transport, "sentinel": SentinelTransport}
"""Scheme -> the transport instead of Kombu's. By scheme, since a failover to the next URL names it anew."""
PATIENCE_S = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}


class BrokerConnection(Connection):
    """Looks for a broker that is away once a second.

    Kombu's own pauses grow to half a minute: after an outage of a minute it would notice the return
    a quarter of a minute late.
    """

    def get_transport_cls(self) -> Any:
        """Ours, where there is one."""
        ours = TRANSPORTS.get(self.transport_cls) if isinstance(self.transport_cls, str) else None
        return ours or super().get_transport_cls()

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        return super()._ensure_connection(*args, **(PATIENCE_S | options))


class Amqp(AMQP):
    """Celery's messages over our connections."""

    Connection = BrokerConnection
