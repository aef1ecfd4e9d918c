"""A revision is applied while a recovery runs: real workers on a real broker, each with a file of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ha_tasks.bootstrap import System, assemble, load_inventory
from ha_tasks.cli.root import run as command
from ha_tasks.model.incident import IncidentKind
from ha_tasks.model.run import TERMINAL, Run, RunState
from ha_tasks.ports.ledger import Worker
from ha_tasks.ports.repositories import NewRun
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.dispatch import CeleryDispatch
from ha_tasks.workflows.revisions import BELIEVED_FOR_S
from tests.integration.broker_stage import ROOT, await_
from tests.own_packages import install
from tests.valkey_server import PASSWORD, ValkeyServer, valkey_server

GATES = "HA_TASKS_TEST_GATES"
CODE = f"""
import os, time
from pathlib import Path
from ha_tasks.errors import PassingFailure
from ha_tasks.workflows.actions.base import PlainAction

class Gate(PlainAction):
    def do(self, ctx):
        gates, step = Path(os.environ["{GATES}"]), f"{{ctx.run}}-{{ctx.step}}"
        (gates / f"begun-{{step}}").touch()
        while not (gates / f"open-{{step}}").exists():
            if ctx.remaining_s() < 0:
                raise PassingFailure("nobody opened the gate")
            time.sleep(0.02)
        # What the inventory says under which this step is taken, and by whom it is.
        (gates / f"took-{{step}}").write_text(f"{{ctx.service.rto_s:g}} {{os.environ['HA_TASKS_PROCESS']}}")
        return {{}}

def gate(_):
    return Gate()
"""
PLAYBOOK = """\
schema = 1
name = "three-gates"
version = 1
summary = "three gates"
recovery_type = "restart"
priority = 99
[match]
incident = "instance_down"
kind = "http"
"""


@dataclass
class Stage:
    """One store and one broker; the file of each worker is a copy in a directory of its own."""

    home: Path
    broker: ValkeyServer
    entry: str
    """``host:port`` where what is verified at the end of a run answers."""
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    orders: int = 0

    def __post_init__(self) -> None:
        (self.home / "secrets").mkdir()
        (self.home / "secrets" / "broker").write_text(PASSWORD)
        (self.home / "secrets" / "broker").chmod(0o600)
        (self.home / "gates").mkdir()
        (self.home / "playbooks").mkdir()
        steps = "".join(f'[[step]]\nid = "gate-{n}"\naction = "test.gate"\n' for n in (1, 2, 3))
        (self.home / "playbooks" / "three-gates.toml").write_text(PLAYBOOK + steps)
        install(self.home / "site", "gates", {"test.gate": "gates:gate"}, code=CODE)
        self.write(rto_s=30)

    @property
    def file(self) -> Path:
        return self.home / "ha-tasks.toml"

    def write(self, *, rto_s: int) -> None:
        self.file.write_text(f"""\
schema = 1
[platform]
name = "revisions"
[store]
url = "sqlite:///{self.home / "ha.db"}"
[broker]
url = "{self.broker.url}"
password = {{ file = "{self.home / "secrets" / "broker"}" }}
[audit]
heads = "{self.home / "heads.jsonl"}"
[playbooks]
directories = ["{self.home / "playbooks"}"]
[policies]
lease_s = 1.5
[balancers.edge]
socket = "unix:///nowhere"
[services.web]
kind = "http"
rto_s = {rto_s}
[services.web.routing]
backend = "web"
entry = "http://{self.entry}/"
[[services.web.instances]]
name = "web1"
address = "{self.entry}"
""")

    def system(self) -> System:
        """A process of this moment's file."""
        inventory = load_inventory(self.home, {})
        dispatch = CeleryDispatch(make_app(inventory.broker_url()))
        return assemble(inventory, dispatch=dispatch, environ={"HA_TASKS_PROCESS": "test"})

    def deploy(self, name: str) -> None:
        """The file as it is now, to one worker."""
        (self.home / name).mkdir(exist_ok=True)
        shutil.copy(self.file, self.home / name / "ha-tasks.toml")

    def start(self, name: str) -> None:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("HA_TASKS")}
        environment = plain | {
            "HA_TASKS_HOME": str(self.home / name),
            "HA_TASKS_PROCESS": name,
            GATES: str(self.home / "gates"),
            "PYTHONPATH": os.pathsep.join([str(self.home / "site"), str(ROOT)]),
        }
        arguments = [
            "worker",
            "-P",
            "threads",
            "-c",
            "4",
            "-n",
            f"{name}@%h",
            "--loglevel=INFO",
            "--without-mingle",
            "--without-gossip",
        ]
        with (self.home / f"{name}.log").open("ab") as log:
            self.workers[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "workers.app", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.home,
            )

    def kill(self, name: str) -> None:
        self.workers[name].kill()
        self.workers[name].wait(10)

    def order(self, system: System) -> Run:
        """A run of the three gates, planned and sent by that process."""
        self.orders += 1
        now = system.clock.now()
        incident, _ = system.store.incidents.open(
            key=f"case-{self.orders}",
            service="web",
            instance="web1",
            kind=IncidentKind.INSTANCE_DOWN,
            severity="warning",
            summary="a test",
            fault_at=now,
            now=now,
            actor="test",
            evidence={},
        )
        plan = system.planner.create_recovery_plan(incident)
        new = NewRun(
            plan=replace(plan, scope=f"case-{self.orders}"),
            incident=incident.id,
            mode="drill",
            requested_by="test",
            reason="a test",
            idempotency_key=f"case-{self.orders}",
            revision=system.revision.standing().own,
        )
        made, message = system.store.journal.create(new, now)
        assert message is not None
        system.orchestrator.send(message)
        return made

    def open(self, run: Run, step: int) -> None:
        (self.home / "gates" / f"open-{run.id}-{step}").touch()

    def begun(self, run: Run, step: int) -> bool:
        return (self.home / "gates" / f"begun-{run.id}-{step}").exists()

    def took(self, run: Run) -> list[str]:
        """For each step: the objective that the inventory said, and the worker."""
        return [(self.home / "gates" / f"took-{run.id}-{n}").read_text() for n in (1, 2, 3)]

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()


