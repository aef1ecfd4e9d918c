"""Who may begin what under which revision of the inventory: from the store to the command line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ha_tasks.bootstrap import System, assemble, load_inventory
from ha_tasks.bootstrap.revisions import changes_of
from ha_tasks.cli import status
from ha_tasks.cli.lines import text_of
from ha_tasks.cli.root import run
from ha_tasks.errors import InventoryError, StoreUnreachable
from ha_tasks.inventory import at_revision
from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.guards import Guard
from ha_tasks.model.incident import IncidentState
from ha_tasks.model.probe import OutcomeKind
from ha_tasks.model.revision import NOTHING_APPLIED, Standing, standing_of
from ha_tasks.model.run import Phase, RunState
from ha_tasks.ports.ledger import Worker
from ha_tasks.recovery.recovery_orchestrator import RecoveryOrchestrator
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.runtime import Runtime
from ha_tasks.workflows.revisions import BELIEVED_FOR_S, RevisionWatch
from tests.fakes.clock import FakeClock
from tests.fakes.repositories import FakeStore
from tests.fakes.revisions import FakeRevisions
from tests.plans import NOW, at
from tests.unit.builders import platform, web
from tests.unit.inventory_files import write_inventory
from tests.unit.test_detection import World as Platform
from tests.unit.test_recovery_orchestrator import THREE, World
from workers.lifecycle import Heartbeat

OLD, NEW = {"schema": 1}, {"schema": 2}
REFUSED = OutcomeKind.REFUSED


class Deaf(FakeRevisions):
    """Does not answer."""

    def place(self, sha256: str) -> tuple[int | None, int | None]:
        raise StoreUnreachable("away")


# where a process stands


def test_a_process_is_asked_for_its_standing_and_the_store_at_most_once_a_second(
    caplog: pytest.LogCaptureFixture,
):
    revisions, clock = FakeRevisions(), FakeClock()
    old = revisions.apply(OLD, (), actor="ann", reason="", now=NOW, onto=None)
    watch = RevisionWatch(revisions=revisions, sha256=old.sha256, clock=clock)
    assert watch.standing() == Standing(own=1)

    revisions.apply(NEW, (), actor="ann", reason="", now=NOW, onto=1)

    assert watch.problem() is None
    clock.advance(BELIEVED_FOR_S)
    assert "this process has revision 1, applied is 2" in (watch.problem() or "")
    clock.advance(BELIEVED_FOR_S)
    assert watch.standing().own == 1
    revisions.apply(OLD, (), actor="ann", reason="", now=NOW, onto=2)
    clock.advance(BELIEVED_FOR_S)
    assert watch.standing() == Standing(own=3)
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
        "this process takes no new work",
        "this process takes work again, under revision 3",
    ]


def test_a_store_that_does_not_answer_is_no_standing():
    with pytest.raises(StoreUnreachable):
        RevisionWatch(revisions=Deaf(), sha256="", clock=FakeClock()).standing()


# beginning runs


class Revised(Platform):
    """A platform whose processes stand where a test says; web1 is dead."""

    def __init__(self, standing: Standing) -> None:
        self.stands = standing
        super().__init__(web())
        self.health.kinds["web1"] = REFUSED

    def standing(self) -> Standing:
        return self.stands


def test_without_an_applied_revision_everything_is_seen_and_nothing_is_done():
    world = Revised(standing_of(None, None))

    world.rounds(6)

    (incident,) = world.incidents
    assert incident.state is IncidentState.BLOCKED
    assert world.store.journal.recent() == ()
    said = world.store.incidents.timeline(incident.id)[-1].text
    assert f"refused by {Guard.REVISION}: {NOTHING_APPLIED}" in said


def test_a_run_bears_the_revision_of_the_process_that_started_it():
    world = Revised(standing_of(4, 4))

    world.rounds(6)

    assert [run.revision for run in world.store.journal.recent()] == [4]


def test_what_an_old_process_was_refused_a_current_one_starts():
    world = Revised(standing_of(3, 4))
    world.rounds(6)
    assert [i.state for i in world.incidents] == [IncidentState.BLOCKED]

    world.stands = standing_of(4, 4)
    world.rounds(2)

    assert [i.state for i in world.incidents] == [IncidentState.RECOVERING]


# taking steps


class Steps(World):
    """A run of some revision, and executors that stand where a test says."""

    def __init__(self, revision: int | None) -> None:
        super().__init__(*THREE)
        entry = self.store.journal.entries[self.run.id]
        entry.run = self.run = replace(entry.run, revision=revision)
        self.older: list[int] = []

    def stands(self, own: int | None, applied: int | None) -> RecoveryOrchestrator:
        made = self.executor(f"h/has-{own}/1")
        made._standing = lambda: standing_of(own, applied)
        made._under = self.under
        return made

    def under(self, revision: int) -> RecoveryOrchestrator:
        self.older.append(revision)
        return self.executor("h/older/1")


@pytest.mark.parametrize(
    ("own", "applied", "revision", "taken"),
    [
        (3, 4, 3, True),
        (3, 4, 4, False),
        (3, 4, None, False),
        (None, 4, 4, False),
        (None, 4, None, True),
        (None, None, None, True),
        (4, 4, 4, True),
        (4, 4, 3, True),
        (4, 4, None, True),
    ],
)
def test_an_old_process_lets_steps_go_but_those_of_its_own_revision(
    own: int | None, applied: int | None, revision: int | None, taken: bool
):
    world = Steps(revision)

    done = world.deliver(world.stands(own, applied))

    assert done.taken is taken
    assert (world.state.fence == 0) is not taken
    assert taken or "applied is 4" in done.error


def test_a_step_that_was_let_go_is_sent_again_and_taken_by_another():
    world = Steps(4)
    world.deliver(world.stands(3, 4))

    assert world.finish(world.stands(4, 4)).state is RunState.SUCCEEDED
    assert world.older == []


def test_a_message_about_a_run_that_does_not_exist_is_nothing_to_an_old_process():
    assert not Steps(3).stands(3, 4).advance(99, 1, Phase.DO).taken


def test_a_run_of_an_older_revision_goes_on_as_of_that_revision():
    world = Steps(3)

    assert world.finish(world.stands(4, 4)).state is RunState.SUCCEEDED
    assert set(world.older) == {3}


# the real parts on a real store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a migrated store in which nothing is applied yet."""
    path = write_inventory(tmp_path)
    monkeypatch.setenv("HA_TASKS_HOME", str(path.parent))
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    assert run(["migrate"]) == 0
    return path.parent


