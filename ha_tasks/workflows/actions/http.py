"""Recovering one dead HTTP instance: out of the balancer, spare in, restart, back in."""

from __future__ import annotations

from dataclasses import dataclass

from ha_tasks.errors import ActionFailed, HaTasksError, Refused, StaleFence
from ha_tasks.failover.load_balancer import LoadBalancer
from ha_tasks.failover.service_discovery import ServiceRegistry
from ha_tasks.model.action import Takes
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Instance, Role
from ha_tasks.ports.action import Change, Difference, StepContext
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


class HttpAction(PlainAction):
    """Knows the instance and its place in the balancer."""

    takes = Takes(needed=("instance",))

    def __init__(self, tools: HttpTools) -> None:
        self._tools = tools

    @staticmethod
    def _instance(ctx: StepContext) -> Instance:
        return ctx.service.instance(ctx.args["instance"])

    def _server(self, ctx: StepContext, server: str, after: str) -> tuple[Change, ...]:
        """How a server of the service's backend would change; empty when it would not."""
        backend = self._backend(ctx)
        before = "ready" if server in self._tools.registry.in_rotation(ctx.service.name) else "maint"
        if backend is None or before == after:
            return ()
        return (Change(what=f"{backend}/{server}", before=before, after=after),)

    @staticmethod
    def _backend(ctx: StepContext) -> str | None:
        return ctx.service.routing.backend if ctx.service.routing else None


class TakeOut(HttpAction):
    """Takes the dead instance out of the balancer. Fenced in SQL; converges: wanted state is re-applied."""

    def plan(self, ctx: StepContext) -> Difference:
        """Its server in the balancer."""
        name, service = ctx.args["instance"], ctx.service
        if self._backend(ctx) is None:
            return Difference(text=f"no balancer serves {service.name}: nothing to do")
        serving = {*self._tools.registry.in_rotation(service.name)} - {name}
        if not serving and not any(i.role is Role.SPARE and i.name != name for i in service.instances):
            return Difference(text=f"{name} is the last one: the balancer's own check keeps it out")
        return Difference(text=f"takes {name} out of the balancer", changes=self._server(ctx, name, "maint"))

    def do(self, ctx: StepContext) -> Json:
        """Without effect on a service that has no balancer, and on the last instance that is left.

        A dead last instance costs nothing in the balancer: its own check keeps it out.
        """
        instance = self._instance(ctx)
        if self._backend(ctx) is None:
            return {"server": None}
        try:
            self._tools.balancer.remove_unhealthy_instance(ctx.service, instance, under=ctx.warrant)
        except StaleFence:
            raise
        except Refused as error:
            return {"server": None, "why": str(error)}
        return {"server": instance.name}


class SpareIn(HttpAction):
    """Puts a spare into rotation in its place. Converges."""

    def plan(self, ctx: StepContext) -> Difference:
        """The spare's server in the balancer."""
        spare = ctx.captured.get("spare")
        if spare is None:
            return Difference(text="no spare is free: nothing to do", output={"spare": None})
        return Difference(
            text=f"puts {spare} in its place",
            changes=self._server(ctx, spare, "ready"),
            output={"spare": spare},
        )

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
            spare = ctx.service.instance(name)
            self._tools.balancer.add_healthy_instance(ctx.service, spare, under=ctx.warrant)
        return {"spare": name}


class RestartInstance(HttpAction):
    """Restarts the instance's unit on its host. Fenced; once per run: the agent knows the key."""

    def plan(self, ctx: StepContext) -> Difference:
        """The unit on its host; a silent agent is asked for half a second only."""
        instance = self._instance(ctx)
        if instance.unit is None:
            return Difference(text="", doubt=f"it would fail: {instance.name} has no unit")
        try:
            status = self._tools.units.unit_status(instance.host, instance.unit, timeout_s=0.5)
        except HaTasksError:  # a silent agent is an answer here
            before = "its agent is silent"
        else:
            before = f"running, pid {status['pid']}" if status["running"] else "not running"
        change = Change(what=f"unit {instance.unit} on {instance.host}", before=before, after="restarted")
        return Difference(text=f"restarts {instance.name}, once", changes=(change,))

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


class PutBack(HttpAction):
    """Puts the restarted instance back into rotation. Converges. A spare stays a spare."""

    def plan(self, ctx: StepContext) -> Difference:
        """Its server in the balancer again."""
        instance, backend = self._instance(ctx), self._backend(ctx)
        if instance.role is not Role.ACTIVE or backend is None:
            return Difference(text=f"{instance.name} is no active server of a balancer: nothing to do")
        change = Change(what=f"{backend}/{instance.name}", before="maint", after="ready")
        return Difference(text=f"puts {instance.name} back, once its check is good", changes=(change,))

    def do(self, ctx: StepContext) -> Json:
        """Idempotent."""
        instance = self._instance(ctx)
        if instance.role is Role.ACTIVE and self._backend(ctx) is not None:
            self._tools.balancer.add_healthy_instance(ctx.service, instance, under=ctx.warrant)
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


class SpareOut(HttpAction):
    """Takes the spare out of rotation again, drained. Converges."""

    takes = Takes(may=("instance",))

    def plan(self, ctx: StepContext) -> Difference:
        """The spare's server in the balancer."""
        spare, backend = ctx.outputs.get("spare_in", {}).get("spare"), self._backend(ctx)
        if spare is None or backend is None:
            return Difference(text="no spare was put in: nothing to do")
        change = Change(what=f"{backend}/{spare}", before="ready", after="drain, then maint")
        return Difference(text=f"{spare} is a spare again", changes=(change,))

    def do(self, ctx: StepContext) -> Json:
        """Only the spare that this run put in."""
        spare = ctx.outputs.get("spare_in", {}).get("spare")
        backend = self._backend(ctx)
        if spare is not None and backend is not None:
            deadline_s = min(5.0, ctx.remaining_s())
            self._tools.balancer.drain(backend, spare, deadline_s, under=ctx.warrant)
        return {"spare": spare}
