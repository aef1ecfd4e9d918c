"""Drills on the embedded stack: real faults on its processes, real load through its balancer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ha_tasks.adapters.loads import EntryLoads
from ha_tasks.adapters.postgres_session import Login
from ha_tasks.bootstrap import System
from ha_tasks.embedded import state
from ha_tasks.embedded.applications import EmbeddedApplications, can_run
from ha_tasks.embedded.faults import EmbeddedFaults
from ha_tasks.embedded.home import home_at
from ha_tasks.embedded.inventory import APP_ROLE, DATABASE
from ha_tasks.embedded.secret_files import read
from ha_tasks.model.platform import Service
from ha_tasks.workflows.drills import Drills, DrillTools


def drills_on(home: Path, system: System, actor: str, tell: Callable[[str], None]) -> Drills:
    """Drills on the stack that runs on ``home``. Raises Unreachable when none runs there."""
    place = home_at(home)
    state.load(place)

    def login(_: Service) -> Login:
        # The load writes as an application does, not as the control plane.
        return Login(user=APP_ROLE, database=DATABASE, password=read(place.secret("pg-app")))

    store = system.store
    tools = DrillTools(
        platform=system.platform,
        clusters=store.clusters,
        incidents=store.incidents,
        journal=store.journal,
        limits=store.limits,
        observations=store.observations,
        drills=store.drills,
        clock=system.clock,
        faults=EmbeddedFaults(
            home=place,
            platform=system.platform,
            units=system.agents,
            rollback=system.rollback,
            clock=system.clock,
        ),
        loads=EntryLoads(system.platform, login, system.clock),
        applications=EmbeddedApplications(place, system.clock) if can_run() else None,
        actor=actor,
    )
    return Drills(tools, tell)