def edit(home: Path, old: str = "rto_s = 30", new: str = "rto_s = 11") -> None:
    """Changes the file."""
    file = home / "ha-tasks.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


@pytest.fixture
def system(home: Path) -> Iterator[System]:
    """A process of that home."""
    made = assemble(load_inventory(home), environ={})
    yield made
    made.store.dispose()


def test_a_comment_and_an_override_are_no_other_revision_and_a_setting_is(home: Path):
    before = load_inventory(home, {}).sha256
    (home / "ha-tasks.toml").write_text(f"# seen\n{(home / 'ha-tasks.toml').read_text()}")

    assert load_inventory(home, {"HA_TASKS__SERVICES__WEB__RTO_S": "9"}).sha256 == before
    edit(home)
    assert load_inventory(home, {}).sha256 != before


def test_no_secret_and_nothing_of_the_environment_is_kept_with_a_revision(home: Path):
    secret = {"HA_TASKS__BROKER__URL": "redis://:hidden-broker@127.0.0.1:6379/0"}
    made = assemble(load_inventory(home, secret), environ=secret)

    kept = json.dumps(made.apply("ann", "first").body)

    assert "hidden-broker" not in kept
    assert "hush-hush" not in kept
    assert "secrets/db-password" in kept
    made.store.dispose()


def test_the_parts_as_of_an_older_revision_say_what_it_said(home: Path, system: System):
    system.apply("ann", "first")
    edit(home)
    newer = assemble(load_inventory(home), environ={})
    newer.apply("ann", "second")

    older = newer.under(1)

    assert newer.platform.services["web"].rto_s == 11
    assert older.platform.services["web"].rto_s == 30
    assert older is newer.under(1)
    assert older.store is newer.store
    assert older.inventory.secret_for("db") == newer.inventory.secret_for("db") == "hush-hush"
    newer.store.dispose()


