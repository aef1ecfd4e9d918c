"""A cluster that a real Patroni leads: reported, switched over by Patroni, never promoted here."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ha_tasks.bootstrap import System, assemble, load_inventory
from tests.acceptance.stack import Stack, eventually
from tests.patroni_cluster import API_PASSWORD, API_USER, PatroniCluster, running_patroni
from tests.servers import free_port

pytestmark = [pytest.mark.full, pytest.mark.needs("etcd", "postgresql")]

SEEN_WITHIN_S = 60.0
LASTED_WITHIN_S = 90.0
"""What must have lasted for ten seconds before it is told."""
FAILED_OVER_WITHIN_S = 120.0
"""Patroni's lease is 20 s, its lowest."""


class Watched(Stack):
    """A home whose inventory names a cluster that Patroni leads; two observers look, from two vantages."""

    def __init__(self, home: Path, cluster: PatroniCluster) -> None:
        super().__init__(home)
        self.cluster = cluster
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self.home.mkdir()
        (self.home / "ha-tasks.toml").write_text(self._inventory())
        secret = self.home / "patroni"
        secret.write_text(API_PASSWORD)
        secret.chmod(0o600)
        for command in (("migrate",), ("apply", "--yes")):
            done = self.command(*command)
            assert done.returncode == 0, done.stdout + done.stderr
        for process in ("probe-a", "probe-b"):
            system = self.system(process)
            thread = threading.Thread(target=system.observer.run, args=(self._over,), name=process)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)

    def system(self, process: str) -> System:
        environ = {**os.environ, "HA_TASKS_HOME": str(self.home), "HA_TASKS_PROCESS": process}
        return assemble(load_inventory(self.home, environ), environ=environ)

    def _inventory(self) -> str:
        nodes = self.cluster.nodes.values()
        instances = "".join(
            f'[[services.db.instances]]\nname = "{n.name}"\naddress = "127.0.0.1:{n.port}"\n' for n in nodes
        )
        return f"""
schema = 1
platform.name = "theirs"
store.url = "sqlite:///ha.db"
broker.url = "redis://127.0.0.1:{free_port()}/0"
[services.db]
kind = "postgres"
managed_by = "patroni"
[services.db.postgres]
database = "postgres"
user = "postgres"
[services.db.patroni]
api = {json.dumps([n.url for n in nodes])}
user = "{API_USER}"
password = {{ file = "patroni" }}
{instances}"""

    def service(self) -> dict[str, Any]:
        """The cluster, as status shows it."""
        return self.result("status")["services"][0]

    def follows(self, leader: str) -> bool:
        """Status names it, by Patroni's word and the server's own, and the service is not down."""
        service = self.service()
        manager = service["led_by_others"]["manager"] or {}
        roles = {i["name"]: i["role"] for i in service["instances"]}
        named = manager.get("leader") == leader == service["led_by_others"]["writable"]
        return named and roles[leader] == "primary" and service["state"] in ("available", "degraded")

    def open_kinds(self) -> set[str]:
        found = self.result("status")["incidents"]
        return {i["kind"] for i in found}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with running_patroni(tmp_path_factory.mktemp("patroni")) as cluster:
        stack = Watched(tmp_path_factory.mktemp("watching") / "home", cluster)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()


@pytest.fixture
def leader(watched: Watched) -> str:
    """Everybody is well, and status has seen it."""
    leader = watched.cluster.await_whole()
    eventually(lambda: watched.follows(leader), SEEN_WITHIN_S, "status follows Patroni")
    eventually(lambda: watched.open_kinds() == set(), LASTED_WITHIN_S, "nothing is wrong")
    return leader


def timeline(cluster: PatroniCluster, node: str) -> int:
    with psycopg.connect(cluster.dsn(node), autocommit=True) as connection:
        found = connection.execute("SELECT timeline_id FROM pg_control_checkpoint()").fetchone()
    assert found is not None
    return int(found[0])


