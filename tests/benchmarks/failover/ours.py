"""The embedded stack as a system under test: everything that `ha-tasks demo` starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from psycopg.conninfo import conninfo_to_dict

from ha_tasks.adapters.postgres_session import Login
from ha_tasks.bootstrap import System as Assembled
from ha_tasks.bootstrap import assemble
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import CLUSTER
from ha_tasks.embedded.layout import agent_of
from ha_tasks.embedded.silence import Silence
from ha_tasks.inventory import load
from ha_tasks.model.cluster import ClusterState
from ha_tasks.model.incident import IncidentState
from ha_tasks.store import Store
from tests.patroni_cluster import PROGRAMS, postgres_of

RUNS_PER_HOUR = "1000"
"""The limit of recoveries per hour is for platforms, not for a bench that breaks one all day."""


class OurSystem:
    """See systems.System. ``programs``: directory of PostgreSQL's; None: the wheel's, the newest."""

    wake_after_s = 10.0

    def __init__(self, name: str, programs: Path | None) -> None:
        self.name = name
        self._programs = programs
        self._home: Path | None = None
        self._system: Assembled | None = None

    def start(self) -> None:
        """See System."""
        self._home = Path(tempfile.mkdtemp(prefix="bench-ours-"))
        self._command("demo", "--detach", within_s=180)
        self._system = assemble(load(self._home / "ha-tasks.toml", self._environ()))

    def stop(self) -> None:
        """See System."""
        if self._system is not None:
            self._system.store.dispose()
        if self._home is not None:
            self._silence.lift()
            self._command("demo", "--stop", "--purge", within_s=120)
            shutil.rmtree(self._home, ignore_errors=True)
        self._system = self._home = None

    def whole(self) -> str | None:
        """See System. Cool-downs and escalations of earlier trials are ended, as `ha-tasks ack` ends them."""
        system = self._assembled
        self._acknowledge(system)
        cluster = system.store.clusters.get(CLUSTER)
        others = {*self.nodes} - {cluster.primary}
        whole = (
            cluster.state is ClusterState.STEADY
            and len(cluster.sets) == 1
            and {*cluster.sets[0].members} == others
            and not any(i.service == CLUSTER and i.holds_key for i in system.store.incidents.current())
            and not system.store.journal.active()
        )
        if not whole:
            return None
        return cluster.primary

    def _acknowledge(self, system: Assembled) -> None:
        """A node that was away for long is brought back once a person says that it is there again."""
        now = system.clock.now()
        for incident in system.store.incidents.current():
            if incident.service == CLUSTER and incident.state is IncidentState.ESCALATED:
                system.store.incidents.acknowledge(incident.id, now, "bench")
        system.store.limits.acknowledge(CLUSTER, now, "bench")

    @property
    def store(self) -> Store:
        """What was seen, decided and done."""
        return self._assembled.store

    @property
    def entry(self) -> str:
        """See System."""
        routing = self._assembled.platform.services[CLUSTER].routing
        assert routing is not None
        return routing.entry

    @property
    def nodes(self) -> Mapping[str, str]:
        """See System."""
        return {i.name: i.address for i in self._assembled.platform.services[CLUSTER].instances}

    @property
    def login(self) -> Login:
        """See System."""
        said = conninfo_to_dict(self._state["endpoints"]["pg_write"])
        return Login(user=str(said["user"]), database=str(said["dbname"]), password=str(said["password"]))

    @property
    def version(self) -> str:
        """See System."""
        data = self._path / "nodes" / next(iter(self.nodes)) / "data"
        return (data / "PG_VERSION").read_text().strip()

    def agents(self, node: str) -> Sequence[int]:
        """See System: the agent and what it is made of, without the database."""
        agent = next(p["pid"] for p in self._state["processes"] if p["name"] == agent_of(node))
        below = {child.pid for child in psutil.Process(agent).children(recursive=True)}
        return sorted({agent, *below} - {*self.database(node)})

    def database(self, node: str) -> Sequence[int]:
        """See System."""
        return postgres_of(self._path / "nodes" / node / "data")

    def hold(self, node: str) -> None:
        """See System."""
        (self._path / "hold" / agent_of(node)).touch()

    def release(self, node: str) -> None:
        """See System."""
        (self._path / "hold" / agent_of(node)).unlink(missing_ok=True)

    def darken(self, node: str) -> None:
        """See System: no packet from or to the database or its agent arrives any more."""
        instance = self._assembled.platform.services[CLUSTER].instance(node)
        agent = self._assembled.platform.hosts[instance.host].agent_url
        self._silence.fall(int(place.rpartition(":")[2]) for place in (instance.address, agent))

    def light(self, node: str) -> None:
        """See System."""
        self._silence.lift()

    @property
    def _silence(self) -> Silence:
        return Silence(Home(root=self._path))

    @property
    def _path(self) -> Path:
        if self._home is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._home

    @property
    def _assembled(self) -> Assembled:
        if self._system is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._system

    @property
    def _state(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self._path / "state.json").read_text())
        return content

    def _environ(self) -> dict[str, str]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("HA_")}
        environ["HA_TASKS__POLICIES__MAX_RUNS_PER_HOUR"] = RUNS_PER_HOUR
        if self._programs is not None:
            environ["HA_POSTGRES_BIN"] = str(self._programs / "postgres")
        return environ

    def _command(self, *words: str, within_s: float) -> None:
        command = [sys.executable, "-m", "ha_tasks.cli", *words, "--home", str(self._path)]
        subprocess.run(command, env=self._environ(), timeout=within_s, check=True, capture_output=True)


def on_debian(name: str, apart: bool = False) -> OurSystem:
    """On the PostgreSQL that Patroni is tried on. Nodes need not be ``apart`` to be cut off."""
    return OurSystem(name, PROGRAMS)


def on_wheel(name: str, apart: bool = False) -> OurSystem:
    """On the newest PostgreSQL."""
    return OurSystem(name, None)