def test_a_revision_that_cannot_be_read_here_is_told_and_the_own_one_used(
    system: System, caplog: pytest.LogCaptureFixture
):
    assert system.under(9) is system
    assert "revision 9 cannot be read here" in caplog.text
    with pytest.raises(InventoryError, match="an applied revision cannot be read"):
        at_revision(system.inventory, {"schema": 99}, {})


def test_defaults_are_filled_in_before_two_revisions_are_compared(home: Path, system: System):
    system.apply("ann", "first")
    edit(home, "\nrto_s = 30", "\n# rto_s = 30")
    left_out = load_inventory(home, {})

    assert left_out.sha256 != system.inventory.sha256
    assert changes_of(left_out, system.store.revisions.newest()) == ()


# processes that run on


@pytest.fixture
def runtime(home: Path) -> Iterator[Runtime]:
    """A process with revision 1, which is applied."""
    assert run(["apply", "--yes"]) == 0
    inventory = load_inventory(home)
    made = Runtime(make_app(inventory.broker_url()), inventory)
    yield made
    made.system().store.dispose()


def test_a_process_loads_its_file_once_that_is_the_applied_revision(home: Path, runtime: Runtime):
    old = runtime.system()
    edit(home)
    assert runtime.revision(old.store.revisions) == 1, "an edit that was not applied changes nothing"

    assert run(["apply", "--yes"]) == 0

    assert runtime.system() is not old
    assert runtime.system().platform.services["web"].rto_s == 11


def test_a_heartbeat_may_be_the_first_to_find_that_the_file_is_applied(home: Path, runtime: Runtime):
    old = runtime.system()
    edit(home)
    assert run(["apply", "--yes"]) == 0

    assert runtime.revision(old.store.revisions) == 2
    assert runtime.system() is not old


def test_a_process_reports_itself_also_while_the_file_is_being_edited(home: Path, runtime: Runtime):
    """Or a slip in the file would make a whole control plane look dead."""
    system = runtime.system()
    (home / "ha-tasks.toml").write_text("schema = 1\nbogus = 3\n", "utf-8")

    Heartbeat("worker", runtime).beat()

    lately = system.clock.now() - timedelta(minutes=1)
    assert [worker.kind for worker in system.store.ledger.workers(lately)] == ["worker"]


@pytest.mark.parametrize("now", ["rto_s = 12", "rto_s = 'no number'"], ids=["another edit", "a wrong file"])
def test_a_process_whose_file_is_not_the_applied_one_keeps_what_it_has(
    home: Path, runtime: Runtime, now: str
):
    system = runtime.system()
    right = (home / "ha-tasks.toml").read_text()
    edit(home)
    assert run(["apply", "--yes"]) == 0
    (home / "ha-tasks.toml").write_text(right.replace("rto_s = 30", now, 1))

    assert runtime.revision(system.store.revisions) == 1
    assert runtime.system() is system
    assert "this process has revision 1, applied is 2" in (system.revision.problem() or "")


def test_another_broker_needs_a_restart(home: Path, runtime: Runtime, caplog: pytest.LogCaptureFixture):
    system = runtime.system()
    edit(home, "redis://127.0.0.1:6379/0", "redis://127.0.0.1:6380/0")
    assert run(["apply", "--yes"]) == 0

    assert [runtime.revision(system.store.revisions) for _ in range(2)] == [1, 1]

    assert runtime.system() is system
    told = [r.getMessage() for r in caplog.records if "restart this process" in r.getMessage()]
    assert told == ["revision 2 has another store or broker: restart this process"]


def test_a_store_that_is_away_leaves_a_process_as_it_is(home: Path, runtime: Runtime):
    system = runtime.system()
    edit(home)
    (home / "ha.db").rename(home / "away.db")

    assert runtime.system() is system
    with pytest.raises(StoreUnreachable):
        system.revision.problem()


# the command


