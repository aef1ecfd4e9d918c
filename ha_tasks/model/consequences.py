"""What a change of the inventory touches: what goes on, what follows, what must not be. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ha_tasks.model.cluster import Cluster
from ha_tasks.model.incident import Incident
from ha_tasks.model.plain import Json
from ha_tasks.model.revision import Change
from ha_tasks.model.run import Run

RESTART = ("store", "broker")
"""Tables that a process reads when it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """``refused``: it must not be applied so, unless somebody insists."""

    about: str
    text: str
    refused: bool = False

    def to_json(self) -> Json:
        """For the printed result."""
        return {"about": self.about, "text": self.text, "refused": self.refused}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store knows while somebody wants to change the inventory."""

    active: Sequence[Run] = ()
    incidents: Sequence[Incident] = ()
    clusters: Mapping[str, Cluster] | None = None


def consequences(changes: Sequence[Change], known: Known) -> tuple[Consequence, ...]:
    """Everything that the changes touch, what is refused first."""
    found = [each for change in changes for each in _of(change, known)]
    if changes:
        found += _runs(known.active)
    return tuple(sorted(found, key=lambda each: not each.refused))


def _of(change: Change, known: Known) -> Iterator[Consequence]:
    match change.key.split("."):
        case ["services", service]:
            yield from _service(change, service, known)
        case ["services", service, "instances", instance]:
            yield from _instance(change, instance, (known.clusters or {}).get(service))
        case ["services", service, "instances", instance, key]:
            yield from _node(change, instance, key, (known.clusters or {}).get(service))
        case ["services", service, key, *_]:
            yield from _setting(change, service, key)
        case ["hosts" | "external" as table, name, *rest]:
            yield Consequence(about=name, text=_asked(table, rest))
        case [table, *_] if table in RESTART:
            yield Consequence(about=table, text=f"[{table}] changes: every process must be restarted")
        case ["playbooks", *_]:
            yield Consequence(about="playbooks", text="plans are made by other playbooks from now on")


def _asked(table: str, rest: Sequence[str]) -> str:
    """What follows from a change of a machine, or of what lies outside."""
    if table == "external":
        return "it is looked at as the file now says"
    if rest[:1] == ["limits"]:
        return "the health of its machine is judged by other limits"
    return "its agent is asked where the file now says, with the same key"


def _setting(change: Change, service: str, key: str) -> Iterator[Consequence]:
    if key == "check":
        yield Consequence(about=service, text="observers probe it differently")
    if key == "managed_by":
        acts = change.after == "ha_tasks"
        text = "it is acted on from now on" if acts else "it is only watched from now on"
        yield Consequence(about=service, text=text)
    if key == "kind":
        text = "it is another kind of service: take it out under this name, add it under another"
        yield Consequence(about=service, text=text, refused=True)


def _service(change: Change, service: str, known: Known) -> Iterator[Consequence]:
    if change.added:
        yield Consequence(about=service, text="it is watched, and recovered, from now on")
        if isinstance(change.after, Mapping) and change.after.get("kind") == "postgres":
            yield Consequence(about=service, text=f"take its cluster into care: ha-tasks adopt {service}")
        return
    yield Consequence(about=service, text="it is neither watched nor recovered any more")
    standing = [f"I-{i.id}" for i in known.incidents if i.service == service and i.holds_key]
    if standing:
        text = f"{', '.join(standing)} stands open about it: nobody will resolve it; see ha-tasks incidents"
        yield Consequence(about=service, text=text)


def _instance(change: Change, instance: str, cluster: Cluster | None) -> Iterator[Consequence]:
    if change.added:
        yield Consequence(about=instance, text="it is watched from now on" + _joins(cluster))
        return
    yield Consequence(about=instance, text="it is neither watched nor used any more")
    yield from _member(instance, cluster)


def _node(change: Change, instance: str, key: str, cluster: Cluster | None) -> Iterator[Consequence]:
    """Another agent knows nothing of what the one that had the node has promised."""
    if key in ("priority", "site", "sync"):
        yield Consequence(about=instance, text=_preferred(key, change))
        return
    yield Consequence(about=instance, text="it is looked for where the file now says")
    if key == "host":
        yield from _member(instance, cluster)


def _preferred(key: str, change: Change) -> str:
    """``sync`` left out is true."""
    if key != "sync":
        return "of standbys with the same data another one may be promoted from now on"
    if change.after is False:
        return "it leaves the synchronous set; from then on only a person has it promoted, who accepts a loss"
    return "it comes into the synchronous set by the playbook of a standby that is down"


def _joins(cluster: Cluster | None) -> str:
    """A node that was not there before is down as far as anybody has seen; the rest follows from that."""
    return (
        "" if cluster is None else "; as a standby it is brought in by the playbook of a standby that is down"
    )


def _member(instance: str, cluster: Cluster | None) -> Iterator[Consequence]:
    """A member that is not known any more cannot be revoked, and then a failover is not safe."""
    if cluster is None:
        return
    if instance == cluster.primary:
        text = f"it is the primary of {cluster.name}: without it nobody watches who takes the writes"
        yield Consequence(about=instance, text=text, refused=True)
    elif any(instance in each.members for each in cluster.sets):
        sets = " and ".join(each.setting() for each in cluster.sets)
        text = (
            f"the synchronous set of {cluster.name} names it ({sets}): as long as it does, its "
            "acknowledgement counts, and a failover that cannot revoke it may be refused"
        )
        yield Consequence(about=instance, text=text, refused=True)


def _runs(active: Sequence[Run]) -> list[Consequence]:
    """They keep the revision under which they were planned."""
    told: list[Consequence] = []
    for run in active:
        by = "its own inventory" if run.revision is None else f"revision {run.revision}"
        text = f"{run.plan.playbook} on {run.plan.scope} goes on under {by}"
        told.append(Consequence(about=f"run {run.id}", text=text))
    return told
