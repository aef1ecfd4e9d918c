"""One's own actions: found by entry point, kept to the contract, none keeps the others from working."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ha_tasks.bootstrap import assemble
from ha_tasks.bootstrap.own_actions import Actions, load, offered
from ha_tasks.cli.root import run
from ha_tasks.disaster_recovery.playbooks import load_playbooks
from ha_tasks.disaster_recovery.recovery_planner import RecoveryPlanner
from ha_tasks.errors import ActionFailed, InventoryError, PassingFailure, PlaybookError
from ha_tasks.inventory import load as load_inventory
from ha_tasks.inventory import read
from ha_tasks.model.action import Offer, Takes, Traits, is_own_name, sifted
from ha_tasks.model.playbook import Plan, PlannedStep, PlaybookStep, VerifySettings
from ha_tasks.model.run import RunState, StepState
from ha_tasks.monitoring.labels import LabelRegistry
from ha_tasks.names import Counter
from ha_tasks.ports.action import ActionTools, StepContext
from ha_tasks.store import Store
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.register import register
from ha_tasks.tasks.runtime import Runtime
from tests.fakes.action import FakeAction
from tests.fakes.clock import START, FakeClock
from tests.own_packages import install
from tests.plans import new_run, plan_of
from tests.unit.builders import platform, web
from tests.unit.inventory_files import write_inventory
from tests.unit.test_planner import WEB1
from tests.unit.test_recovery_orchestrator import A, V, World, planned

CODE = """
from ha_tasks.errors import PassingFailure
from ha_tasks.model.action import Takes
from ha_tasks.workflows.actions.base import PlainAction


class Flush(PlainAction):
    '''Flushes it.'''

    takes = Takes(needed=("zone",))

    def __init__(self, tools):
        self.tools = tools

    def do(self, ctx):
        zone = ctx.args["zone"]
        if zone == "raises":
            raise ValueError("with " + self.tools.secret("token"))
        if zone == "passes":
            raise PassingFailure("busy with " + self.tools.secret("token"))
        if zone == "set":
            return {"zones": {1, 2}}
        return {"zone": zone, "setting": self.tools.settings["zone"]}


def flush(tools):
    return Flush(tools)


def broken(tools):
    raise RuntimeError("no " + tools.secret("token"))


def nothing(tools):
    return object()


def leave(tools):
    raise SystemExit(3)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of packages that Python looks into."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    return directory


def tools_for(name: str) -> ActionTools:
    return ActionTools(
        name=name,
        platform=platform(),
        clock=FakeClock(),
        settings={"zone": "www"},
        secret=lambda _: "hush-hush",
    )


def context(**args: str) -> StepContext:
    return StepContext(
        run=1,
        step=1,
        key="run-1-step-1",
        service=web(),
        incident=None,
        args=args,
        captured={},
        outputs={},
        fence=1,
        verify=VerifySettings(),
        remaining_s=lambda: 5.0,
        lost=lambda: False,
    )


@pytest.mark.parametrize(
    ("word", "good"),
    [
        ("acme.cdn_mode", True),
        ("acme.cdn.flush", True),
        ("flush_cdn", False),
        ("take_out", False),
        ("Acme.flush", False),
        ("acme.", False),
        (".flush", False),
        ("acme.flush cdn", False),
        ("acme." + "x" * 60, False),
    ],
)
def test_the_name_of_an_own_action_has_a_dot(word: str, good: bool):
    assert is_own_name(word) is good


def test_a_name_that_two_packages_offer_is_taken_from_neither():
    mine, yours = (Offer(name="acme.flush", provider=f"{p} 1", target="m:f") for p in ("mine", "yours"))
    other = Offer(name="acme.warm", provider="mine 1", target="m:g")

    good, faults = sifted([yours, other, mine])

    assert good == (other,)
    assert [str(fault) for fault in faults] == [
        "mine 1: action acme.flush: is offered by yours 1 too; uninstall all but one of them",
        "yours 1: action acme.flush: is offered by mine 1 too; uninstall all but one of them",
    ]


def test_what_a_package_offers_is_found_and_used(site: Path):
    install(site, "acme-one", {"acme.flush": "acme_one:flush"}, version="2.1", code=CODE)

    loaded = load(tools_for)

    action = loaded.actions["acme.flush"]
    assert action.do(context(zone="eu")) == {"zone": "eu", "setting": "www"}
    assert (action.takes, action.undoes) == (Takes(needed=("zone",)), False)
    assert loaded.offers["acme.flush"].provider == "acme-one 2.1"
    assert loaded.faults == ()