def test_nobody_is_asked_where_nobody_can_answer(home: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["apply", "--json"]) == 2
    assert "nobody can be asked here" in capsys.readouterr().err
    assert run(["apply", "--dry-run"]) == 0
    assert "+ services.web (http: web1, web2, web3)" in capsys.readouterr().out


def test_the_first_apply_and_the_next_and_the_same_again(home: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["apply", "--yes", "--reason", "first"]) == 0
    assert "revision 1 is applied" in capsys.readouterr().out
    edit(home)

    assert run(["apply", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "~ services.web.rto_s 30.0 -> 11" in shown
    assert "is applied" not in shown
    assert run(["apply", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["revision"], told["onto"], told["applied"]) == (2, 1, True)
    assert [c["key"] for c in told["changes"]] == ["services.web.rto_s"]
    assert run(["apply"]) == 0
    assert "the file is revision 2, which is applied: nothing to do" in capsys.readouterr().out


def test_what_would_make_a_failover_unsafe_is_refused_unless_somebody_insists(
    home: Path, system: System, capsys: pytest.CaptureFixture[str]
):
    system.apply("ann", "first")
    system.store.clusters.register(
        Cluster(
            name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=(sync_set_of(["pg2", "pg3"]),)
        ),
        NOW,
    )
    text = (home / "ha-tasks.toml").read_text()
    node = text[text.index('[[services.db.instances]]\nname = "pg3"') :].partition("\n\n")[0]
    (home / "ha-tasks.toml").write_text(text.replace(node, ""))

    assert run(["apply", "--yes"]) == 3

    answer = capsys.readouterr()
    assert "refused pg3: the synchronous set of db names it (ANY 1 (pg2, pg3))" in answer.out
    assert "pg3: refused, nothing was applied" in answer.err
    assert system.store.revisions.place("")[1] == 1
    assert run(["apply", "--yes", "--insist"]) == 0
    assert system.store.revisions.place("")[1] == 2


def test_a_file_that_is_wrong_is_not_applied(home: Path, capsys: pytest.CaptureFixture[str]):
    edit(home, "rto_s = 30", "rto_s = -1")

    assert run(["apply", "--yes"]) == 2
    assert "services.web.rto_s" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "status", "applied"), [("y", 0, 1), ("n", 130, None)])
def test_on_a_terminal_it_is_shown_and_asked_first(
    home: Path, system: System, answer: str, status: int, applied: int | None
):
    here, there = pty.openpty()
    command = [sys.executable, "-m", "ha_tasks.cli", "--home", str(home), "apply"]
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there) as process:
        os.close(there)
        shown = b""
        while b"apply it? [y/N]:" not in shown:
            shown += os.read(here, 4096)
        os.write(here, f"{answer}\n".encode())
        assert process.wait(20) == status
    os.close(here)

    assert b"services.web" in shown
    assert system.store.revisions.place("")[1] == applied


# who is told


def shown_status(store: FakeStore, *workers: tuple[str, str, int | None]) -> list[str]:
    """The lines of ``status`` with these (name, kind, revision) alive."""
    for name, kind, revision in workers:
        store.ledger.heartbeat(
            Worker(name=name, kind=kind, queues=(), pid=1, heartbeat_at=NOW, revision=revision)
        )
    content = status.gathered(platform(web()), store, at(1))
    return [text_of(line) for line in status.lines(content)]


def test_status_names_who_has_another_revision_and_what_to_do():
    store = FakeStore()
    store.revisions.apply(OLD, (), actor="ann", reason="", now=NOW, onto=None)
    store.revisions.apply(NEW, (), actor="ann", reason="", now=NOW, onto=1)

    told = shown_status(
        store, ("h/new", "worker", 2), ("h/old", "worker", 1), ("h/odd", "worker", None), ("h/b", "beat", 1)
    )

    assert [line for line in told if "takes no new work" in line] == [
        "h/odd has a file that was never applied, applied is 2, so it takes no new work: "
        "deploy the applied file there, or restart it",
        "h/old has revision 1, applied is 2, so it takes no new work: "
        "deploy the applied file there, or restart it",
    ]


def test_status_says_that_nothing_is_applied():
    assert any(NOTHING_APPLIED in line for line in shown_status(FakeStore(), ("h/w", "worker", None)))
