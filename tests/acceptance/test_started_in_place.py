"""A crashed primary whose failover is refused is started again where it is, by itself, with all its rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ha_tasks.model.scenario import Deed
from ha_tasks.ports.host import Postmaster
from tests.acceptance.scene import BACK_WITHIN_S, Scene, scene_in
from tests.acceptance.stack import eventually

pytestmark = pytest.mark.full

STARTED_WITHIN_S = 60


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene_in(tmp_path_factory.mktemp("in place") / "home") as made:
        yield made


def runs_as_primary(scene: Scene, node: str, timeline: int) -> bool:
    """Also to the balancer: clients reach it."""
    status = scene.system.agents.status(node, timeout_s=5)
    if status.postmaster is not Postmaster.RUNNING or status.in_recovery is not False:
        return False
    return status.timeline == timeline and scene.reads()


def test_where_no_standby_is_left_it_is_started_again_and_nothing_is_promoted(scene: Scene) -> None:
    eventually(scene.whole, BACK_WITHIN_S, "all three are there")
    rows, primary = scene.rows(), scene.cluster.primary
    timeline = scene.system.agents.status(primary, timeout_s=5).timeline
    for standby in scene.cluster.sets[0].members:
        scene.faults.inject(Deed.KILL_NODE, standby)
    scene.faults.inject(Deed.KILL_POSTMASTER, primary)

    scene.refused(primary)
    eventually(lambda: runs_as_primary(scene, primary, timeline), STARTED_WITHIN_S, "it is started again")
    # Under policy durability a write waits until somebody is back to have it, too.
    waiting = ThreadPoolExecutor(max_workers=1).submit(scene.write)
    with pytest.raises(TimeoutError):
        waiting.result(timeout=3)

    scene.faults.release()
    assert waiting.result(timeout=BACK_WITHIN_S)
    eventually(scene.whole, BACK_WITHIN_S, "redundancy is back")
    assert scene.cluster.primary == primary
    assert scene.system.agents.status(primary, timeout_s=5).timeline == timeline
    assert scene.rows() > rows
    eventually(scene.is_over, BACK_WITHIN_S, "the incident is over")


def test_while_a_failover_cools_down_the_new_primary_is_started_again(scene: Scene) -> None:
    eventually(scene.whole, BACK_WITHIN_S, "all three are there")
    assert scene.stack.command("ack", "db").returncode == 0  # whatever was begun before
    first = scene.cluster.primary
    scene.faults.inject(Deed.KILL_POSTMASTER, first)
    eventually(lambda: scene.cluster.primary != first, STARTED_WITHIN_S, "the first crash is failed over")
    eventually(scene.whole, BACK_WITHIN_S, "redundancy is back")
    rows, primary = scene.rows(), scene.cluster.primary
    timeline = scene.system.agents.status(primary, timeout_s=5).timeline

    scene.faults.inject(Deed.KILL_POSTMASTER, primary)
    eventually(scene.write, STARTED_WITHIN_S, "a write is acknowledged again")

    assert scene.rows() > rows
    assert scene.cluster.primary == primary
    assert scene.system.agents.status(primary, timeout_s=5).timeline == timeline
    told = [e.text for e in scene.system.store.incidents.timeline(scene.incident().id)]
    assert f"{primary} was started again in place, for its failover is refused by cool_down" in told
    eventually(scene.is_over, BACK_WITHIN_S, "the incident is over")
