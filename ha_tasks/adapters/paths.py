"""The path that users take to a service, through the balancer's port: one real request."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.platform import Service
from ha_tasks.ports.postgres import PostgresControl

REQUEST_WITHIN_S = 2.0


class HttpPath:
    """A GET to the service's entry."""

    def try_once(self, service: Service, token: str) -> None:  # noqa: ARG002 - a GET leaves nothing behind
        """ServiceUnreachable unless it answers with the status that the check expects."""
        entry = urlsplit(service.routing.entry if service.routing else "")
        connection = http.client.HTTPConnection(entry.netloc, timeout=REQUEST_WITHIN_S)
        try:
            connection.request("GET", service.check.path)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise ServiceUnreachable(f"{service.name} through {entry.netloc}: {error}") from error
        finally:
            connection.close()
        if status != service.check.expect_status:
            raise ServiceUnreachable(f"{service.name} through {entry.netloc}: status {status}")


class PostgresPath:
    """A canary row, written and read back through the write entry."""

    def __init__(self, control: PostgresControl) -> None:
        self._control = control

    def try_once(self, service: Service, token: str) -> None:
        """ServiceUnreachable when the row was not acknowledged and read back."""
        if service.routing is None:
            raise ServiceUnreachable(f"{service.name} has no routing, so no path to verify")
        self._control.write_canary(service, service.routing.entry, token, timeout_s=REQUEST_WITHIN_S)