def test_check_asks_patroni_and_every_server(watched: Watched, leader: str) -> None:
    report = json.loads(watched.command("check", "--connect", "--json").stdout)

    told = {a["what"]: a for a in report["answers"]}
    assert report["faults"] == []
    assert (told["services.db.patroni"]["ok"], told["services.db.patroni"]["said"]) == (
        True,
        f"answers, {leader} leads",
    )


def test_a_switchover_is_made_by_patroni_and_status_follows(watched: Watched, leader: str) -> None:
    other = next(name for name in watched.cluster.nodes if name != leader)

    planned = watched.result("switchover", "db", "--to", other, "--dry-run")
    assert (planned["leader"], planned["candidate"]) == (leader, other)
    assert watched.cluster.leader() == leader
    done = watched.result("switchover", "db", "--to", other, "--yes", "--reason", "a new disk")

    assert done["leader"] == other
    assert watched.cluster.leader() == other
    eventually(lambda: watched.follows(other), SEEN_WITHIN_S, "status follows the switchover")
    verbs = [e["verb"] for e in watched.result("audit", "list")["entries"]]
    assert {"manager.asked", "manager.done"} <= set(verbs)


@pytest.mark.parametrize(
    "words", [("recover", "db"), ("adopt", "db"), ("plan", "db", "--kind", "primary_down")]
)
def test_whatever_would_act_is_refused_with_who_leads(
    watched: Watched, leader: str, words: tuple[str, ...]
) -> None:
    done = watched.command(*words)

    assert done.returncode in (2, 3), done.stdout + done.stderr
    assert "db is led by Patroni" in done.stderr
    assert watched.cluster.leader() == leader


def configure(cluster: PatroniCluster, **what: object) -> None:
    """PATCH /config, as patronictl does it."""
    url = next(iter(cluster.nodes.values())).url
    request = urllib.request.Request(  # noqa: S310 - loopback http
        f"{url}/config", data=json.dumps(what).encode(), method="PATCH"
    )
    manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    manager.add_password(None, url, API_USER, API_PASSWORD)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    opener.open(request, timeout=5).close()


def test_a_pause_is_an_incident_until_it_is_over(watched: Watched, leader: str) -> None:
    configure(watched.cluster, pause=True)
    try:
        eventually(
            lambda: watched.open_kinds() == {"manager_paused"}, SEEN_WITHIN_S, "the pause is an incident"
        )
        refused = watched.command("switchover", "db", "--yes")
        assert (refused.returncode, "patronictl resume" in refused.stderr) == (3, True)
    finally:
        configure(watched.cluster, pause=None)

    eventually(lambda: watched.open_kinds() == set(), SEEN_WITHIN_S, "it is over")


def test_when_the_leader_dies_patroni_fails_over_and_we_only_tell(watched: Watched, leader: str) -> None:
    before = timeline(watched.cluster, leader)

    watched.cluster.nodes[leader].stop()
    eventually(
        lambda: "primary_down" in watched.open_kinds(), LASTED_WITHIN_S, "the dead primary is an incident"
    )
    refused = watched.command("recover", "db")
    assert (refused.returncode, "led by Patroni" in refused.stderr) == (3, True)
    successor = after(watched.cluster, leader)
    eventually(lambda: watched.follows(successor), SEEN_WITHIN_S, "status follows Patroni's failover")
    eventually(
        lambda: "member_not_streaming" in watched.open_kinds(), LASTED_WITHIN_S, "the lost member is told"
    )

    assert timeline(watched.cluster, successor) <= before + 1
    assert watched.result("status")["runs"] == []
    watched.cluster.start_node(leader)
    assert watched.cluster.await_whole(120) == successor
    eventually(lambda: watched.open_kinds() == set(), LASTED_WITHIN_S, "everything is over")


def after(cluster: PatroniCluster, dead: str) -> str:
    """Who leads once Patroni has failed over."""
    ends = time.monotonic() + FAILED_OVER_WITHIN_S
    check: Callable[[], str | None] = cluster.leader
    while (found := check()) in (None, dead):
        assert time.monotonic() < ends, cluster.told()
        time.sleep(0.2)
    assert found is not None
    return found
