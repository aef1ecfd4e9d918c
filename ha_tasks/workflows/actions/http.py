"""Recovering one dead HTTP instance: out of the balancer, spare in, restart, back in."""

from __future__ import annotations

from dataclasses import dataclass

from ha_tasks.errors import ActionFailed, Refused
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.service_discovery import ServiceRegistry
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, Role
from ha_tasks.ports.action import StepContext
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import UnitAgent
from ha_tasks.ports.probes import Prober
from ha_tasks.workflows.actions.base import PlainAction
from ha_tasks.workflows.waiting import wait_until


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTools:
    """What these actions drive."""

    balancer: LoadBalancer
    registry: ServiceRegistry
    units: UnitAgent
    prober: Prober
    clock: Clock


class _HttpAction(PlainAction):
    def __init__(self, tools: HttpTools) -> None:
        self._tools = tools

    @staticmethod
    def _instance(ctx: StepContext) -> Instance:
        return ctx.service.instance(ctx.args["instance"])

    @staticmethod
    def _backend(ctx: StepContext) -> str | None:
        return ctx.service.routing.backend if ctx.service.routing else None


class TakeOut(_HttpAction):
    """Takes the dead instance out of the balancer. Converges: wanted state is re-applied."""

    def do(self, ctx: StepContext) -> Json:
        """Without effect on a service that has no balancer, and on the last instance that is left.

        A dead last instance costs nothing in the balancer: its own check keeps it out.
        """
        instance = self._instance(ctx)
        if self._backend(ctx) is None:
            return {"server": None}
        try:
            self._tools.balancer.remove_unhealthy_instance(ctx.service, instance)
        except Refused as error:
            return {"server": None, "why": str(error)}
        return {"server": instance.name}


class SpareIn(_HttpAction):
    """Puts a spare into rotation in its place. Converges."""

    def check(self, ctx: StepContext) -> Json | None:
        """A spare that an earlier attempt put in is not put in twice."""
        spare = ctx.captured.get("spare")
        if spare is None or spare not in self._tools.registry.in_rotation(ctx.service.name):
            return None
        return {"spare": spare}

    def capture(self, ctx: StepContext) -> Json:
        """Which spare it will be: one, for every attempt."""
        if self._instance(ctx).role is Role.SPARE:
            return {"spare": None}
        spare = self._tools.registry.get_backup_instance(ctx.service.name)
        return {"spare": None if spare is None else spare.name}

    def do(self, ctx: StepContext) -> Json:
        """Without a spare nothing is changed, and the output says so."""
        name = ctx.captured["spare"]
        if name is not None and self._backend(ctx) is not None:
            self._tools.balancer.add_healthy_instance(ctx.service, ctx.service.instance(name))
        return {"spare": name}


class RestartInstance(_HttpAction):
    """Restarts the instance's unit on its host. Fenced; once per run: the agent knows the key."""

    def do(self, ctx: StepContext) -> Json:
        """ActionFailed when nothing on the host can restart it."""
        instance = self._instance(ctx)
        if instance.unit is None:
            raise ActionFailed(f"{instance.name} has no unit; restart it by hand, then: ha-tasks ack")
        answer = self._tools.units.restart_unit(instance.host, instance.unit, ctx.key, fence=ctx.fence)
        return {"unit": instance.unit, "pid": answer.get("pid")}

    def verify(self, ctx: StepContext) -> None:
        """It answers its own check."""
        instance = self._instance(ctx)

        def answers() -> bool:
            return all(o.ok for o in self._tools.prober.probe(ctx.service, [instance]))

        wait_until(
            answers,
            clock=self._tools.clock,
            within_s=min(10.0, ctx.remaining_s()),
            what=f"{instance.name} answers after its restart",
        )


class PutBack(_HttpAction):
    """Puts the restarted instance back into rotation. Converges. A spare stays a spare."""

    def do(self, ctx: StepContext) -> Json:
        """Idempotent."""
        instance = self._instance(ctx)
        if instance.role is Role.ACTIVE and self._backend(ctx) is not None:
            self._tools.balancer.add_healthy_instance(ctx.service, instance)
        return {"server": instance.name}

    def verify(self, ctx: StepContext) -> None:
        """The balancer itself finds it up."""
        instance, backend = self._instance(ctx), self._backend(ctx)
        if instance.role is not Role.ACTIVE or backend is None:
            return
        wait_until(
            lambda: self._tools.balancer.is_up(backend, instance.name),
            clock=self._tools.clock,
            within_s=min(10.0, ctx.remaining_s()),
            what=f"the balancer finds {instance.name} up",
        )


class SpareOut(_HttpAction):
    """Takes the spare out of rotation again, drained. Converges."""

    def do(self, ctx: StepContext) -> Json:
        """Only the spare that this run put in."""
        spare = ctx.outputs.get("spare_in", {}).get("spare")
        backend = self._backend(ctx)
        if spare is not None and backend is not None:
            self._tools.balancer.drain(backend, spare, deadline_s=min(5.0, ctx.remaining_s()))
        return {"spare": spare}
