"""The world of detection with everything that guards are about: policies, approvals, a person."""

from __future__ import annotations

import json
from dataclasses import replace

from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.model.platform import Policies
from ha_tasks.names import Counter
from ha_tasks.workflows.approving import Approver
from ha_tasks.workflows.guard_facts import GuardFactsGatherer
from ha_tasks.workflows.starting import Order, RunStarter
from tests.unit.test_detection import ACTOR, World


class GuardedWorld(World):
    """``guards``: what every playbook's guards are to say instead. ``policies``: of the platform."""

    def __init__(self, *services, policies=None, **guards):
        self.policies = policies or Policies()
        self.playbooks = [replace(p, guards=replace(p.guards, **guards)) for p in load_playbooks(())]
        super().__init__(*services)
        self.approver = Approver(
            policies=self.policies,
            planner=self.planner,
            guards=self.facts,
            orchestrator=self.orchestrator,
            incidents=self.store.incidents,
            journal=self.store.journal,
            ledger=self.store.ledger,
            clock=self.clock,
            actor="h/sweeper",
            followed=self.follower.follow,
        )

    @property
    def platform(self):
        return replace(self._platform, policies=self.policies)

    @platform.setter
    def platform(self, given):
        self._platform = given

    @property
    def planner(self):
        return RecoveryPlanner(self.platform, self.playbooks)

    @property
    def facts(self):
        return GuardFactsGatherer(platform=self.platform, sources=self.store, clock=self.clock)

    def starter(self, actor):
        return RunStarter(
            planner=self.planner,
            guards=self.facts,
            orchestrator=self.orchestrator,
            incidents=self.store.incidents,
            journal=self.store.journal,
            limits=self.store.limits,
            ledger=self.store.ledger,
            clock=self.clock,
            actor=actor,
            approval_within_s=self.policies.approval_within_s,
        )

    @property
    def verdicts(self):
        return self.detection.judge(list(self.platform.services.values()))

    @property
    def runs(self):
        """Newest first."""
        return self.store.journal.recent(20)

    def of(self, service):
        """The latest incident of a service."""
        return next(i for i in self.incidents if i.service == service)

    def story(self, incident):
        return [e.text for e in self.store.incidents.timeline(incident.id)]

    def refused(self, guard):
        """How often the metric says that the guard refused."""
        key = str(Counter.BLOCKED), json.dumps({"guard": str(guard)})
        return self.store.ledger.counters.get(key, 0)

    def order(self, incident, **more):
        """What a person orders; starts what may be started."""
        plain = {
            "mode": "manual",
            "requested_by": "anna@ops",
            "reason": "I want it",
            "idempotency_key": "by-hand-1",
        }
        order = Order(incident=incident, **plain | more)
        return self.starter(ACTOR).start(order, blind=False, verdicts=self.verdicts)
