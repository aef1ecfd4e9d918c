"""One's own health checks: found by entry point, run apart, none keeps the others from telling."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from ha_tasks.bootstrap.own_checks import GROUP, EntryPointChecks, own_checks
from ha_tasks.inventory import load
from ha_tasks.model.system_health import Examined
from ha_tasks.ports.action import ActionTools
from tests.fakes.clock import FakeClock
from tests.own_packages import install
from tests.unit.builders import platform, web
from tests.unit.inventory_files import write_inventory

CODE = """
import threading

from ha_tasks.model.system_health import Examined

OVER = threading.Event()


class Check:
    def __init__(self, tools):
        self.tools = tools


class Age(Check):
    def examine(self):
        most = self.tools.settings["most_s"]
        return Examined(subject="orders", check="age", score=0.4, problem="older than " + most, remedy="see",
                        facts={"age_s": 40})


class Raises(Check):
    def examine(self):
        raise RuntimeError("with " + self.tools.secret("token"))


class Hangs(Check):
    def examine(self):
        OVER.wait(30)
        return Examined(subject="late", check="late")


class Odd(Check):
    def examine(self):
        return 0.7
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("acme_checks", None)


def tools(name: str) -> ActionTools:
    return ActionTools(
        name=name,
        platform=platform(web()),
        clock=FakeClock(),
        settings={"most_s": "30"},
        secret=lambda _: "hush-hush",
    )


def found(site: Path, checks: dict[str, str], within_s: float = 5.0) -> dict[str, Examined]:
    install(site, "acme-checks", checks, code=CODE, group=GROUP)
    return {each.subject: each for each in EntryPointChecks(tools, within_s=within_s).examine_all()}


def test_a_check_tells_in_its_own_words_under_its_own_name(site):
    told = found(site, {"acme.age": "acme_checks:Age"})["acme.age"]

    assert (told.check, told.score, told.problem, told.remedy) == ("orders age", 0.4, "older than 30", "see")
    assert told.facts == {"age_s": 40}


def test_one_that_hangs_raises_or_answers_oddly_keeps_the_others_from_nothing(site):
    begun = time.monotonic()
    told = found(
        site,
        {
            "acme.age": "acme_checks:Age",
            "acme.raises": "acme_checks:Raises",
            "acme.hangs": "acme_checks:Hangs",
            "acme.odd": "acme_checks:Odd",
            "acme.gone": "acme_checks:Gone",
        },
        within_s=0.3,
    )

    assert time.monotonic() - begun < 3.0
    assert told["acme.age"].score == 0.4
    assert told["acme.hangs"].problem == "it has not answered within 0.3 s"
    assert "it answered float" in told["acme.odd"].problem
    assert "it raised AttributeError" in told["acme.gone"].problem
    assert told["acme.raises"].score == 0.0
    sys.modules["acme_checks"].OVER.set()


def test_those_that_hang_share_one_deadline(site):
    begun = time.monotonic()
    told = found(site, {f"acme.hangs{n}": "acme_checks:Hangs" for n in range(8)}, within_s=0.5)

    assert time.monotonic() - begun < 2.0
    assert len(told) == 8
    sys.modules["acme_checks"].OVER.set()


def test_a_check_that_hangs_is_not_begun_twice(site):
    install(site, "acme-checks", {"acme.hangs": "acme_checks:Hangs"}, code=CODE, group=GROUP)
    checks = EntryPointChecks(tools, within_s=0.05)

    first, second = checks.examine_all(), checks.examine_all()

    import threading

    running = [thread for thread in threading.enumerate() if thread.name == "check acme.hangs"]
    assert len(running) == 1
    assert first == second
    sys.modules["acme_checks"].OVER.set()


def test_a_name_without_a_dot_is_refused_with_what_mends_it(site):
    [told] = found(site, {"age": "acme_checks:Age"}).values()

    assert told.check == "check age"
    assert told.problem == "is no name for a check of one's own"
    assert told.score == 0.0


def test_a_secret_of_the_inventory_does_not_get_into_a_report(site, tmp_path):
    install(site, "acme-checks", {"acme.raises": "acme_checks:Raises"}, code=CODE, group=GROUP)
    home = tmp_path / "home"
    path = write_inventory(
        home,
        (
            "# One's own health checks",
            '[checks."acme.raises".secrets]\ntoken = { file = "secrets/db-password" }\n\n#',
        ),
    )

    [told] = own_checks(load(path, {}), FakeClock()).examine_all()

    assert told.problem == "it raised RuntimeError: with ***"
