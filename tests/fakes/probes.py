"""A prober that sees what it was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ha_tasks.model.plain import Facts
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.ports.clock import Clock


class FakeProber:
    """See ports/probes.py. ``kinds`` by instance name; an instance that is not named is well."""

    def __init__(
        self,
        clock: Clock,
        *,
        vantage: str = "host/probe-a",
        kinds: Mapping[str, OutcomeKind] | None = None,
    ) -> None:
        self.kinds = dict(kinds or {})
        self.facts: dict[str, Facts] = {}
        self.rtt_s = 0.001
        self._clock = clock
        self._vantage = vantage

    def probe(self, service: Service, instances: Sequence[Instance]) -> list[ProbeOutcome]:
        return [self._outcome(service, instance) for instance in instances]

    def _outcome(self, service: Service, instance: Instance) -> ProbeOutcome:
        now, kind = self._clock.now(), self.kinds.get(instance.name, OutcomeKind.OK)
        return ProbeOutcome(
            target=Target(service=service.name, instance=instance.name),
            vantage=self._vantage,
            sent_at=now,
            known_at=now,
            kind=kind,
            rtt_s=service.check.timeout_s if kind is OutcomeKind.TIMEOUT else self.rtt_s,
            detail="" if kind is OutcomeKind.OK else f"told to be {kind}",
            facts=self.facts.get(instance.name, {}),
            probe=str(service.kind),
        )
