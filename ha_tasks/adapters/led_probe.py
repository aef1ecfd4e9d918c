"""Probes nodes that another manager leads: as any of their kind, and its manager's word beside it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ha_tasks.errors import HaTasksError
from ha_tasks.model.led_by_others import FACT
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, ManagedBy, Service
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.cluster_manager import ClusterWord
from ha_tasks.ports.probes import Prober

ASKED = (ManagedBy.PATRONI, ManagedBy.SENTINEL)
WORD_LASTS_S = 1.0
"""Each answer costs the manager a look into its own store, so several probes share one."""


class LedProber:
    """See ports/probes.py. ``facts["manager"]`` is what the manager says of the whole cluster, or
    ``{"error": why}``; of a service without such a manager ``nodes`` alone is asked.
    """

    def __init__(self, nodes: Prober, manager: ClusterWord, clock: Clock) -> None:
        self._nodes = nodes
        self._manager = manager
        self._clock = clock
        self._lock = threading.Lock()
        self._words: dict[str, tuple[float, Json]] = {}

    def probe(self, service: Service, instances: Sequence[Instance]) -> list[ProbeOutcome]:
        """Both at the same time; reads only."""
        if service.managed_by not in ASKED:
            return self._nodes.probe(service, instances)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="manager") as pool:
            asked = pool.submit(self._word, service)
            outcomes = self._nodes.probe(service, instances)
            word = asked.result()
        return [replace(outcome, facts={**outcome.facts, FACT: word}) for outcome in outcomes]

    def _word(self, service: Service) -> Json:
        now = self._clock.monotonic()
        with self._lock:
            said_at, word = self._words.get(service.name, (-WORD_LASTS_S, {}))
        if now - said_at < WORD_LASTS_S:
            return word
        try:
            word = self._manager.report(service, timeout_s=service.check.timeout_s).to_json()
        except HaTasksError as error:  # a manager that does not answer is a fact, not an error
            word = {"error": str(error)[:200]}
        with self._lock:
            self._words[service.name] = (now, word)
        return word
