"""How a cluster that others lead is shown, and a switchover that their manager does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import BAD, GOOD, WARN, Line, show, span
from ha_tasks.cli.recover import on_terminal
from ha_tasks.cli.session import Session, person
from ha_tasks.errors import Refused, UsageError
from ha_tasks.model.led_by_others import is_ours, latest_word, observed_primary
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ManagedBy, Service
from ha_tasks.model.probe import ProbeOutcome

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System

LEADERS = {ManagedBy.PATRONI: "Patroni", ManagedBy.SENTINEL: "Sentinel", ManagedBy.EXTERNAL: "others"}


def advice(service: Service | None) -> str:
    """What a person can do about an incident of it; '' for one that is ours, or is not there any more."""
    if service is None or is_ours(service):
        return ""
    if service.managed_by is ManagedBy.PATRONI:
        return "see what Patroni does about it: patronictl list; it is only watched here"
    if service.sentinel is not None:
        name = service.sentinel.name
        return f"see what Sentinel does about it: SENTINEL MASTER {name}; it is only watched here"
    return "mend it where it is run; it is only watched here"


def described(service: Service, outcomes: Sequence[ProbeOutcome], now: datetime) -> Json:
    """Who takes writes by the servers themselves, and what their manager says (None: nothing)."""
    word = latest_word(outcomes, now)
    return {
        "by": str(service.managed_by),
        "writable": word.leader if service.sentinel and word else observed_primary(outcomes),
        "manager": None if word is None else word.to_json(),
    }


def role_of(name: str, led: Json) -> str:
    """``primary`` or ``standby`` by the servers; a manager's word about a synchronous standby is added."""
    members = (led["manager"] or {}).get("members", ())
    synchronous = any(m["name"] == name and m["role"] == "sync_standby" for m in members)
    if name == led["writable"]:
        return "primary"
    return "sync standby" if synchronous else "standby"


def lines(name: str, led: Json) -> Iterator[Line]:
    """Who leads; by the manager's word what is unusual."""
    manager = led["manager"]
    done = "the balancer follows it" if led["by"] == ManagedBy.SENTINEL else "only watched here"
    head = f"{name}: led by {LEADERS[ManagedBy(led['by'])]}, {done}"
    if manager is None:
        writable = f"{led['writable']} takes writes" if led["writable"] else "nobody is seen to take writes"
        yield [f"{head}; {writable}"]
        if led["by"] != ManagedBy.EXTERNAL:
            yield [f"{name}: ", (f"{LEADERS[ManagedBy(led['by'])]} does not answer", BAD)]
        return
    leading = next((m for m in manager["members"] if m["name"] == manager["leader"]), None)
    if leading is None:
        yield [f"{head}; ", ("it has no leader", BAD)]
    else:
        timeline = "" if leading["timeline"] is None else f", timeline {leading['timeline']}"
        yield [f"{head}; leader {leading['name']} {leading['state']}{timeline}"]
    if manager["paused"]:
        yield [f"{name}: ", ("paused", WARN), ": nobody fails it over; end that with: patronictl resume"]
    for member in manager["members"]:
        if member["role"] != "leader" and member["state"] != "streaming":
            yield [f"{name}: {member['name']} is ", (member["state"], WARN)]
        if member["pending_restart"]:
            yield [f"{name}: {member['name']} ", ("waits for a restart", WARN), ": settings were changed"]


def switched_over(
    session: Session,
    system: System,
    service: Service,
    to: str | None,
    *,
    dry_run: bool,
    yes: bool,
    reason: str,
) -> int:
    """Shows what would be asked of the manager, asks the person, then the manager. The exit status."""
    plan = system.led.switchover.plan(service, to)
    if dry_run:
        session.result(plan, plan_lines)
        return 0
    if on_terminal(session):
        show(plan_lines(plan))
    if not yes:
        if not on_terminal(session):
            raise UsageError("nobody can be asked here; say --yes to begin, or --dry-run to see the plan")
        if not click.confirm(f"have Patroni make {plan['candidate']} the leader?"):
            raise Refused("it was not agreed to; nothing was changed")
    done = system.led.switchover.switch(service, plan, actor=person(), reason=reason)
    session.result(done, done_lines)
    return 0


def plan_lines(plan: Json) -> Iterator[Line]:
    """What would be asked."""
    lag = "" if plan["lag_bytes"] is None else f", {plan['lag_bytes']} B behind"
    yield [f"{plan['service']} is led by Patroni: it would be asked to switch over"]
    yield [f"  from {plan['leader']} to {plan['candidate']} (timeline {plan['timeline']}{lag})"]


def done_lines(done: Json) -> Iterator[Line]:
    """What came of it."""
    took = f"{span(done['took_s'])} from the order to the new leader"
    yield [("done", GOOD), f": {done['leader']} leads {done['service']}, timeline {done['timeline']}; {took}"]
    yield [f"the way back: ha-tasks switchover {done['service']} --to {done['was']}"]