def test_what_is_wrong_with_one_is_told_with_its_package_and_keeps_no_other_from_working(
    site: Path, caplog: pytest.LogCaptureFixture
):
    install(
        site,
        "acme-two",
        {
            "acme.flush": "acme_two:flush",
            "flush": "acme_two:flush",
            "acme.broken": "acme_two:broken",
            "acme.lost": "acme_two:nowhere",
            "acme.nothing": "acme_two:nothing",
            "acme.leave": "acme_two:leave",
        },
        code=CODE,
    )
    install(site, "acme-gone", {"acme.gone": "acme_gone:flush"})

    loaded = load(tools_for)

    assert list(loaded.actions) == ["acme.flush"]
    said = {fault.key: f"{fault.file}: {fault.problem}" for fault in loaded.faults}
    assert said == {
        "action flush": "acme-two 1.0: is no name for an action of one's own",
        "action acme.broken": "acme-two 1.0: acme_two:broken cannot be loaded: RuntimeError: no ***",
        "action acme.gone": "acme-gone 1.0: acme_gone:flush cannot be loaded: "
        "ModuleNotFoundError: No module named 'acme_gone'",
        "action acme.leave": "acme-two 1.0: acme_two:leave cannot be loaded: SystemExit: 3",
        "action acme.lost": "acme-two 1.0: acme_two:nowhere cannot be loaded: "
        "AttributeError: module 'acme_two' has no attribute 'nowhere'",
        "action acme.nothing": "acme-two 1.0: acme_two:nothing answered no Action: "
        "it has no plan, capture, check, do, verify, undo",
    }
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) == len(said)


def test_names_are_read_without_importing_anything(site: Path):
    install(site, "acme-bomb", {"acme.bomb": "acme_bomb:make"}, code="raise SystemExit('imported')")

    names, faults = offered()

    assert list(names) == ["acme.bomb"]
    assert faults == ()


@pytest.mark.parametrize(
    ("zone", "kind", "said"),
    [
        ("raises", ActionFailed, r"acme-three 1\.0: ValueError: with \*\*\*"),
        ("passes", PassingFailure, r"busy with \*\*\*"),
        ("set", ActionFailed, r"acme-three 1\.0: do\(\) answered no plain JSON object"),
    ],
)
def test_an_own_action_is_kept_to_the_contract_and_tells_no_secret(
    site: Path, zone: str, kind: type[Exception], said: str
):
    install(site, "acme-three", {"acme.flush": "acme_three:flush"}, code=CODE)
    action = load(tools_for).actions["acme.flush"]

    with pytest.raises(kind, match=said):
        action.do(context(zone=zone))


def test_an_action_that_is_not_installed_says_what_to_install():
    actions = Actions({})
    ctx = context()

    assert "acme.flush" not in actions
    verbs = [
        getattr(actions["acme.flush"], verb) for verb in ("plan", "capture", "check", "do", "verify", "undo")
    ]
    for verb in verbs:
        with pytest.raises(
            ActionFailed, match=r"acme\.flush is not installed here; install the package that"
        ):
            verb(ctx)


def test_an_action_that_cannot_be_loaded_says_why(site: Path):
    install(site, "acme-gone", {"acme.gone": "acme_gone:flush"})

    action = Actions({}, load(tools_for).faults)["acme.gone"]

    with pytest.raises(ActionFailed, match=r"acme\.gone of acme-gone 1\.0 cannot be used: .*ModuleNotFound"):
        action.do(context())


def test_a_system_has_them_with_their_settings_and_secrets_from_the_inventory(site: Path, tmp_path: Path):
    install(site, "acme-four", {"acme.flush": "acme_four:flush"}, code=CODE)
    path = write_inventory(tmp_path / "home")
    (tmp_path / "home" / "secrets" / "cdn").write_text("very-secret\n")
    (tmp_path / "home" / "secrets" / "cdn").chmod(0o600)
    path.write_text(
        path.read_text()
        + '\n[actions."acme.flush"]\nsettings = { zone = "blog" }\n'
        + 'secrets = { token = { file = "secrets/cdn" } }\n'
    )
    inventory = load_inventory(path, {})

    system = assemble(inventory, environ={})

    assert system.actions["acme.flush"].do(context(zone="x")) == {"zone": "x", "setting": "blog"}
    assert inventory.secret_of("acme.flush", "token") == "very-secret"
    with pytest.raises(InventoryError, match=r"actions\.acme\.flush\.secrets\.key: is missing; add"):
        inventory.secret_of("acme.flush", "key")
    with pytest.raises(ActionFailed, match=r"acme-four 1\.0: ValueError: with \*\*\*"):
        system.actions["acme.flush"].do(context(zone="raises"))
    assert "take_out" in system.actions


def test_a_secret_of_an_action_that_leads_nowhere_is_a_fault_of_the_inventory(tmp_path: Path):
    path = write_inventory(tmp_path)
    path.write_text(path.read_text() + '\n[actions."acme.flush".secrets]\ntoken = { file = "secrets/no" }\n')

    (fault,) = read(path, {}).faults

    assert fault.key == "actions.acme.flush.secrets.token"
    assert "does not exist" in fault.problem


