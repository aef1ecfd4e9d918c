"""Looking at instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.probe import ProbeOutcome


class Prober(Protocol):
    """Probes instances of the kinds that it knows."""

    def probe(self, service: Service, instances: Sequence[Instance]) -> list[ProbeOutcome]:
        """One outcome per instance, side by side, each within ``service.check.timeout_s`` (plus 0.2 s).

        A target that does not answer is an outcome, not an error; it never raises for one.
        """
        ...