class Answers(BaseHTTPRequestHandler):
    """200 to every GET."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def answering() -> Iterator[str]:
    """``host:port`` of a service that answers as long as the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Migrated, nothing applied, no worker."""
    for variable in [name for name in os.environ if name.startswith("HA_TASKS")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HA_TASKS_HOME", str(tmp_path))
    with valkey_server(tmp_path) as broker, answering() as entry:
        made = Stage(tmp_path, broker, entry)
        monkeypatch.syspath_prepend(tmp_path / "site")
        assert command(["migrate"]) == 0
        yield made
        for name in made.workers:
            made.kill(name)


def test_a_run_ends_under_its_revision_and_workers_with_an_old_file_take_no_new_work(
    stage: Stage, capsys: pytest.CaptureFixture[str]
):
    assert command(["apply", "--yes"]) == 0
    old = stage.system()
    for name in ("early", "late"):
        stage.deploy(name)
    stage.start("early")
    first = stage.order(old)
    await_(lambda: stage.begun(first, 1), "a worker is at the first step")

    stage.write(rto_s=11)
    assert command(["apply", "--yes", "--reason", "tighter"]) == 0
    assert f"run {first.id}: three-gates on" in capsys.readouterr().out
    applied_at = time.monotonic()
    stage.start("late")
    new = stage.system()

    def sweep_until(condition: object, what: str) -> None:
        await_(lambda: (new.orchestrator.sweep(), condition())[1], what, 20.0)  # type: ignore[operator]

    says = "takes no new work: this process has revision 1, applied is 2"
    sweep_until(lambda: revisions(new) == {"early": 1, "late": 1}, "both report what they have")
    await_(lambda: time.monotonic() > applied_at + BELIEVED_FOR_S, "nobody believes in the old one")
    second = stage.order(new)
    sweep_until(lambda: says in stage.log("early") and says in stage.log("late"), "both workers say so")
    assert command(["status"]) == 0
    shown = capsys.readouterr().out
    assert "/late has revision 1, applied is 2, so it takes no new work: deploy the applied file" in shown
    assert not new.store.journal.attempts(second.id), (stage.log("early"), stage.log("late"))

    # What is under way goes on: by a worker of its own revision, and by one that has loaded the next.
    stage.open(first, 1)
    sweep_until(lambda: stage.begun(first, 2), "the run goes on under its revision")
    stage.deploy("late")
    sweep_until(lambda: stage.begun(second, 1), "a worker with the applied file takes the other run")
    stage.kill("early")
    for step in (1, 2, 3):
        stage.open(first, step)
        stage.open(second, step)
    sweep_until(lambda: ended(new, first) and ended(new, second), "both runs end")

    assert [new.store.journal.get(r.id).state for r in (first, second)] == [RunState.SUCCEEDED] * 2
    assert [new.store.journal.get(r.id).revision for r in (first, second)] == [1, 2]
    assert stage.took(first)[0] == "30 early"
    assert stage.took(first)[2] == "30 late"
    assert stage.took(second) == ["11 late"] * 3
    assert "this process has loaded revision 2 of the inventory" in stage.log("late")
    sweep_until(lambda: revisions(new).get("late") == 2, "the worker reports what it has now")
    assert command(["audit", "verify"]) == 0


def ended(system: System, run: Run) -> bool:
    return system.store.journal.get(run.id).state in TERMINAL


def revisions(system: System) -> dict[str, int | None]:
    """What each worker says that it has."""
    workers: tuple[Worker, ...] = system.store.ledger.workers(system.clock.now().replace(year=2000))
    return {w.name.rpartition("/")[2]: w.revision for w in workers}
