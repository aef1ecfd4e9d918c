"""What a driver's error says about TLS, in words that repeat nothing that was sent."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from ha_tasks.model.tls import mending


def about_tls(error: BaseException, section: str) -> str:
    """What OpenSSL refused and what mends it; '' when the error has nothing to do with TLS.

    A driver's own text may quote what it sent; OpenSSL's reason speaks of certificates only.
    """
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLError):
            said = getattr(cause, "verify_message", "") or str(cause.reason or "TLS failed")
            said = said.replace("_", " ").lower()
            unverified = isinstance(cause, ssl.SSLCertVerificationError)
            whole = f"certificate verify failed: {said}" if unverified else said
            return f"TLS: {said}; {mending(whole, section) or 'look into the log of the server'}"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        yield from (arg for arg in current.args if isinstance(arg, BaseException))
        current = current.__cause__ or current.__context__
