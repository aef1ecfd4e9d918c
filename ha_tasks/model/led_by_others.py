"""Clusters that somebody else leads: the refusal to act on them, what their manager says, what is wrong.

Two who promote are worse than none: what another manager leads is watched here, and never acted on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, TypeAlias

from ha_tasks.errors import Refused
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ManagedBy, Service
from ha_tasks.model.probe import ProbeOutcome

FACT = "manager"
"""Key of a probe outcome's facts under which the manager's word about the cluster stands."""
LASTING = timedelta(seconds=10)
"""So long something must be wrong before anybody is told; a manager's own failover has its pauses."""
FRESH = timedelta(seconds=5)


def refusal(service: Service) -> str:
    """Why nothing is done to it here, who does it, and how; '' for a service that is ours to recover."""
    if service.managed_by is ManagedBy.HA_TASKS:
        return ""
    if service.managed_by is ManagedBy.PATRONI:
        return (
            f"{service.name} is led by Patroni: it is watched here, never acted on; a planned change of its "
            f"leader: ha-tasks switchover {service.name} --to NODE (Patroni does it); "
            "everything else: patronictl"
        )
    if service.managed_by is ManagedBy.SENTINEL:
        return (
            f"{service.name} is led by Sentinel: it is watched here, and the balancer follows whom Sentinel "
            f"names; a failover by hand is Sentinel's, too: SENTINEL FAILOVER "
            f"{service.sentinel.name if service.sentinel else 'NAME'}"
        )
    return (
        f"{service.name} is led by others (managed_by = external): it is watched here, never acted on; "
        "promote or restart it where it is run"
    )


def not_held(services: Iterable[Service]) -> tuple[str, ...]:
    """Of which of these a switch or a maintenance window holds nobody: who leads them goes on as before."""
    return tuple(_not_held(s) for s in services if not is_ours(s))


def _not_held(service: Service) -> str:
    name = service.name
    if service.managed_by is ManagedBy.PATRONI:
        return (
            f"{name} is led by Patroni, which is not held by this: it fails {name} over all the same; "
            "for that: patronictl pause"
        )
    if service.managed_by is ManagedBy.SENTINEL:
        return f"{name} is led by Sentinel, which is not held by this: it fails {name} over all the same"
    return (
        f"{name} is led by others (managed_by = external), who are not held by this; "
        "hold them where it is run"
    )


def leader_to_follow(cluster: LedCluster, service: Service) -> str | None:
    """Whom the balancer shall lead to by the manager's word; None: nobody is named who runs and is known."""
    name = None if cluster.leading is None else cluster.leading.name
    return name if any(i.name == name for i in service.instances) else None


def is_ours(service: Service) -> bool:
    """True when ha_tasks, and nobody else, recovers it."""
    return not refusal(service)


def must_be_ours(service: Service) -> None:
    """The one guard before whatever changes a service. Raises Refused."""
    why = refusal(service)
    if why:
        raise Refused(why)


class MemberRole(StrEnum):
    """A member of a cluster, as its manager says."""

    LEADER = "leader"
    SYNC_STANDBY = "sync_standby"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """``state`` is the manager's word (``running``, ``streaming``, ``stopped`` ...); None: it is not said."""

    name: str
    role: MemberRole
    state: str
    timeline: int | None = None
    lag_bytes: int | None = None
    pending_restart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LedCluster:
    """A cluster by its manager's word. ``paused``: the manager does nothing by itself."""

    leader: str | None
    members: tuple[Member, ...]
    paused: bool = False

    def member(self, name: str) -> Member | None:
        """None when the manager does not know it."""
        return next((m for m in self.members if m.name == name), None)

    @property
    def leading(self) -> Member | None:
        """The leader, where it runs as such."""
        found = self.member(self.leader) if self.leader else None
        return found if found is not None and found.state == "running" else None

    @property
    def timeline(self) -> int | None:
        """The leader's."""
        return None if self.leading is None else self.leading.timeline

    def to_json(self) -> Json:
        """As plain JSON; ``cluster_from`` reads it again."""
        return {
            "leader": self.leader,
            "paused": self.paused,
            "members": [{**asdict(m), "role": str(m.role)} for m in self.members],
        }


def cluster_from(content: Mapping[str, Any]) -> LedCluster:
    """What ``to_json`` has written."""
    members = tuple(Member(**{**each, "role": MemberRole(each["role"])}) for each in content["members"])
    return LedCluster(leader=content["leader"], paused=bool(content["paused"]), members=members)


