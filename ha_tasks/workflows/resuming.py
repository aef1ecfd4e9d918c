"""Going on with a failover that nobody leads any more: what was refused, or was left half done.

Nothing of it is a dead end. As soon as whoever was silent answers, it is called off or taken to its end;
until then the incident's story says whom it waits for, and what a person can do instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

from ha_tasks.errors import HaTasksError
from ha_tasks.model.cluster import Cluster, ClusterState
from ha_tasks.model.failover import Word
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.model.resumption import Answer, Way, awaited, foreign, start_of, way_on
from ha_tasks.ports.host import Authority, NodeStatus, Postmaster
from ha_tasks.ports.repositories import Incidents, Journal
from ha_tasks.workflows.cluster_moves import (
    TWO_PRIMARIES,
    PostgresTools,
    block,
    without_the_innocent,
    word_of,
)

AGAIN_AFTER = timedelta(seconds=10)
"""Between the end of a failover that was refused and the next: what it undid needs a moment to be seen."""

START_S = 15.0


class Resumer:
    """Every observer does this each second for clusters on which no run acts; epochs decide who is first."""

    def __init__(self, *, tools: PostgresTools, journal: Journal, incidents: Incidents, actor: str) -> None:
        self._tools = tools
        self._journal = journal
        self._incidents = incidents
        self._actor = actor

    def go_on(self, cluster: Cluster, nodes: Collection[str]) -> Cluster:
        """The cluster after what could be done for it now. ``nodes``: who could be in a set."""
        if cluster.state is ClusterState.FAILING and not cluster.unfinished:
            return block(self._tools, cluster)
        if cluster.state not in (ClusterState.FAILING, ClusterState.BLOCKED):
            return cluster
        answers = self._answers(cluster)
        primary = answers.get(cluster.primary)
        leads = primary is not None and primary.word.in_recovery is False
        if cluster.state is ClusterState.BLOCKED and leads:
            return cluster  # What it lacks is a standby that acknowledges, not a successor.
        spares = self._spares(cluster, nodes)
        way = way_on(cluster, answers, spares)
        if way is Way.BACK:
            return self._back(cluster)
        self._wake(cluster, {**answers, **spares})
        self._tell(cluster, way, _waits(cluster, answers))
        return cluster

    def _back(self, cluster: Cluster) -> Cluster:
        """In an epoch of its own, with the candidates' agents in it: no late order reaches them then."""
        now = self._tools.clock.now()
        taken = self._tools.clusters.advance(cluster.name, cluster.epoch, now, new_epoch=True)
        by = Authority(epoch=taken.epoch, fence=self._journal.next_fence(now))
        for entry in taken.unfinished:
            with suppress(HaTasksError):  # a stopped node refuses; its agent is in this epoch anyway
                self._tools.agents.revoke(entry.candidate, by, timeout_s=3.0)
        left = without_the_innocent(self._tools, taken)
        return left if left.unfinished else block(self._tools, left)

    def _wake(self, cluster: Cluster, answers: Mapping[str, Answer]) -> None:
        """Whoever answers and is stopped is started as what it was: a stopped node confirms nothing.

        Blocked, no branch exists, so members follow the recorded primary, be it dead. Failing, a candidate
        that was promoted is started as the possible primary that it counts as, and who followed it with it.
        """
        stopped = [node for node, a in answers.items() if not a.runs and node != cluster.primary]
        for node in stopped:
            order = start_of(cluster, node, answers[node])
            if order is None:
                continue
            by = Authority(epoch=cluster.epoch, fence=self._journal.next_fence(self._tools.clock.now()))
            with suppress(HaTasksError):  # looked at again in a second
                if order.upstream is None:
                    self._tools.agents.start_primary(node, order.sync_setting, by, timeout_s=START_S)
                else:
                    self._tools.agents.start_standby(node, order.upstream, by, timeout_s=START_S)

    def _tell(self, cluster: Cluster, way: Way, waits: str) -> None:
        """The escalated incident of the failover waits for its turn again, or says whom it waits for."""
        incident = self._escalated(cluster)
        if incident is None or incident.run is None:
            return
        run, now = self._journal.get(incident.run), self._tools.clock.now()
        if not run.fence or run.ended_at is None:
            return  # A person has said no before it began, or it has not ended.
        if way is Way.FORWARD and now - run.ended_at >= AGAIN_AFTER:
            text, only = "who was missing answers: it is tried again", (IncidentState.ESCALATED,)
            self._incidents.move(
                incident.id, IncidentState.OPEN, now, self._actor, text, only_from=only, run=incident.run
            )
        elif way is Way.WAIT:
            self._tell_once(incident, waits)

    def _tell_once(self, incident: Incident, text: str) -> None:
        said = [entry.text for entry in self._incidents.timeline(incident.id)]
        if text not in said[-3:]:
            self._incidents.note(incident.id, self._tools.clock.now(), self._actor, text)

    def _escalated(self, cluster: Cluster) -> Incident | None:
        return next(
            (
                i
                for i in self._incidents.current()
                if i.service == cluster.name
                and i.kind is IncidentKind.PRIMARY_DOWN
                and i.instance == cluster.primary
                and i.state is IncidentState.ESCALATED
                and i.holds_key
            ),
            None,
        )

    def _answers(self, cluster: Cluster) -> dict[str, Answer]:
        return asked(self._tools, _recorded(cluster))

    def _spares(self, cluster: Cluster, nodes: Collection[str]) -> dict[str, Answer]:
        """Nodes of no set that have followed the recorded primary last; others need a rejoin."""
        found = asked(self._tools, set(nodes) - _recorded(cluster))
        return {node: a for node, a in found.items() if a.upstream == cluster.primary}


def _recorded(cluster: Cluster) -> set[str]:
    sets = [*cluster.sets, *(u.sync_set for u in cluster.unfinished)]
    return {
        cluster.primary,
        *(m for s in sets for m in s.members),
        *(u.candidate for u in cluster.unfinished),
    }


def asked(tools: PostgresTools, nodes: Iterable[str]) -> dict[str, Answer]:
    """What the agents say of their nodes now, side by side. Who is silent is left out."""

    def answer(node: str) -> NodeStatus | None:
        try:
            return tools.agents.status(node)
        except HaTasksError:  # silence is an answer here
            return None

    names = sorted(nodes)
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        found = dict(zip(names, pool.map(answer, names), strict=True))
    return {name: _answer(status) for name, status in found.items() if status is not None}


def _answer(status: NodeStatus) -> Answer:
    word: Word = word_of(status)
    runs = status.postmaster is Postmaster.RUNNING
    upstream = status.upstream or status.left
    return Answer(word=word, runs=runs, lsn=status.lsn, upstream=upstream, history=status.history or ())


def _waits(cluster: Cluster, answers: Mapping[str, Answer]) -> str:
    others = foreign(cluster, answers)
    if others:
        return f"waits for the end of {', '.join(others)}: {TWO_PRIMARIES}"
    names = ", ".join(awaited(cluster, answers)) or "a standby that is left to acknowledge"
    return (
        f"waits for {names}: bring it back, and it goes on by itself; if that will never be: "
        f"ha-tasks recover {cluster.name} --accept-data-loss=BYTES"
    )
