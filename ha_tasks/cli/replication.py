"""``ha-tasks replication``: who follows whom, how far behind, what would be lost now, what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import click

from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, WARN, Line, Part, amount, columns, span, state
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.cluster import format_lsn
from ha_tasks.model.fault import closest
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform, Service, ServiceKind
from ha_tasks.model.replication import NodeRole
from ha_tasks.model.replication_findings import Severity
from ha_tasks.ports.repositories import ReplicationBook

UNWELL = 1
LATELY = timedelta(seconds=60)
"""What the scheduled check saw longer ago says nothing about now."""
"""Exit status while something critical or a warning stands."""
_STYLES = {"critical": BAD, "warning": WARN, "note": DIM}


@click.command("replication")
@click.argument("service", required=False)
@with_home
@with_json
@pass_session
def command(session: Session, service: str | None) -> int:
    """Ask every server of SERVICE (else of each PostgreSQL and replicated Redis service) now: roles, lag,
    slots, the synchronous set, what would be lost if the primary vanished, and what is wrong.

    Exit status 1 while something is wrong that is more than a note.
    """
    system = session.system()
    chosen = databases(system.platform, service)
    content: Json = {
        "at": system.clock.now().isoformat(),
        "clusters": [
            {
                **system.replication.check(each).to_json(),
                "rpo_s": each.rpo_s,
                "managed_by": str(each.managed_by),
            }
            for each in chosen
        ],
    }
    session.result(content, lines)
    wrong = [f for cluster in content["clusters"] for f in cluster["findings"] if f["severity"] != "note"]
    return UNWELL if wrong else 0


def databases(platform: Platform, name: str | None) -> list[Service]:
    """The service of that name, or all that replicate; UsageError when there is none."""
    known = {s.name: s for s in platform.services.values() if s.replicates}
    if name is None:
        return list(known.values())
    if name not in known:
        raise UsageError(f'no service "{name}" that replicates; {closest(name, known)}')
    return [known[name]]


def lines(content: Json) -> Iterator[Line]:
    """Each cluster: the sum, the tree, the slots, what is wrong."""
    if not content["clusters"]:
        yield ["no service of ha-tasks.toml replicates (kind postgres, or redis with replicated = true)"]
    for number, cluster in enumerate(content["clusters"]):
        if number:
            yield []
        yield from _cluster(cluster)


def _cluster(cluster: Json) -> Iterator[Line]:
    if cluster["kind"] == ServiceKind.REDIS:
        yield from redis_lines(cluster)
        return
    epoch = "" if cluster["epoch"] is None else f", epoch {cluster['epoch']}"
    yield [(cluster["service"], HEAD), ": ", state(cluster["state"]), f"{epoch}, {waits(cluster)}"]
    yield [risk_in_words(cluster)]
    yield from _tree(cluster)
    yield from _slots(cluster["nodes"])
    yield from _found(cluster)


def redis_lines(cluster: Json) -> Iterator[Line]:
    """A Redis or Valkey service: offsets for LSNs, and neither timelines, sets nor slots."""
    yield [(cluster["service"], HEAD), ": asynchronous, by the servers themselves"]
    yield [risk_in_words(cluster)]
    heads = ["NODE", "ROLE", "STATE", "OFFSET", "BEHIND", "HEARD"]
    yield from columns(heads, [_redis_row(node) for node in cluster["nodes"]])
    yield from _found(cluster)


def _redis_row(node: Json) -> list[Part]:
    if node["role"] == NodeRole.SILENT:
        return [node["node"], ("silent", BAD), node["trouble"], "", "", ""]
    if node["role"] == NodeRole.PRIMARY:
        return [node["node"], "primary", "", str(node["lsn"]), "", ""]
    follows = node["upstream"] is not None
    return [
        node["node"],
        "replica",
        f"follows {node['upstream']}" if follows else (node["state"], WARN),
        str(node["lsn"]),
        amount(node["behind"]) if follows else "",
        "" if node["silent_s"] is None else f"{span(node['silent_s'])} ago",
    ]


def _found(cluster: Json) -> Iterator[Line]:
    for finding in cluster["findings"]:
        style = _STYLES[finding["severity"]]
        place = finding["node"] or cluster["service"]
        yield [(f"{finding['severity']}: ", style), f"{place}: {finding['problem']}"]
        yield [("     mend it: ", DIM), finding["remedy"]]
    if not cluster["findings"]:
        yield [("nothing is wrong", GOOD)]


def looked_at(book: ReplicationBook, now: datetime) -> list[Json]:
    """What the scheduled check saw of each cluster lately, in short."""
    return [
        {
            "service": service,
            "at": at.isoformat(),
            "risk": picture["risk"],
            "findings": [f for f in picture["findings"] if f["severity"] != Severity.NOTE],
        }
        for service, (at, picture) in book.latest().items()
        if now - at <= LATELY
    ]


def brief_lines(seen: Sequence[Json]) -> Iterator[Line]:
    """A line for each cluster: what a failover would lose now, and the first of what is wrong."""
    for picture in seen:
        line: list[Part] = [f"{picture['service']}: ", risk_in_words(picture)]
        findings = picture["findings"]
        if findings:
            first = f"{findings[0]['node'] or picture['service']} {findings[0]['problem']}"
            more = f" and {len(findings) - 1} more" if findings[1:] else ""
            line += ["; ", (first, _STYLES[findings[0]["severity"]]), more]
            line.append(f"; see: ha-tasks replication {picture['service']}")
        yield line


def waits(cluster: Json) -> str:
    """Whom commits wait for, by the primary and by the record where they differ."""
    recorded, in_force = " and ".join(filter(None, cluster["recorded"])), cluster["in_force"]
    if in_force is None:
        return f"recorded: commits wait for {recorded or 'nobody'}"
    text = f"commits wait for {in_force or 'nobody'}"
    same = in_force in cluster["recorded"] or (not recorded and not in_force)
    return text if same or not cluster["recorded"] else f"{text} (recorded: {recorded or 'nobody'})"


def risk_in_words(cluster: Json) -> Part:
    """What would be lost now, against the objective."""
    risk = cluster["risk"]
    if risk["certainty"] == "proven":
        return (f"RPO at risk: 0 ({risk['why']})", GOOD)
    if risk["certainty"] == "unknown":
        return (f"RPO at risk: not known ({risk['why']})", BAD)
    seconds = risk["seconds"]
    age = "" if seconds is None else f" of {span(seconds)}"
    over = seconds is None or seconds > cluster.get("rpo_s", 0.0)
    return (f"RPO at risk: {amount(risk['bytes'])}{age} ({risk['why']})", BAD if over else WARN)


def _tree(cluster: Json) -> list[Line]:
    nodes = {node["node"]: node for node in cluster["nodes"]}
    rows = [_row(depth, nodes[name]) for depth, name in _in_order(nodes)]
    return columns(["NODE", "ROLE", "STATE", "TIMELINE", "LSN", "NOT FLUSHED", "LAG", "HEARD"], rows)


def _in_order(nodes: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """(indentation, node): whoever is fed stands below who feeds it; each node once."""
    fed: dict[str, list[str]] = {}
    for name, node in nodes.items():
        fed.setdefault(node["upstream"] if node["upstream"] in nodes else "", []).append(name)
    shown: set[str] = set()

    def below(parent: str, indent: str) -> Iterator[tuple[str, str]]:
        children = [name for name in fed.get(parent, ()) if name not in shown]
        for number, name in enumerate(children):
            shown.add(name)
            last = number == len(children) - 1
            yield (indent + ("└─ " if last else "├─ ") if parent else ""), name
            yield from below(name, (indent + ("   " if last else "│  ")) if parent else "")

    yield from below("", "")
    # Two that are said to feed each other hang below nobody.
    yield from (("", name) for name in nodes if name not in shown)


def _row(indent: str, node: Json) -> list[Part]:
    name: Part = f"{indent}{node['node']}"
    if node["role"] == NodeRole.SILENT:
        return [name, ("silent", BAD), node["trouble"], "", "", "", "", ""]
    standby = node["role"] == NodeRole.STANDBY
    how = " ".join(filter(None, (node["state"], node["sync_state"])))
    return [
        name,
        node["role"],
        (how or "follows nobody", WARN if not how else "") if standby else "",
        str(node["timeline"]),
        format_lsn(node["lsn"]),
        amount(node["behind"]) if standby else "",
        "-" if standby and node["lag_s"] is None else span(node["lag_s"]) if standby else "",
        "" if node["silent_s"] is None else f"{span(node['silent_s'])} ago",
    ]


def _slots(nodes: Sequence[Json]) -> list[Line]:
    rows: list[list[Part]] = []
    for node in nodes:
        for slot in node["slots"]:
            if not slot["active"] and slot["wal_status"] is None:
                continue  # made ahead, for a role that this node does not have now
            active: Part = ("read", GOOD) if slot["active"] else ("read by nobody", WARN)
            room = "without limit" if slot["room"] is None else amount(slot["room"])
            status = slot["wal_status"] or "-"
            lost: Part = (status, BAD) if status == "lost" else status
            rows.append([node["node"], slot["name"], active, lost, amount(slot["holds"] or 0), room])
    return columns(["SLOT OF", "NAME", "", "WAL", "HOLDS", "ROOM LEFT"], rows)