def said_of(outcome: ProbeOutcome) -> LedCluster | None:
    """The manager's word in the facts of an outcome; None when it was silent, or not asked."""
    content = outcome.facts.get(FACT) or {}
    return cluster_from(content) if "members" in content else None


def latest_word(outcomes: Iterable[ProbeOutcome], now: datetime) -> LedCluster | None:
    """The newest word among outcomes of the last seconds; None when there is none."""
    fresh = [o for o in outcomes if o.sent_at >= now - FRESH]
    for outcome in sorted(fresh, key=lambda o: o.sent_at, reverse=True):
        cluster = said_of(outcome)
        if cluster is not None:
            return cluster
    return None


def observed_primary(outcomes: Iterable[ProbeOutcome]) -> str | None:
    """The node that was the last to say that it takes writes, and has not taken it back since."""
    latest: dict[str, ProbeOutcome] = {}
    for outcome in sorted(outcomes, key=lambda o: o.sent_at):
        if outcome.ok and "in_recovery" in outcome.facts:
            latest[outcome.target.instance] = outcome
    writable = [o for o in latest.values() if o.facts["in_recovery"] is False]
    return max(writable, key=lambda o: o.sent_at).target.instance if writable else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something about a cluster that its manager should mend, or a person. ``since``: first seen."""

    kind: IncidentKind
    text: str
    since: datetime
    critical: bool = False


def troubles(
    outcomes: Sequence[ProbeOutcome], instances: Collection[str], now: datetime
) -> tuple[Trouble, ...] | None:
    """What is wrong by the outcomes of one service, those of some 15 s; None: too little was seen to say.

    ``instances``: the names that the inventory has. All but a pause must have lasted for LASTING.
    """
    asked = [o for o in sorted(outcomes, key=lambda o: o.sent_at) if FACT in o.facts]
    if not asked or now - asked[-1].sent_at > FRESH:
        return None
    if all(said_of(outcome) is None for outcome in asked):
        return _silent(asked, now)
    answered = [(o.sent_at, word) for o in asked if (word := said_of(o)) is not None]
    found = [_leaderless(answered, now), _paused(answered), _deaf(answered, instances, now)]
    return tuple(trouble for trouble in found if trouble is not None)


def _silent(asked: Sequence[ProbeOutcome], now: datetime) -> tuple[Trouble, ...]:
    since = asked[0].sent_at
    if now - since < LASTING:
        return ()
    text = f"its manager does not answer: {asked[-1].facts[FACT].get('error', '')}"
    return (Trouble(kind=IncidentKind.MANAGER_SILENT, text=text, since=since),)


Word: TypeAlias = tuple[datetime, LedCluster]
"""What the manager said, and when it was asked."""


def _leaderless(answered: Sequence[Word], now: datetime) -> Trouble | None:
    since = _lasting(answered, lambda word: word.leading is None, now)
    if since is None:
        return None
    named = answered[-1][1].leader
    text = (
        f"its manager has no leader: {f'{named} is named, and does not run' if named else 'nobody is named'}"
    )
    return Trouble(kind=IncidentKind.NO_LEADER, text=text, since=since, critical=True)


def _paused(answered: Sequence[Word]) -> Trouble | None:
    """At once: it is somebody's decision, and it takes the failover away."""
    if not answered[-1][1].paused:
        return None
    text = "its manager is paused: nobody fails it over; end that with: patronictl resume"
    since = next(at for at, word in answered if word.paused)
    return Trouble(kind=IncidentKind.MANAGER_PAUSED, text=text, since=since)


def _deaf(answered: Sequence[Word], instances: Collection[str], now: datetime) -> Trouble | None:
    lasting = {n: _lasting(answered, partial(_not_well, n), now) for n in sorted(instances)}
    since = {name: at for name, at in lasting.items() if at is not None}
    if not since:
        return None
    text = "; ".join(_how(answered[-1][1], name) for name in since)
    return Trouble(kind=IncidentKind.MEMBER_NOT_STREAMING, text=text, since=min(since.values()))


def _not_well(name: str, cluster: LedCluster) -> bool:
    member = cluster.member(name)
    return member is None or (member.role is not MemberRole.LEADER and member.state != "streaming")


def _how(cluster: LedCluster, name: str) -> str:
    member = cluster.member(name)
    return f"{name} is {member.state}" if member else f"{name} is not known to its manager"


def _lasting(answered: Sequence[Word], wrong: Callable[[LedCluster], bool], now: datetime) -> datetime | None:
    """Since when every answer without a break was so, where that is long enough; otherwise None."""
    since: datetime | None = None
    for at, word in reversed(answered):
        if not wrong(word):
            break
        since = at
    return since if since is not None and now - since >= LASTING else None
