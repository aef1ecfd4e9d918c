"""Looking at instances side by side, and making outcomes of what was seen. Every prober uses it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from ha_tasks.model.plain import Facts
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.ports.clock import Clock

T = TypeVar("T")
U = TypeVar("U")

_NO_ANSWER = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})
MOST_DETAIL = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one look came to."""

    kind: OutcomeKind = OutcomeKind.OK
    detail: str = ""
    facts: Facts = field(default_factory=dict)


def side_by_side(work: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """``work`` of each item, in threads of their own, in the order of the items."""
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=len(items), thread_name_prefix="look") as pool:
        return list(pool.map(work, items))


class Vantage:
    """Where one looks from: stamps, times and classifies. ``name`` is ``host/process``."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock

    def outcomes(
        self, service: Service, instances: Sequence[Instance], look: Callable[[Instance], Sight]
    ) -> list[ProbeOutcome]:
        """One outcome per instance. An OSError of ``look`` is an outcome."""
        return side_by_side(lambda instance: self._outcome(service, instance, look), instances)

    def _outcome(
        self, service: Service, instance: Instance, look: Callable[[Instance], Sight]
    ) -> ProbeOutcome:
        sent_at, begun = self._clock.now(), self._clock.monotonic()
        sight = _seen(instance, look)
        return ProbeOutcome(
            target=Target(service=service.name, instance=instance.name),
            vantage=self._name,
            sent_at=sent_at,
            known_at=self._clock.now(),
            kind=sight.kind,
            rtt_s=self._clock.monotonic() - begun,
            detail=sight.detail[:MOST_DETAIL],
            facts=sight.facts,
            probe=str(service.kind),
        )


def _seen(instance: Instance, look: Callable[[Instance], Sight]) -> Sight:
    try:
        return look(instance)
    except OSError as error:
        return Sight(kind=kind_of(error), detail=str(error))


def kind_of(error: OSError) -> OutcomeKind:
    """A host that cannot be reached is silence, not an answer: TIMEOUT, though it is known at once."""
    if isinstance(error, ConnectionRefusedError):
        return OutcomeKind.REFUSED
    if isinstance(error, TimeoutError) or error.errno in _NO_ANSWER:
        return OutcomeKind.TIMEOUT
    return OutcomeKind.ERROR