def test_a_table_for_an_action_without_a_dot_is_a_fault_of_the_inventory(tmp_path: Path):
    path = write_inventory(tmp_path)
    path.write_text(path.read_text() + '\n[actions.flush]\nsettings = { zone = "www" }\n')

    (fault,) = read(path, {}).faults

    assert 'is no name of one\'s own action; like [actions."acme.cdn_mode"]' in str(fault)


def test_they_are_tasks_and_labels_under_their_names(site: Path, tmp_path: Path):
    install(site, "acme-five", {"acme.flush": "acme_five:flush", "acme.gone": "nowhere:f"}, code=CODE)
    inventory = load_inventory(write_inventory(tmp_path / "home"), {})
    app = make_app("redis://127.0.0.1:1/0")

    register(app, Runtime(app, inventory))

    assert {"ha.step.acme.flush", "ha.undo.acme.flush", "ha.step.acme.gone"} <= set(app.tasks)
    labels = LabelRegistry(inventory.platform, offered()[0])
    assert labels.value("step", "acme.flush") == "acme.flush"
    assert labels.value("step", "acme.other") == "other"
    assert ("acme.flush",) not in set(labels.expected(Counter.RECOVERIES))


def flushing() -> World:
    """A run whose second step's action no package offers."""
    world = World(planned(1, A), planned(2, "acme.flush", provider="acme-cdn 1.2"), planned(3, V))
    world.actions = Actions(world.actions)
    world.worker = world.executor("h/w2/2")
    world.deliver()
    return world


def test_a_step_that_no_worker_can_take_ends_the_run_and_says_what_to_install():
    world = flushing()
    lost = world.broker.take()

    world.clock.advance(3.0)
    world.worker.sweep()

    assert world.broker.take().task == lost.task == "ha.step.acme.flush"
    world.clock.advance(8.0)
    world.worker.sweep()
    assert world.state.step(2).state is StepState.FAILED
    assert "action acme.flush is not installed here; install acme-cdn 1.2 where" in world.state.error
    assert world.finish().state is RunState.COMPENSATION_FAILED
    assert "do take_out" in world.log


def test_a_sweeper_that_has_the_action_goes_on_sending_it():
    world = flushing()
    world.actions = Actions({**world.actions, "acme.flush": FakeAction(world.log, "acme.flush")})
    other = world.executor("h/w3/3")
    world.broker.messages.clear()

    world.clock.advance(20.0)
    other.sweep()

    assert world.finish(other).state is RunState.SUCCEEDED


def test_a_plan_names_the_package_of_each_own_action_and_is_refused_without_it(tmp_path: Path):
    site_platform = load_inventory(write_inventory(tmp_path), {}).platform
    http = next(p for p in load_playbooks() if p.name == "http-instance")
    flush = PlaybookStep(id="flush", action="acme.flush")
    mine = replace(http, name="mine", priority=1, steps=(*http.steps, flush))

    def plan(own: Mapping[str, Traits]) -> Plan:
        return RecoveryPlanner(site_platform, [http, mine], own).create_recovery_plan(WEB1)

    assert plan({"acme.flush": Traits(provider="acme-cdn 1.2")}).steps[-2].provider == "acme-cdn 1.2"
    with pytest.raises(PlaybookError, match=r"mine: step flush: action acme\.flush: no installed package"):
        plan({})
    with pytest.raises(PlaybookError, match=r"mine: step flush: action acme\.flush: acme 1: it is broken"):
        plan({"acme.flush": Traits(missing="acme 1: it is broken")})


def test_why_an_offer_cannot_be_used_is_known_by_its_name(site: Path):
    install(site, "acme-gone", {"acme.gone": "acme_gone:flush"})
    install(site, "acme-six", {"acme.flush": "acme_six:flush"}, code=CODE)

    traits = load(tools_for).traits

    assert traits["acme.gone"].missing.startswith("acme-gone 1.0: acme_gone:flush cannot be loaded: Module")
    assert traits["acme.flush"] == Traits(
        takes=Takes(needed=("zone",)), undoes=False, limit_s=240, provider="acme-six 1.0"
    )


def test_a_journal_that_names_an_action_which_is_not_installed_is_read_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    home = write_inventory(tmp_path / "home").parent
    monkeypatch.setenv("HA_TASKS_HOME", str(home))
    assert run(["migrate"]) == 0
    store = Store(f"sqlite:///{home}/ha.db")
    steps = (plan_step(1, "acme.flush", provider="acme-cdn 1.2"), plan_step(2, V))
    made, _ = store.journal.create(new_run(plan_of(*steps, scope="web")), START)
    store.dispose()
    capsys.readouterr()

    for command in (["status"], ["run"], ["run", str(made.id)], ["run", str(made.id), "--json"]):
        assert run(command) == 0, command
    said = capsys.readouterr().out
    assert '"action": "acme.flush"' in said
    assert '"provider": "acme-cdn 1.2"' in said


def plan_step(no: int, action: str, provider: str = "") -> PlannedStep:
    return replace(planned(no, action), provider=provider)
