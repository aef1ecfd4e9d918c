"""Signatures between the control plane and the host agents: HMAC-SHA256 over requests and answers.

A request is signed over method, path, time, nonce and body; the path names the node or host, so that a
request meant for one agent is worth nothing at another. The answer is signed over the request's nonce,
the status and the body: whoever takes the port of a dead agent cannot confirm a revocation.
A nonce is refused when it comes twice. A restarted agent has forgotten its nonces, but everything it
can be asked is idempotent and checked against the authority on its disk.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping

TIMESTAMP_HEADER = "X-HA-Timestamp"
NONCE_HEADER = "X-HA-Nonce"
SIGNATURE_HEADER = "X-HA-Signature"
REQUEST_HEADERS = (TIMESTAMP_HEADER, NONCE_HEADER, SIGNATURE_HEADER)
SKEW_S = 30.0
"""How far the clocks of client and agent may differ."""
SHORTEST_KEY = 16
"""Bytes; a shorter key is refused on both sides."""


def signed_request(
    key: bytes, *, method: str, path: str, body: bytes, now: Callable[[], float] = time.time
) -> dict[str, str]:
    """The headers that a request must carry; the nonce in them is new at each call."""
    timestamp, nonce = f"{now():.3f}", secrets.token_hex(16)
    signature = _signature(key, "request", method, path, timestamp, nonce, _digest(body))
    return {TIMESTAMP_HEADER: timestamp, NONCE_HEADER: nonce, SIGNATURE_HEADER: signature}


def signed_answer(key: bytes, *, nonce: str, status: int, body: bytes) -> dict[str, str]:
    """The header that the answer to the request with ``nonce`` must carry."""
    return {SIGNATURE_HEADER: _signature(key, "answer", nonce, str(status), _digest(body))}


def answer_is_genuine(key: bytes, *, nonce: str, status: int, body: bytes, signature: str) -> bool:
    """True when the answer comes from who has the key, and belongs to this request."""
    return _same(_signature(key, "answer", nonce, str(status), _digest(body)), signature)


class RequestGate:
    """Says whether a request comes from who has the key, is fresh, and comes for the first time."""

    def __init__(self, key: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def nonce_of(self, *, method: str, path: str, headers: Mapping[str, str], body: bytes) -> str | None:
        """The nonce of a genuine request; None for any other, whatever is wrong with it."""
        timestamp = headers.get(TIMESTAMP_HEADER, "")
        nonce = headers.get(NONCE_HEADER, "")
        wanted = _signature(self._key, "request", method, path, timestamp, nonce, _digest(body))
        genuine = _same(wanted, headers.get(SIGNATURE_HEADER, ""))
        return nonce if genuine and nonce and self._is_fresh(timestamp) and self._is_new(nonce) else None

    def _is_fresh(self, timestamp: str) -> bool:
        try:
            return abs(self._now() - float(timestamp)) <= SKEW_S
        except ValueError:
            return False

    def _is_new(self, nonce: str) -> bool:
        """Remembers it for as long as its timestamp could still be taken for fresh."""
        now = self._now()
        with self._lock:
            for old in [n for n, until in self._seen.items() if until < now]:
                del self._seen[old]
            if nonce in self._seen:
                return False
            self._seen[nonce] = now + 2 * SKEW_S
            return True


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _signature(key: bytes, *parts: str) -> str:
    """Each part with its length, so that no two lists of parts give the same bytes."""
    text = "".join(f"{len(part)}:{part}\n" for part in parts)
    return hmac.new(key, text.encode(errors="replace"), hashlib.sha256).hexdigest()


def _same(wanted: str, given: str) -> bool:
    """In constant time; what is no ASCII is no signature."""
    return hmac.compare_digest(wanted.encode(), given.encode(errors="replace"))
