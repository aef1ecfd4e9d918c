"""Primary and one standby are lost together: nothing is promoted, until one is back or a person decides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.scene import BACK_WITHIN_S, Scene, scene_in
from tests.acceptance.stack import eventually

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene_in(tmp_path_factory.mktemp("lose both") / "home") as made:
        yield made


def test_nothing_is_promoted_and_it_goes_on_by_itself_when_one_is_back(scene: Scene) -> None:
    eventually(scene.write, 30, "a write is acknowledged")
    before = scene.rows()
    primary, lost, left = scene.lose_both()

    scene.refused(primary)
    status = scene.system.agents.status(left, timeout_s=5)
    assert (status.in_recovery, status.timeline) == (True, 1)

    scene.let_back(lost)
    eventually(scene.write, BACK_WITHIN_S, "a write is acknowledged again")
    # Writes are routed, and acknowledged by the new set, a moment before the new primary is recorded.
    eventually(lambda: scene.cluster.primary in (lost, left), 30, "the new primary is recorded")
    assert scene.rows() >= before + 1

    scene.faults.release()
    eventually(scene.whole, BACK_WITHIN_S, "redundancy is back")


def test_a_person_who_accepts_the_loss_has_the_standby_promoted_that_is_left(scene: Scene) -> None:
    eventually(scene.whole, BACK_WITHIN_S, "redundancy is back")
    assert scene.stack.command("ack", "db").returncode == 0  # the cool-down of the failover before
    primary, _, left = scene.lose_both()
    scene.refused(primary)

    refused = scene.stack.command("recover", "db", "--accept-data-loss", str(1 << 30))
    assert refused.returncode != 0
    assert f"{primary} may still take writes" in refused.stdout + refused.stderr

    done = scene.stack.command("recover", "db", "--accept-data-loss", str(1 << 30), "--confirm-off", primary)
    assert done.returncode == 0, done.stdout + done.stderr
    assert scene.cluster.primary == left
    assert scene.write()
    told = [e.text for e in scene.system.store.incidents.timeline(scene.incident().id)]
    assert any("bytes may be lost (accepted:" in text for text in told), told

    scene.faults.release()
    eventually(scene.whole, BACK_WITHIN_S, "redundancy is back")
