"""Webhooks: one signed POST for each event, over a connection of its own, bounded by one deadline.

Only http and https; certificates are verified; a redirect is a refusal, since it would lead the body to a
place that nobody has configured.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import ssl
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.secure_wire import wire_to
from ha_tasks.errors import InventoryError, NotDelivered
from ha_tasks.model.event import Event
from ha_tasks.model.platform import Webhook
from ha_tasks.ports.clock import Clock

DEADLINE_S = 2.0


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """``v1=`` and HMAC-SHA256, in hexadecimal, of the timestamp, a dot and the body as it is sent."""
    signed = b"%d." % timestamp + body
    return "v1=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()


class WebhookSink:
    """Implements ``EventSink``. ``secret`` reads it anew for each event, so it can be changed at any time."""

    def __init__(
        self,
        webhook: Webhook,
        *,
        secret: Callable[[], bytes],
        clock: Clock,
        trust: ssl.SSLContext | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._webhook = webhook
        self._secret = secret
        self._clock = clock
        self._trust = trust
        self._deadline_s = deadline_s

    def deliver(self, event: Event) -> None:
        """See the port. Taken is any status from 200 to 299. The look-up of its name is not bounded."""
        body = json.dumps(event.to_json(), separators=(",", ":")).encode()
        try:
            status = self._post(body, self._headers(event, body))
        except InventoryError as error:
            raise NotDelivered(f"its secret cannot be read: {type(error).__name__}") from error
        except http.client.HTTPException as error:
            raise NotDelivered(f"not HTTP: {type(error).__name__}") from error
        except OSError as error:
            raise NotDelivered(_told(error)) from error
        if not 200 <= status < 300:
            hint = " (redirects are not followed)" if 300 <= status < 400 else ""
            raise NotDelivered(f"HTTP {status}{hint}")

    def _headers(self, event: Event, body: bytes) -> dict[str, str]:
        timestamp = int(self._clock.now().timestamp())
        return {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": "ha_tasks",
            "Connection": "close",
            "Ha-Tasks-Event": event.verb,
            "Ha-Tasks-Event-Id": str(event.seq),
            "Ha-Tasks-Timestamp": str(timestamp),
            "Ha-Tasks-Signature": signature(self._secret(), timestamp, body),
        }

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        parts = urlsplit(self._webhook.url)
        deadline = Deadline(self._clock, self._deadline_s)
        with wire_to(parts, deadline, self._trust) as wire:
            wire.send(_head(parts, headers) + body)
            response = http.client.HTTPResponse(wire, method="POST")  # type: ignore[arg-type] # it only reads
            response.begin()
            return response.status


def _head(parts: SplitResult, headers: dict[str, str]) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii", errors="replace")


def _told(error: OSError) -> str:
    """In words without an address: the URL may bear a token."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return "name not found" if isinstance(error, socket.gaierror) else type(error).__name__
