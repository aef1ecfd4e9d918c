"""The three gates after a recovery, each timed: health, data, performance."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ha_tasks.errors import DeadlineExceeded, ServiceUnreachable, VerificationFailed
from ha_tasks.model.action import Takes
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Service, ServiceKind
from ha_tasks.ports.action import StepContext
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.postgres import PostgresControl
from ha_tasks.ports.repositories import Clusters
from ha_tasks.workflows.actions.base import PlainAction
from ha_tasks.workflows.waiting import wait_until

LATENCY_FLOOR_S = 0.05
"""A latency below this never fails the performance gate, whatever the baseline was."""


class Path(Protocol):
    """The path that users take to a service: through the balancer's port."""

    def try_once(self, service: Service, token: str) -> None:
        """One real request; ServiceUnreachable when it fails."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyTools:
    """What the gates look through."""

    paths: Mapping[ServiceKind, Path]
    control: PostgresControl
    clusters: Clusters
    ledger: Ledger
    baseline_s: Callable[[Service], float | None]
    clock: Clock


class VerifyService(PlainAction):
    """Verifies the service through the balancer's port; reads only, but for canary rows."""

    takes = Takes()

    def __init__(self, tools: VerifyTools) -> None:
        self._tools = tools

    def plan(self, ctx: StepContext) -> str:
        """The gates, and through what."""
        gates = ["health", *(["data"] if ctx.verify.data else []), "performance"]
        door = ctx.service.routing.entry if ctx.service.routing else "no balancer"
        return f"{', '.join(gates)} through {door}, {ctx.verify.good_probes} good requests in a row"

    def do(self, ctx: StepContext) -> Json:
        """VerificationFailed names the gate; the output has each gate's time and finding."""
        latencies: list[float] = []
        gates = [self._timed("health", lambda: self._health(ctx, latencies))]
        if ctx.verify.data:
            gates.append(self._timed("data", lambda: self._data(ctx)))
        gates.append(self._timed("performance", lambda: self._performance(ctx, latencies)))
        latency = statistics.median(latencies)
        baseline = self._tools.baseline_s(ctx.service)
        return {
            "gates": gates,
            "data_integrity": True if ctx.verify.data else None,
            "performance": None if baseline is None else min(1.0, baseline / max(latency, 1e-6)),
        }

    def _timed(self, gate: str, check: Callable[[], str]) -> Json:
        begun = self._tools.clock.monotonic()
        found = check()
        return {"gate": gate, "seconds": self._tools.clock.monotonic() - begun, "found": found}

    def _health(self, ctx: StepContext, latencies: list[float]) -> str:
        path = self._tools.paths[ctx.service.kind]
        need, last_error = ctx.verify.good_probes, ["no probe was sent"]

        def good_in_a_row() -> bool:
            begun = self._tools.clock.monotonic()
            try:
                path.try_once(ctx.service, f"{ctx.key}-{len(latencies)}")
            except ServiceUnreachable as error:
                latencies.clear()
                last_error[0] = str(error)
                return False
            latencies.append(self._tools.clock.monotonic() - begun)
            return len(latencies) >= need

        try:
            wait_until(
                good_in_a_row,
                clock=self._tools.clock,
                within_s=min(ctx.verify.within_s, ctx.remaining_s()),
                what=f"{need} good requests in a row to {ctx.service.name}",
                every_s=0.02,
            )
        except DeadlineExceeded as error:
            raise VerificationFailed(f"health gate: {error}; last: {last_error[0]}") from error
        return f"{need} good requests in a row through the balancer"

    def _data(self, ctx: StepContext) -> str:
        """The canaries of the health gate were read back; and enough standbys confirm the rest."""
        cluster = self._tools.clusters.get(ctx.service.name)
        primary = ctx.service.instance(cluster.primary)
        lsn = self._tools.control.flush_lsn(ctx.service, primary)
        current = cluster.sets[-1]

        def confirmed() -> bool:
            flushed = self._tools.control.flushed_past(ctx.service, primary, lsn)
            return len(flushed & set(current.members)) >= current.quorum

        ok = True
        try:
            wait_until(confirmed, clock=self._tools.clock, within_s=5.0, what="standbys confirm")
        except DeadlineExceeded as error:
            ok = False
            raise VerificationFailed(f"data gate: {error}") from error
        finally:
            self._tools.ledger.integrity(
                "recovery_data_gate", ctx.service.name, ok, self._tools.clock.now(), ctx.key
            )
        return f"canary read back, {current.setting()} has it"

    def _performance(self, ctx: StepContext, latencies: list[float]) -> str:
        latency, baseline = statistics.median(latencies), self._tools.baseline_s(ctx.service)
        if baseline is None:
            return f"median {latency * 1000:.1f} ms, no baseline yet"
        limit = max(LATENCY_FLOOR_S, baseline * ctx.verify.max_latency_ratio)
        if latency > limit:
            raise VerificationFailed(
                f"performance gate: median {latency * 1000:.1f} ms, limit {limit * 1000:.1f} ms"
            )
        return f"median {latency * 1000:.1f} ms, baseline {baseline * 1000:.1f} ms"
