"""MetricsCollector: everything that is exported, read out of SQL and the broker when it is asked for.

Each part reads its source alone and fails alone: its series are then absent and its ``ha_collector_up``
is 0. Never a default, never the last value: what is not known is not said.
"""

from __future__ import annotations

import logging
import platform as interpreter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from itertools import chain
from typing import TypeAlias

from prometheus_client.metrics_core import Metric

import ha_tasks
from ha_tasks.errors import BrokerUnreachable, StoreUnreachable, Unreachable
from ha_tasks.monitoring.clusters import automation, replication
from ha_tasks.monitoring.events import event_lag
from ha_tasks.monitoring.labels import LabelRegistry
from ha_tasks.monitoring.prometheus import CATALOGUE, Part, Words, metric
from ha_tasks.monitoring.recoveries import open_incidents, running_recoveries
from ha_tasks.monitoring.replication_pictures import pictures
from ha_tasks.monitoring.services import Services, integrity
from ha_tasks.monitoring.sources import Sources
from ha_tasks.monitoring.system_health import system_health
from ha_tasks.monitoring.tallies import Tallies
from ha_tasks.monitoring.transport import backlogs, workers

logger = logging.getLogger(__name__)

Read: TypeAlias = Callable[[datetime], Iterable[Metric]]


class MetricsCollector:
    """A collector for prometheus_client. Not thread-safe: one scrape at a time."""

    def __init__(self, sources: Sources) -> None:
        self._clock = sources.clock
        self._parts = _parts(sources)

    def describe(self) -> Iterator[Metric]:
        """The catalogue, without samples."""
        return (definition.family() for definition in CATALOGUE)

    def collect(self) -> Iterator[Metric]:
        """Every family that could be read, and how the parts fared. Raises nothing."""
        now = self._clock.now()
        up: dict[Words, float] = {}
        took_s: dict[Words, float] = {}
        silent: set[type[Unreachable]] = set()
        for part, read in self._parts.items():
            began = self._clock.monotonic()
            families = None if _source(part) in silent else self._read(part, read, now, silent)
            up[part.value,] = float(families is not None)
            took_s[part.value,] = self._clock.monotonic() - began
            yield from families or ()
        yield metric("ha_collector_up").family(up)
        yield metric("ha_store_up").family({(): float(StoreUnreachable not in silent)})
        yield metric("ha_collector_duration_seconds").family(took_s)
        yield metric("ha_build_info").family({_build(): 1.0})

    def _read(
        self, part: Part, read: Read, now: datetime, silent: set[type[Unreachable]]
    ) -> list[Metric] | None:
        """The whole part or nothing of it.

        A store that does not answer is not asked again in the same scrape: eight deadlines in a row
        would cost the scrape, and with it what the broker has to say.
        """
        try:
            return list(read(now))
        except Unreachable as error:
            logger.warning("part %s has no numbers: %s", part, error)
            silent.add(_source(part))
        except Exception:
            # A fault in one part must not take the others' numbers along.
            logger.exception("part %s has no numbers", part)
        return None


def _parts(sources: Sources) -> Mapping[Part, Read]:
    labels = LabelRegistry(sources.platform, sources.own_actions)
    tallies = Tallies(labels)
    services = Services(sources.platform, sources.ledger, sources.observations)
    return {
        Part.LEDGER: lambda _: tallies.families(sources.ledger.series()),
        Part.SERVICES: services.families,
        Part.INTEGRITY: lambda now: integrity(sources, now),
        Part.INCIDENTS: lambda _: open_incidents(sources.incidents, labels),
        Part.RUNS: lambda _: running_recoveries(sources.journal, labels),
        Part.AUTOMATION: lambda _: automation(sources),
        Part.EVENTS: lambda now: event_lag(sources, labels, now),
        Part.REPLICATION: lambda now: chain(replication(sources, now), pictures(sources, now)),
        Part.HEALTH: lambda now: system_health(sources, now),
        Part.WORKERS: lambda now: workers(sources.ledger, sources.schedule, labels, now),
        Part.BROKER: lambda now: backlogs(sources.queues, now),
    }


def _source(part: Part) -> type[Unreachable]:
    """The error that says that the part's source is silent."""
    return BrokerUnreachable if part is Part.BROKER else StoreUnreachable


def _build() -> Words:
    return (ha_tasks.__version__, interpreter.python_version(), version("celery"))
