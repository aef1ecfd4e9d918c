"""Probes Redis or Valkey instances with PING."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.looking import Sight, Vantage
from ha_tasks.adapters.resp import command
from ha_tasks.adapters.wire import Wire
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from ha_tasks.ports.clock import Clock

MOST_LINE_BYTES = 4096


def without_password(service: Service) -> str | None:  # noqa: ARG001 - a password per service
    """No service has a password."""
    return None


class RedisProber:
    """See ports/probes.py. ``password`` is asked for each probe; LOADING, NOAUTH and the like are ERROR."""

    def __init__(
        self, *, vantage: str, clock: Clock, password: Callable[[Service], str | None] = without_password
    ) -> None:
        self._vantage = Vantage(vantage, clock)
        self._clock = clock
        self._password = password

    def probe(self, service: Service, instances: Sequence[Instance]) -> list[ProbeOutcome]:
        """One outcome per instance, side by side; reads only."""
        return self._vantage.outcomes(service, instances, lambda instance: self._look(service, instance))

    def _look(self, service: Service, instance: Instance) -> Sight:
        password = self._password(service)
        commands = [("AUTH", password)] if password is not None else []
        with Wire(instance.address, Deadline(self._clock, service.check.timeout_s)) as wire:
            wire.send(b"".join(command(*words) for words in [*commands, ("PING",)]))
            reader = wire.reader()
            answers = [reader.readline(MOST_LINE_BYTES) for _ in range(len(commands) + 1)]
        return _judged(answers)


def _judged(answers: Sequence[bytes]) -> Sight:
    """The first complaint counts: a refused AUTH explains the NOAUTH that follows."""
    for answer in answers:
        if not answer.startswith(b"+"):
            text = answer.decode(errors="replace").strip()
            return Sight(kind=OutcomeKind.ERROR, detail=text or "it hung up before it had answered")
    if answers[-1].strip() == b"+PONG":
        return Sight()
    return Sight(kind=OutcomeKind.ERROR, detail="it did not answer PONG")
