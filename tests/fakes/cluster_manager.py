"""A manager of clusters in memory."""

from __future__ import annotations

from dataclasses import replace

from ha_tasks.errors import ManagerRefused, ManagerUnreachable
from ha_tasks.model.led_by_others import LedCluster, Member, MemberRole
from ha_tasks.model.platform import Service


class FakeClusterManager:
    """See ports/cluster_manager.py. The first of ``names`` leads at first."""

    def __init__(self, names: tuple[str, ...] = ("n1", "n2", "n3")) -> None:
        self.reachable = True
        self.answer_is_lost = False
        """The next switchover is made, and nobody hears of it."""
        first = Member(name=names[0], role=MemberRole.LEADER, state="running", timeline=1)
        others = (
            Member(name=n, role=MemberRole.REPLICA, state="streaming", timeline=1, lag_bytes=0)
            for n in names[1:]
        )
        self.cluster = LedCluster(leader=names[0], members=(first, *others))

    def report(self, service: Service, *, timeout_s: float = 2.0) -> LedCluster:
        if not self.reachable:
            raise ManagerUnreachable("127.0.0.1:8008: connection refused")
        return self.cluster

    def switchover(self, service: Service, leader: str, candidate: str, *, timeout_s: float = 60.0) -> str:
        self.report(service)
        if leader != self.cluster.leader:
            raise ManagerRefused("leader name does not match")
        if self.cluster.member(candidate) is None:
            raise ManagerRefused("candidate does not exists")
        self.lead(candidate)
        if self.answer_is_lost:
            self.answer_is_lost = False
            raise ManagerUnreachable("127.0.0.1:8008: no answer in time")
        return f'Successfully switched over to "{candidate}"'

    def lead(self, name: str) -> None:
        """Another leads, on the next timeline."""
        timeline = (self.cluster.timeline or 0) + 1
        members = tuple(
            replace(
                m,
                role=MemberRole.LEADER if m.name == name else MemberRole.REPLICA,
                state="running" if m.name == name else "streaming",
                timeline=timeline,
                lag_bytes=None if m.name == name else 0,
            )
            for m in self.cluster.members
        )
        self.cluster = replace(self.cluster, leader=name, members=members)

    def change(self, name: str, **what: object) -> None:
        """Something about a member is another way."""
        members = tuple(replace(m, **what) if m.name == name else m for m in self.cluster.members)  # type: ignore[arg-type]
        self.cluster = replace(self.cluster, members=members)
