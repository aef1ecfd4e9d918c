"""``ha-tasks status``: what is broken, since when, what is being done, what you can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from ha_tasks.cli import health, led_by_others
from ha_tasks.cli.advice import advice
from ha_tasks.cli.apply import standing_lines
from ha_tasks.cli.incidents import described as incident_described
from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, WARN, Line, Part, columns, moment, since, span, state
from ha_tasks.cli.maintenance import described as maintenance_described
from ha_tasks.cli.maintenance import open_lines
from ha_tasks.cli.replication import brief_lines, looked_at
from ha_tasks.cli.runs import brief as run_brief
from ha_tasks.cli.session import Records, Session, pass_session, with_home, with_json
from ha_tasks.cli.switch import engaged, switch_line
from ha_tasks.errors import BrokerUnreachable, UsageError
from ha_tasks.failover.checkup import standing
from ha_tasks.model.cluster import Cluster
from ha_tasks.model.incident import TOLD, IncidentState
from ha_tasks.model.leadership import BEAT
from ha_tasks.model.led_by_others import is_ours
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ManagedBy, Platform, Service, ServiceKind
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from ha_tasks.model.run import RunState
from ha_tasks.names import STORE_WATCH, Queue
from ha_tasks.ports.queues import Queues

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System

SEEN_WITHIN = timedelta(seconds=5)
"""Outcomes of probes older than this say nothing about now."""
WORKERS_SINCE = timedelta(hours=1)
SILENT_AFTER_S = 10.0
STORIES, EVENTS = 3, 8
NOT_WELL = ("unavailable", "degraded", "unknown")


@click.command("status")
@click.option("--watch", is_flag=True, help="Show it anew twice a second, until Ctrl-C.")
@click.option("--health", "checkup", is_flag=True, help="Check services, machines, databases, externals now.")
@with_home
@with_json
@pass_session
def command(session: Session, watch: bool, checkup: bool) -> int:
    """What is broken, since when, what is being done, what you can do.

    With --health every check is made now, and the exit status is 1 while the system is not healthy.
    """
    if watch and checkup:
        raise UsageError("--watch shows what is stored, --health asks everything anew: choose one")
    # Imports every driver, which only this call needs.
    from ha_tasks.bootstrap import queues_of

    system = session.system()
    if checkup:
        found = health.asked_now(system)
        session.result(found, health.lines)
        return health.status_of(found)
    queues = queues_of(system.inventory)
    if watch:
        from ha_tasks.cli.live import show_live

        show_live(lambda: everything(system, queues))
    else:
        session.result(everything(system, queues), lines)
    return 0


def everything(system: System, queues: Queues | None) -> Json:
    """The store and the queues, as they are now."""
    now = system.clock.now()
    content = gathered(system.platform, system.store, now)
    content["queues"], content["broker_trouble"] = backlogs(queues, now)
    return content


def gathered(platform: Platform, store: Records, now: datetime) -> Json:
    """Everything but the queues, out of the store. Reads only."""
    current = sorted(store.incidents.current(), key=lambda incident: incident.detected_at)
    runs = {run.id: run for run in store.journal.active()}
    outcomes = store.observations.since(now - SEEN_WITHIN)
    workers = store.ledger.workers(now - WORKERS_SINCE)
    incidents = [incident_described(incident) for incident in current]
    for content, incident in zip(incidents, current, strict=True):
        story = store.incidents.timeline(incident.id)
        run = runs.get(incident.run or 0)
        content["last_event"] = story[-1].text if story else ""
        theirs = led_by_others.advice(platform.services.get(incident.service))
        content["advice"] = theirs or advice(incident, run, content["last_event"])
    return {
        "platform": platform.name,
        "at": now.isoformat(),
        "store_held": store.identity.read().held,
        "revision": store.revisions.place("")[1],
        "switches": {name: store.limits.switch(name) for name in ("stop", "observe")},
        "engaged": engaged(store),
        "maintenance": [maintenance_described(w, now) for w in store.maintenance.standing(now)],
        "services": [_service(service, store, outcomes, now) for service in platform.services.values()],
        "replication": looked_at(store.replication, now),
        "health": health.looked_at(store.health, now),
        "incidents": incidents,
        "runs": [run_brief(run) for run in runs.values()],
        "events": _events(store),
        "beat": _beat(store, now),
        "workers": [
            {
                "name": worker.name,
                "kind": worker.kind,
                "queues": list(worker.queues),
                "pid": worker.pid,
                "seen_s": (now - worker.heartbeat_at).total_seconds(),
                "revision": worker.revision,
            }
            for worker in workers
        ],
    }


def _beat(store: Records, now: datetime) -> Json:
    """Which of those that beat acts; None: nobody, or one that has not renewed its lease for long."""
    lease = store.leadership.look(BEAT)
    if lease is None or now - lease.lease_until > SEEN_WITHIN:
        return {"acting": None, "fence": None if lease is None else lease.fence}
    return {"acting": lease.holder or None, "fence": lease.fence}


def _events(store: Records) -> list[Json]:
    """The latest lines of the latest incidents' stories, oldest first."""
    told = [
        {"at": e.at.isoformat(), "incident": incident.id, "actor": e.actor, "text": e.text}
        for incident in store.incidents.recent(STORIES)
        for e in store.incidents.timeline(incident.id)
    ]
    return sorted(told, key=lambda event: str(event["at"]))[-EVENTS:]


