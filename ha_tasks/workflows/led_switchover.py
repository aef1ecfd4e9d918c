"""A planned change of the leader of a cluster that others lead: their manager does it, we ask and look.

No run of ours: the manager keeps its own record of it, takes it over and ends it, whoever of us dies.
"""

from __future__ import annotations

from collections.abc import Sequence

from ha_tasks.errors import HaTasksError, ManagerUnreachable, Refused, UsageError, VerificationFailed
from ha_tasks.model.audit import AuditVerb
from ha_tasks.model.fault import closest
from ha_tasks.model.led_by_others import LedCluster, Member, MemberRole
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import ManagedBy, Service
from ha_tasks.ports.audit import Audit
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.cluster_manager import ClusterManager

LOOK_EVERY_S = 0.2


class LedSwitchover:
    """``plan`` looks, ``switch`` asks for what it has answered. Both may be repeated."""

    def __init__(self, *, manager: ClusterManager, audit: Audit, clock: Clock) -> None:
        self._manager = manager
        self._audit = audit
        self._clock = clock

    def plan(self, service: Service, to: str | None = None) -> Json:
        """``{"service", "led_by", "leader", "candidate", "timeline", "lag_bytes"}``; reads only.

        ``to`` None: the candidate that loses nothing, the synchronous standby first, then the least
        behind. Refused, with what is in the way, unless the manager would do it now; UsageError for a
        name that is not there, ManagerUnreachable.
        """
        if service.managed_by is not ManagedBy.PATRONI:
            raise Refused(f"{service.name} has no manager that could be asked for a switchover")
        found = self._manager.report(service)
        candidate = _candidate(service, found, to)
        member = found.member(candidate)
        return {
            "service": service.name,
            "led_by": str(service.managed_by),
            "leader": found.leader,
            "candidate": candidate,
            "timeline": found.timeline,
            "lag_bytes": None if member is None else member.lag_bytes,
        }

    def switch(
        self, service: Service, plan: Json, *, actor: str, reason: str, within_s: float = 60.0
    ) -> Json:
        """Asks the manager, waits until the candidate leads, and tells the audit chain both.

        VerificationFailed when it does not lead in time: the manager may still be at it.
        """
        began = self._clock.monotonic()
        leader, candidate = str(plan["leader"]), str(plan["candidate"])
        asked: Json = {"leader": leader, "candidate": candidate, "reason": reason}
        self._tell(actor, AuditVerb.MANAGER_ASKED, service, asked)
        try:
            said = self._manager.switchover(service, leader, candidate, timeout_s=within_s)
        except ManagerUnreachable as error:
            said = str(error)  # the answer is lost, not what was done: the report tells
        after = self._led_by(service, candidate, began + within_s, said)
        took_s = self._clock.monotonic() - began
        done: Json = {**plan, "leader": after.leader, "was": leader, "timeline": after.timeline, "said": said}
        self._tell(actor, AuditVerb.MANAGER_DONE, service, {**asked, "timeline": after.timeline})
        return {**done, "took_s": took_s}

    def _led_by(self, service: Service, candidate: str, ends: float, said: str) -> LedCluster:
        trouble = said
        while True:
            try:
                found = self._manager.report(service)
                if found.leader == candidate and found.leading is not None:
                    return found
                trouble = f"{found.leader or 'nobody'} leads; Patroni said: {said}"
            except HaTasksError as error:
                trouble = str(error)
            if self._clock.monotonic() >= ends:
                raise VerificationFailed(
                    f"{candidate} does not lead {service.name}: {trouble}; look again: ha-tasks status"
                )
            self._clock.pause(LOOK_EVERY_S)

    def _tell(self, actor: str, verb: AuditVerb, service: Service, what: Json) -> None:
        now = self._clock.now()
        self._audit.append(actor=actor, verb=str(verb), object=f"service {service.name}", now=now, after=what)


def _candidate(service: Service, found: LedCluster, to: str | None) -> str:
    """Raises Refused or UsageError, as ``plan`` says."""
    if found.leading is None:
        raise Refused(f"{service.name} has no running leader now: this is a failover, and Patroni's to make")
    if found.paused:
        raise Refused(f"Patroni of {service.name} is paused: end that first, with: patronictl resume")
    fit = [m for m in found.members if m.name != found.leader and m.state == "streaming"]
    # Patroni itself would refuse any other while there is one.
    fit = [m for m in fit if m.role is MemberRole.SYNC_STANDBY] or fit
    if to is not None:
        return _named(service, found, fit, to)
    if not fit:
        raise Refused(f"no member of {service.name} streams from {found.leader}: nobody could take over")
    return min(fit, key=lambda m: (m.lag_bytes or 0, m.name)).name


def _named(service: Service, found: LedCluster, fit: Sequence[Member], to: str) -> str:
    if to == found.leader:
        raise Refused(f"{to} leads {service.name} already; nothing was changed")
    member = found.member(to)
    if member is None:
        others = [m.name for m in found.members if m.name != found.leader]
        raise UsageError(f'Patroni of {service.name} has no member "{to}"; {closest(to, others)}')
    if member.state != "streaming":
        raise Refused(f"{to} does not stream, it is {member.state}: bring it back first")
    if member not in fit:
        raise Refused(f"{to} is not synchronous, rows could be lost; take {' or '.join(m.name for m in fit)}")
    return to
