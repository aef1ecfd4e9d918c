"""The class that the design document shows: ours behind it, an existing platform's own object before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_tasks.bootstrap import recovery_system
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.workflows.facades import HighAvailabilityRecoverySystem
from tests.unit.builders import web
from tests.unit.inventory_files import write_inventory
from tests.unit.test_detection import World


class Base:
    """A platform's own recovery object."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked = 0

    def check_system_health(self) -> object:
        self.asked += 1
        return self.answer


def system(world: World, base: Base | None = None) -> HighAvailabilityRecoverySystem:
    return HighAvailabilityRecoverySystem(
        failure_detector=world.detector,
        recovery_orchestrator=world.orchestrator,
        detect_and_recover=world.detect_and_recover,
        base=base,
    )


def test_without_a_base_a_healthy_system_is_healthy() -> None:
    result = system(World(web())).detect_and_recover()

    assert (result.success, result.message) == (True, "System healthy")


@pytest.mark.parametrize("answer", [True, {"status": "fine"}])
def test_a_base_is_asked_first_and_its_content_changes_nothing(answer: object) -> None:
    base = Base(answer)

    assert system(World(web()), base).detect_and_recover().success
    assert base.asked == 1


def test_a_base_that_calls_its_system_unhealthy_is_never_answered_healthy() -> None:
    result = system(World(web()), Base(False)).detect_and_recover()

    assert not result.success
    assert "the platform's own check reports one" in result.message


def test_what_was_recovered_stands_whatever_the_base_said() -> None:
    world = World(web())
    world.health.kinds["web1"] = OutcomeKind.REFUSED

    result = system(world, Base(False)).detect_and_recover("web")

    assert result.success
    assert result.services_recovered == ("web",)


def test_it_is_made_of_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    write_inventory(tmp_path)

    made = recovery_system(tmp_path, Base(True))

    assert made.failure_detector is not None
    assert made.base is not None