def backlogs(queues: Queues | None, now: datetime) -> tuple[list[Json], str]:
    """What stands in each queue, and why that cannot be told ('' when it can)."""
    if queues is None:
        return [], "the lengths of its queues are not read from this kind of broker"
    try:
        found = queues.backlogs([str(queue) for queue in Queue])
    except BrokerUnreachable as error:
        return [], str(error)
    return [
        {
            "queue": name,
            "waiting": backlog.waiting,
            "unacked": backlog.unacked,
            "oldest_s": (now - backlog.oldest_sent_at).total_seconds() if backlog.oldest_sent_at else None,
        }
        for name, backlog in found.items()
    ], ""


def _service(service: Service, store: Records, outcomes: Sequence[ProbeOutcome], now: datetime) -> Json:
    state_now, at = standing(service.name, store.ledger, now)
    score = store.ledger.scores().get(service.name)
    cluster = _cluster(service, store)
    led = led_by_others.described(service, outcomes, now) if _is_led_by_others(service) else None
    primary = led["writable"] if led else cluster.primary if cluster else None
    return {
        "name": service.name,
        "kind": str(service.kind),
        "managed_by": str(service.managed_by),
        "state": state_now,
        "since": None if at is None else at.isoformat(),
        "score": score[0] if score else None,
        "rto_s": service.rto_s,
        "cluster": None if cluster is None else _cluster_described(cluster),
        "led_by_others": led,
        "instances": [
            {
                "name": instance.name,
                "address": instance.address,
                "role": led_by_others.role_of(instance.name, led)
                if led
                else _role(instance.name, str(instance.role), cluster),
                **_seen([o for o in outcomes if o.target.instance == instance.name]),
                "lag_bytes": _lag(instance.name, primary, outcomes),
            }
            for instance in service.instances
        ],
    }


def _is_led_by_others(service: Service) -> bool:
    led = service.kind is ServiceKind.POSTGRES or service.sentinel is not None
    return led and not is_ours(service)


def _cluster(service: Service, store: Records) -> Cluster | None:
    """The record of one that is ours; what was recorded of it before others led it is past."""
    if service.kind is not ServiceKind.POSTGRES or not is_ours(service):
        return None
    try:
        return store.clusters.get(service.name)
    except KeyError:
        return None


def _cluster_described(cluster: Cluster) -> Json:
    return {
        "primary": cluster.primary,
        "epoch": cluster.epoch,
        "state": str(cluster.state),
        "sync": [each.setting() for each in cluster.sets],
    }


