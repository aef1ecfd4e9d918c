"""Looks at what the platform needs and does not own: an URL, a port, a name, a certificate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from urllib.parse import SplitResult, urlsplit

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.http_get import get_over
from ha_tasks.adapters.name_lookup import looked_up
from ha_tasks.adapters.secure_wire import DEFAULT_PORTS, SecureWire, context_of
from ha_tasks.adapters.tls_errors import about_tls
from ha_tasks.adapters.wire import Wire, parse_address
from ha_tasks.model.platform import External, ExternalKind
from ha_tasks.model.system_health import CAUTION, DOWN, WELL, Examined, judged, minded
from ha_tasks.ports.clock import Clock

SECONDS_A_DAY = 86400.0


class OutsideCheck:
    """Implements ports.checks.ExternalCheck; a connection of its own for each look, changes nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looks: Mapping[ExternalKind, Callable[[External, Deadline], Examined]] = {
            ExternalKind.HTTP: self._http,
            ExternalKind.TCP: self._tcp,
            ExternalKind.DNS: self._dns,
            ExternalKind.TLS: self._tls,
        }

    def examine(self, dependency: External) -> Examined:
        """See the port."""
        deadline, begun = Deadline(self._clock, dependency.timeout_s), self._clock.monotonic()
        try:
            seen = self._looks[dependency.kind](dependency, deadline)
        except OSError as error:
            seen = _ill(dependency, about_tls(error, f"external.{dependency.name}") or _said(error))
        took_s = round(self._clock.monotonic() - begun, 4)
        seen = replace(seen, facts={"seconds": took_s, **seen.facts})
        return minded(seen, dependency.weight)

    def _http(self, it: External, deadline: Deadline) -> Examined:
        parts = urlsplit(it.target)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with self._wire(it, parts, deadline) as wire:
            status = get_over(wire, path, parts.netloc).status
            if status != it.expect_status:
                return _ill(it, f"HTTP {status}, not {it.expect_status}")
            return self._by_certificate(it, wire) if isinstance(wire, SecureWire) else _well(it)

    def _tcp(self, it: External, deadline: Deadline) -> Examined:
        host, port = parse_address(it.target)
        with _first(host, port, deadline, lambda place: Wire(place, deadline)):
            return _well(it)

    def _dns(self, it: External, deadline: Deadline) -> Examined:
        return replace(_well(it), facts={"addresses": looked_up(it.target, deadline)})

    def _tls(self, it: External, deadline: Deadline) -> Examined:
        with self._wire(it, urlsplit(f"https://{it.target}"), deadline) as wire:
            return self._by_certificate(it, wire) if isinstance(wire, SecureWire) else _well(it)

    def _wire(self, it: External, parts: SplitResult, deadline: Deadline) -> Wire:
        host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        if parts.scheme == "http":
            return _first(host, port, deadline, lambda place: Wire(place, deadline))
        trust = context_of(it.tls)
        return _first(host, port, deadline, lambda place: SecureWire(place, deadline, host, trust))

    def _by_certificate(self, it: External, wire: SecureWire) -> Examined:
        ends = wire.certificate_ends
        if ends is None:
            return _well(it)
        return certificate_examined(it, ends, self._clock.now())


def certificate_examined(it: External, ends: datetime, now: datetime) -> Examined:
    """A certificate that ends soon is told while it still serves. Pure."""
    days = (ends - now).total_seconds() / SECONDS_A_DAY
    soon = days < it.expires_within_days
    return judged(
        it.name,
        str(it.kind),
        CAUTION if soon else WELL,
        problem=f"its certificate ends in {days:.1f} days, on {ends:%Y-%m-%d}",
        remedy=it.remedy or "have it renewed; whoever connects is refused after that day",
        facts={"certificate_days": round(days, 2)},
    )


def _first(host: str, port: int, deadline: Deadline, opened: Callable[[str], Wire]) -> Wire:
    """To the first address of the name that takes the connection; the last refusal when none does."""
    refusal: OSError = OSError(f"{host} has no address")
    for address in looked_up(host, deadline):
        try:
            return opened(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        except OSError as error:
            refusal = error
    raise refusal


def _well(it: External) -> Examined:
    return Examined(subject=it.name, check=str(it.kind))


def _ill(it: External, problem: str) -> Examined:
    remedy = it.remedy or f"ask whoever runs {it.target}; nothing here can mend it"
    return Examined(subject=it.name, check=str(it.kind), score=DOWN, problem=problem[:200], remedy=remedy)


def _said(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there: connection refused"
    if isinstance(error, TimeoutError):
        return str(error) if "name server" in str(error) else "no answer in time"
    return str(error) or type(error).__name__
