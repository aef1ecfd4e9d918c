"""The watch over the state store: is it the one that was served, and as new as the agents remember?

Whoever acts asks ``held`` right before, which reads the store: a copy of yesterday that took its place a
moment ago must not set one server of a balancer. The agents are asked when a process begins, and every
few seconds by the observers, which write down what others have to know.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ha_tasks.errors import AgentRefused, Unreachable
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.platform import Platform, Service, ServiceKind
from ha_tasks.model.store_trust import StoreFacts, may_act
from ha_tasks.names import STORE_WATCH
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import DatabaseAgent, UnitAgent
from ha_tasks.ports.identity import Identity, ServedStore, StoreIdentity
from ha_tasks.ports.limits import Limits

log = logging.getLogger(__name__)

AGENT_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the agents remember. ``silent`` names the nodes and ``host/unit`` whose agents did not answer."""

    epochs: Mapping[str, int]
    fence: int
    silent: tuple[str, ...]


class AgentMemory:
    """The highest (epoch, fence) that each agent has obeyed. Reads only; all are asked side by side."""

    def __init__(self, *, platform: Platform, nodes: DatabaseAgent, units: UnitAgent) -> None:
        self._clusters = [s for s in platform.services.values() if is_led(s)]
        self._units = [
            (i.host, i.unit) for s in platform.services.values() for i in s.instances if i.host and i.unit
        ]
        self._ask_node, self._ask_unit = nodes.status, units.unit_status

    def names(self) -> tuple[str, ...]:
        """Who is asked: nodes, and ``host/unit``."""
        return tuple(name for _, name, _ in self._questions(AGENT_TIMEOUT_S))

    def seen(self, timeout_s: float = AGENT_TIMEOUT_S) -> Seen:
        """As of now; takes as long as the slowest agent, ``timeout_s`` at most."""
        questions = list(self._questions(timeout_s))
        if not questions:
            return Seen(epochs={}, fence=0, silent=())
        with ThreadPoolExecutor(len(questions), thread_name_prefix=STORE_WATCH) as pool:
            answers = list(pool.map(_answer, (ask for _, _, ask in questions)))
        epochs = {service.name: 0 for service in self._clusters}
        for (cluster, _, _), answer in zip(questions, answers, strict=True):
            if cluster and answer:
                epochs[cluster] = max(epochs[cluster], answer[0])
        return Seen(
            epochs=epochs,
            fence=max((answer[1] for answer in answers if answer), default=0),
            silent=tuple(name for (_, name, _), answer in zip(questions, answers, strict=True) if not answer),
        )

    def _questions(self, timeout_s: float) -> Iterator[tuple[str, str, Callable[[], tuple[int, int]]]]:
        """(cluster or '', who, what it has seen as (epoch, fence))."""
        for service in self._clusters:
            for instance in service.instances:
                yield service.name, instance.name, partial(self._of_node, instance.name, timeout_s)
        for host, unit in self._units:
            yield "", f"{host}/{unit}", partial(self._of_unit, host, unit, timeout_s)

    def _of_node(self, name: str, timeout_s: float) -> tuple[int, int]:
        status = self._ask_node(name, timeout_s=timeout_s)
        return status.epoch, status.fence

    def _of_unit(self, host: str, unit: str, timeout_s: float) -> tuple[int, int]:
        return 0, int(self._ask_unit(host, unit, timeout_s=timeout_s).get("fence", 0))


def is_led(service: Service) -> bool:
    """True for a cluster that has epochs of ours."""
    return service.kind is ServiceKind.POSTGRES and is_ours(service)


def _answer(ask: Callable[[], tuple[int, int]]) -> tuple[int, int] | None:
    """None from an agent that is silent, or that does not know what it is asked for."""
    with suppress(Unreachable, AgentRefused):
        return ask()
    return None


class StoreWatch:
    """One per process; threads share it."""

    def __init__(
        self,
        *,
        memory: AgentMemory,
        identity: StoreIdentity,
        limits: Limits,
        served: ServedStore,
        clock: Clock,
        actor: str,
    ) -> None:
        self._memory = memory
        self._identity = identity
        self._limits = limits
        self._served = served
        self._clock = clock
        self._actor = actor
        self._lock = threading.Lock()
        self._epochs: dict[str, int] = {}
        self._fence = 0
        self._looked = False
        self._reason: str | None = None

    def held(self) -> str | None:
        """None: act. Otherwise why not, as of now: one read. Raises StoreUnreachable."""
        if not self._looked:
            return self.look()
        with self._lock:
            return self._glance()

    def look(self) -> str | None:
        """As ``held``, with the agents' memory of now. Idempotent.

        They are asked before the store: what it says afterwards can only be higher.
        """
        seen = self._memory.seen()
        with self._lock:
            self._keep(seen.epochs, seen.fence)
            reason = self._glance()
            self._looked = True
            return reason

    def _keep(self, epochs: Mapping[str, int], fence: int) -> None:
        """The highest of all that this process has seen, the store's own word included."""
        for cluster, epoch in epochs.items():
            self._epochs[cluster] = max(epoch, self._epochs.get(cluster, 0))
        self._fence = max(fence, self._fence)

    def _glance(self) -> str | None:
        said = self._identity.read()
        facts = self._facts(said)
        reason = may_act(facts)
        if facts.fence < self._fence or any(said.epochs.get(c, 0) < e for c, e in self._epochs.items()):
            self._testify(said)
        self._keep(said.epochs, said.fence)
        if facts.is_stranger and facts.served not in said.strangers:
            self._identity.stranger(str(facts.served), self._actor)
        if reason is None:
            self._remember(said.store_id)
        if said.held or reason or self._reason or not self._looked:
            self._tell(said.held, reason)
        self._reason = reason
        return reason

    def _facts(self, said: Identity) -> StoreFacts:
        both = {*self._epochs, *said.epochs_seen}
        return StoreFacts(
            store_id=said.store_id,
            served=self._served.last(),
            succeeds=said.succeeds,
            moved_to=said.moved_to,
            approving=said.approving,
            fence=said.fence,
            fence_seen=max(self._fence, said.fence_seen),
            epochs=said.epochs,
            epochs_seen={c: max(self._epochs.get(c, 0), said.epochs_seen.get(c, 0)) for c in both},
        )

    def _testify(self, said: Identity) -> None:
        """Others learn of it, and it stands also when the agent that remembers it falls silent."""
        known = all(said.epochs_seen.get(c, 0) >= e for c, e in self._epochs.items() if e)
        if not known or said.fence_seen < self._fence:
            self._identity.witness({c: e for c, e in self._epochs.items() if e}, self._fence)

    def _remember(self, store_id: str) -> None:
        try:
            self._served.remember(store_id)
        except OSError as error:
            log.warning("the home cannot remember which store it serves: %s", error)

    def _tell(self, held: str, reason: str | None) -> None:
        """The word for all views, and the switch: for the guards, the metric and its alert."""
        if held != (reason or ""):
            self._identity.hold(reason or "")
            log.warning("nothing acts: %s", reason) if reason else log.warning("the store is trusted again")
        engaged = self._limits.switch("observe")
        if reason and engaged is None:
            self._limits.set_switch("observe", True, STORE_WATCH, reason, self._clock.now())
        if not reason and engaged == STORE_WATCH:
            self._limits.set_switch("observe", False, STORE_WATCH, "the store is trusted", self._clock.now())