def _role(name: str, configured: str, cluster: Cluster | None) -> str:
    """What it is recorded to be; a PostgreSQL node's role is not configured."""
    if cluster is None:
        return configured
    return "primary" if name == cluster.primary else "standby"


def _lag(name: str, primary: str | None, outcomes: Sequence[ProbeOutcome]) -> int | None:
    """How far a standby's WAL is behind the primary's, by the latest probes; None when it is not known."""
    if primary is None or name == primary:
        return None
    lsns = {o.target.instance: o.facts.get("lsn") for o in outcomes if o.ok}
    end, own = lsns.get(primary), lsns.get(name)
    return None if end is None or own is None else max(0, int(end) - int(own))


def _seen(outcomes: Sequence[ProbeOutcome]) -> Json:
    """How the latest probe of each vantage ended: one that fails is told, whoever else is content."""
    latest: dict[str, ProbeOutcome] = {outcome.vantage: outcome for outcome in outcomes}
    failing = [outcome for outcome in latest.values() if not outcome.ok]
    if not latest:
        return {"seen": None, "detail": "", "vantages": 0}
    worst = failing[-1] if failing else next(iter(latest.values()))
    return {"seen": str(worst.kind), "detail": worst.detail, "vantages": len(latest)}


def lines(content: Json) -> Iterator[Line]:
    """The worst first; a person at three in the morning reads the top."""
    now = content["at"]
    yield from _headline(content)
    for incident in content["incidents"]:
        yield from _incident_lines(incident, content["runs"], now)
    yield []
    yield from _service_lines(content["services"], now)
    yield from brief_lines(content["replication"])
    yield from health.brief_lines(content["health"])
    yield []
    yield from _worker_lines(content["workers"])
    yield _beat_line(content["beat"])
    yield from queue_lines(content)


def _held_lines(content: Json) -> Iterator[Line]:
    """Whatever keeps recoveries back: the store, a switch, a window, a person who has not said yes."""
    if content["store_held"]:
        yield [("nothing acts: ", BAD), content["store_held"]]
    for switch in content["engaged"]:
        if not (switch["by"] == STORE_WATCH and content["store_held"]):
            yield switch_line(switch, content["at"])
    yield from open_lines(content["maintenance"], content["at"])
    for run in content["runs"]:
        if run["state"] == RunState.AWAITING_APPROVAL:
            yield [(f"run {run['id']} ({run['playbook']} of {run['service']}) {run['where']}", BAD)]


def _headline(content: Json) -> Iterator[Line]:
    ill = [f"{s['name']} {how}" for s in content["services"] if (how := _ill(s))]
    urgent = [i["id"] for i in content["incidents"] if i["state"] == IncidentState.ESCALATED]
    verdict: Part = ("all services are available", GOOD)
    if ill:
        verdict = (", ".join(ill), BAD)
    yield [(content["platform"], HEAD), f"  {moment(content['at'])} UTC  ", verdict]
    if urgent:
        yield [(f"a person is needed for {', '.join(f'I-{each}' for each in urgent)}", BAD)]
    yield from _held_lines(content)
    seen = [w for w in content["workers"] if w["seen_s"] <= SILENT_AFTER_S]
    yield from standing_lines(content["revision"], seen)
    if not seen:
        yield [("no worker has reported lately", BAD), ": nothing is watched or recovered; start the workers"]


def _ill(service: Json) -> str:
    """What is wrong with it, '' when nothing is. What nobody has seen well lately is not called available."""
    seen = {instance["seen"] for instance in service["instances"]}
    if seen == {None}:
        return "is not watched"
    if service["state"] in NOT_WELL:
        return f"is {service['state']}"
    if seen == {str(OutcomeKind.ERROR)}:
        return f"answers us with an error only: {service['instances'][0]['detail']}"
    return ""


