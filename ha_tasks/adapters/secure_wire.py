"""Wires to http and https URLs: TLS inside the one deadline of a wire."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.wire import Wire
from ha_tasks.model.tls import Tls

DEFAULT_PORTS = {"http": 80, "https": 443}


def context_of(tls: Tls | None) -> ssl.SSLContext:
    """Whom to trust, and as whom to come. Raises OSError (ssl.SSLError) for a file that cannot be read."""
    tls = tls or Tls()
    context = ssl.create_default_context(cafile=tls.ca)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context


def wire_to(parts: SplitResult, deadline: Deadline, trust: ssl.SSLContext | None) -> Wire:
    """A wire to an URL of http or https; certificates are verified by ``trust``, None: the machine's."""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    host = parts.hostname or ""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if parts.scheme == "http":
        return Wire(address, deadline)
    return SecureWire(address, deadline, host, trust or ssl.create_default_context())


class SecureWire(Wire):
    """A wire inside TLS; certificate and host name are verified by the context."""

    def __init__(self, address: str, deadline: Deadline, host: str, trust: ssl.SSLContext) -> None:
        super().__init__(address, deadline)
        plain = self._socket
        try:
            # The handshake as a whole ends by this timeout.
            plain.settimeout(deadline.left_s())
            secure = trust.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        self._socket = secure
        self._certificate: Mapping[str, Any] = secure.getpeercert() or {}

    @property
    def certificate_ends(self) -> datetime | None:
        """When the server's certificate does; None where certificates are not verified."""
        ends = self._certificate.get("notAfter")
        return None if ends is None else datetime.fromtimestamp(ssl.cert_time_to_seconds(str(ends)), UTC)
