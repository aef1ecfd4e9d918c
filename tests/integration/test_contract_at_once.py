"""The same request, handled by many at the same moment on a real store: one run, one that is new."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from ha_tasks.bootstrap import assemble, load_inventory
from ha_tasks.bootstrap.contract import recovery_desk
from tests.integration.contract_home import behind_haproxy, make_home

WORKERS = 6
BODY = {
    "v": 1,
    "service": "web",
    "kind": "restart",
    "scope": "web1",
    "reason": "trial",
    "requested_by": "tests",
    "idempotency_key": "at-once-4711",
}


def test_many_workers_with_the_same_message_come_to_one_run(tmp_path: Path):
    with behind_haproxy(tmp_path / "edge") as (ports, edge):
        home = make_home(tmp_path / "home", "redis://127.0.0.1:1/0", "unused", ports, edge)
        systems = [
            assemble(load_inventory(home.path), environ={"HA_TASKS_HOME": str(home.path)})
            for _ in range(WORKERS)
        ]
        together = Barrier(WORKERS)

        def ask(system) -> dict:
            together.wait(10)
            return recovery_desk(system).request(BODY)

        with ThreadPoolExecutor(WORKERS) as pool:
            answers = list(pool.map(ask, systems))
        runs, incidents = home.store.journal.recent(), home.store.incidents.recent()
        for system in systems:
            system.store.dispose()
        home.store.dispose()

    assert [run.id for run in runs] == [1]
    assert {answer["run"] for answer in answers} == {1}
    assert sorted(answer["duplicate"] for answer in answers) == [False] + [True] * (WORKERS - 1)
    assert len(incidents) == 1