def _incident_lines(incident: Json, runs: Sequence[Json], now: str) -> Iterator[Line]:
    ended = incident["state"] in ("mitigated", "escalated")
    yield []
    yield [(f"I-{incident['id']}", HEAD), " ", state(incident["state"]), f"  {incident['summary']}"]
    began = f"since {moment(incident['fault_at'], now)} ({since(incident['fault_at'], now)})"
    told = "" if incident["kind"] in TOLD else "down "
    yield [f"     {told}{began}" if incident["lasts"] else f"     {began}, healthy again meanwhile"]
    for run in runs:
        if run["id"] == incident["run"]:
            yield [f"     run {run['id']} {run['playbook']}: ", state(run["state"]), f", {run['where']}"]
    if ended or not any(run["id"] == incident["run"] for run in runs):
        yield [f"     last: {incident['last_event']}"]
    yield [("     you can: ", DIM), incident["advice"]]


def _service_lines(services: Sequence[Json], now: str) -> Iterator[Line]:
    yield from columns(
        ["SERVICE", "KIND", "STATE", "SINCE", "SCORE", "INSTANCES"],
        [
            [
                (s["name"], HEAD),
                s["kind"],
                state(s["state"]),
                moment(s["since"], now),
                "-" if s["score"] is None else f"{s['score']:.2f}",
                "  ".join(_instance(i) for i in s["instances"]),
            ]
            for s in services
        ],
    )
    for service in services:
        cluster = service["cluster"]
        if cluster is not None:
            synchronous = " and ".join(cluster["sync"]) or "nobody"
            text = f", epoch {cluster['epoch']}, commits wait for {synchronous}"
            yield [f"{service['name']}: primary {cluster['primary']}, ", state(cluster["state"]), text]
        elif service["led_by_others"] is not None:
            yield from led_by_others.lines(service["name"], service["led_by_others"])
        elif service["managed_by"] == ManagedBy.HA_TASKS and service["kind"] == ServiceKind.POSTGRES:
            yield [f"{service['name']}: ", ("no primary is recorded yet", WARN)]
        elif service["managed_by"] != ManagedBy.HA_TASKS:
            yield [f"{service['name']}: managed by {service['managed_by']}, only watched here"]


def _instance(instance: Json) -> str:
    """``pg1 primary ok``, ``web1 active refused``, ``web3 spare ?`` (nobody has looked).

    A standby that is behind says by how much.
    """
    lag = f" lag {instance['lag_bytes']} B" if instance["lag_bytes"] and instance["seen"] == "ok" else ""
    return f"{instance['name']} {instance['role']} {instance['seen'] or '?'}{lag}"


def _worker_lines(workers: Sequence[Json]) -> Iterator[Line]:
    yield from columns(
        ["PROCESS", "KIND", "PID", "SEEN", "QUEUES"],
        [
            [
                w["name"],
                w["kind"],
                str(w["pid"]),
                (f"{span(w['seen_s'])} ago", BAD if w["seen_s"] > SILENT_AFTER_S else GOOD),
                " ".join(w["queues"]),
            ]
            for w in workers
        ],
    )


def _beat_line(beat: Json) -> Line:
    if beat["acting"] is None:
        return ["beat: ", ("nobody acts", BAD), ", so nothing is sent on schedule; start two"]
    return [f"beat: {beat['acting']} acts, fence {beat['fence']}"]


def queue_lines(content: Json) -> Iterator[Line]:
    """A line for each queue in which something stands."""
    if content.get("broker_trouble"):
        yield [("queues: ", WARN), str(content["broker_trouble"])]
        return
    waiting = [q for q in content.get("queues", ()) if q["waiting"] or q["unacked"]]
    if not waiting and content.get("queues"):
        yield ["queues: empty"]
    for queue in waiting:
        oldest = "" if queue["oldest_s"] is None else f", the oldest for {span(queue['oldest_s'])}"
        taken = "" if queue["unacked"] is None else f", {queue['unacked']} being worked on"
        yield [f"queue {queue['queue']}: {queue['waiting']} waiting{oldest}{taken}"]
