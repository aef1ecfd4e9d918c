"""The audit chain outside the store: heads in a file, the witness, the command."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ha_tasks.adapters.audit_heads import HeadFile
from ha_tasks.cli.audit import changed, moment_of
from ha_tasks.cli.root import run
from ha_tasks.errors import UsageError
from ha_tasks.inventory import load
from ha_tasks.model.audit import AuditHead, conflict
from ha_tasks.store import Store, open_engine
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.register import register
from ha_tasks.tasks.runtime import Runtime
from ha_tasks.workflows.witness import Witness
from tests.fakes.audit import FakeAudit
from tests.fakes.clock import FakeClock
from tests.plans import NOW
from tests.unit.inventory_files import write_inventory

A, B = AuditHead(seq=1, hash="a"), AuditHead(seq=2, hash="b")


def noted(path: Path) -> list[int]:
    """Numbers of the heads in the file."""
    return [json.loads(line)["seq"] for line in path.read_text().splitlines() if line]


def test_heads_are_appended_and_read_back(tmp_path: Path):
    file = HeadFile(tmp_path / "audit" / "heads.jsonl")
    assert file.last() == AuditHead()
    assert file.known() == ()

    file.note(A, "w1", NOW)
    file.note(B, "w2", NOW)

    assert file.last() == B
    assert set(file.known()) == {A, B}
    assert (tmp_path / "audit" / "heads.jsonl").stat().st_mode & 0o007 == 0


def test_a_line_that_a_full_disk_has_cut_spoils_no_other(tmp_path: Path):
    path = tmp_path / "heads.jsonl"
    file = HeadFile(path)
    file.note(A, "w1", NOW)
    path.write_text(path.read_text() + '{"seq": 2, "ha')

    file.note(B, "w1", NOW)

    assert set(file.known()) == {A, B}


def test_a_long_file_is_laid_aside_and_still_believed(tmp_path: Path):
    file = HeadFile(tmp_path / "heads.jsonl", full_bytes=200)
    heads = [AuditHead(seq=n, hash=f"{n:064}") for n in range(1, 8)]

    for head in heads:
        file.note(head, "w1", NOW)

    assert len(list(tmp_path.iterdir())) > 2
    assert set(file.known()) == set(heads)


def test_many_writers_lose_no_line(tmp_path: Path):
    file = HeadFile(tmp_path / "heads.jsonl", full_bytes=2000)
    heads = [AuditHead(seq=n, hash=f"{n:064}") for n in range(1, 81)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda head: file.note(head, "w", NOW), heads))

    assert set(file.known()) == set(heads)


def test_one_number_with_two_hashes_is_a_rewritten_chain():
    assert conflict([A, B, A]) == ({1: "a", 2: "b"}, None)
    broken = conflict([A, B, AuditHead(seq=1, hash="x")])[1]
    assert broken is not None
    assert broken.seq == 1


class World:
    """A chain in memory, a file, and who witnesses."""

    def __init__(self, path: Path) -> None:
        self.audit = FakeAudit()
        self.clock = FakeClock()
        self.path = path
        self.witness = Witness(audit=self.audit, heads=HeadFile(path), clock=self.clock, actor="w1")

    def append(self) -> None:
        self.audit.append(actor="ann", verb="switch.engaged", object="switch stop", now=NOW)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty one."""
    return World(tmp_path / "heads.jsonl")


def test_a_new_head_is_written_down_once_and_at_most_once_a_second(world: World):
    world.witness.look()
    assert not world.path.exists()
    world.append()

    world.witness.look()
    assert not world.path.exists()
    world.clock.advance(1.0)
    world.witness.look()
    world.clock.advance(1.0)
    world.witness.look()
    world.append()
    world.witness.look(at_once=True)

    assert noted(world.path) == [1, 2]


def test_two_witnesses_write_a_head_down_once(world: World):
    other = Witness(audit=world.audit, heads=HeadFile(world.path), clock=world.clock, actor="w2")
    world.append()

    world.witness.look()
    other.look()

    assert noted(world.path) == [1]


def cut(audit: FakeAudit) -> None:
    """The newest entry is gone."""
    audit.entries.pop()


def rewrite(audit: FakeAudit) -> None:
    """The newest entry is another, with a right hash."""
    audit.entries.pop()
    audit.append(actor="eve", verb="switch.engaged", object="switch stop", now=NOW)


@pytest.mark.parametrize("tamper", [cut, rewrite])
def test_a_chain_that_is_another_than_was_written_down_is_told_once(
    world: World, tamper: Callable[[FakeAudit], None], caplog: pytest.LogCaptureFixture
):
    world.append()
    world.append()
    world.witness.look()
    tamper(world.audit)

    for _ in range(3):
        world.witness.look(at_once=True)

    (told,) = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "entry 2 was written down" in told.getMessage()


def test_a_file_that_cannot_be_written_is_told_once_and_stops_nothing(
    world: World, caplog: pytest.LogCaptureFixture
):
    world.path.mkdir()
    world.append()

    world.witness.look(at_once=True)
    world.witness.look(at_once=True)

    assert [r.levelname for r in caplog.records] == ["WARNING"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a migrated store."""
    path = write_inventory(tmp_path)
    monkeypatch.setenv("HA_TASKS_HOME", str(path.parent))
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    assert run(["migrate"]) == 0
    return path.parent


def test_the_command_lists_who_did_what_and_finds_a_changed_entry(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["switch", "stop", "--reason", "storm"]) == 0
    capsys.readouterr()
    assert run(["audit", "list", "--verb", "switch"]) == 0
    shown = capsys.readouterr().out
    assert "switch.engaged" in shown
    assert "reason storm" in shown
    assert run(["audit", "verify"]) == 0
    assert "the audit chain is whole" in capsys.readouterr().out

    _execute(home, "UPDATE audit_entry SET actor = 'eve'")

    assert run(["audit", "verify", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["broken"]["seq"] == 1


def test_the_end_of_a_command_writes_its_head_down_so_that_a_rewritten_chain_is_found(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["switch", "stop"]) == 0
    assert noted(home / "audit" / "heads.jsonl") == [1]
    _execute(home, "DELETE FROM audit_entry; DELETE FROM audit_head")
    store = Store(load(home / "ha-tasks.toml", {}).store_url())
    store.audit.append(actor="eve", verb="switch.engaged", object="switch stop", now=NOW)
    store.dispose()

    assert run(["audit", "verify"]) == 1
    assert "the chain was rewritten" in capsys.readouterr().out


def test_a_copy_of_the_heads_can_be_believed_instead(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["switch", "stop"]) == 0
    copy = tmp_path / "copy.jsonl"
    HeadFile(copy).note(AuditHead(seq=9, hash="f"), "elsewhere", NOW)

    assert run(["audit", "verify", "--heads", str(copy)]) == 1
    assert "entry 9 was written down elsewhere" in capsys.readouterr().out


def _execute(home: Path, sql: str) -> None:
    engine = open_engine(load(home / "ha-tasks.toml", {}).store_url())
    with engine.begin() as connection:
        for statement in sql.split(";"):
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-24T10:00", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24T10:00+02:00", datetime(2026, 11, 24, 8, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_time_or_how_long_ago(text: str, moment: datetime):
    assert moment_of(text, NOW) == moment


def test_what_is_no_time_is_refused():
    with pytest.raises(UsageError, match="is no time"):
        moment_of("yesterday", NOW)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (None, None, ""),
        ({"state": "open"}, {"state": "blocked", "why": "no"}, "state open -> blocked, why no"),
        ({"engaged": False, "by": None}, {"engaged": True, "reason": ""}, "engaged False -> True"),
        ({"a": [1, 2]}, {"a": None}, "a [1 2] -> -"),
        (None, {"wanted": {"web/web1": "maint"}}, "wanted web/web1=maint"),
    ],
)
def test_what_changed_is_told_in_a_line(before: dict[str, object], after: dict[str, object], text: str):
    assert changed(before, after) == text


@pytest.mark.parametrize(("tampering", "ok"), [("", True), ("UPDATE audit_entry SET actor = 'eve'", False)])
def test_the_scheduled_task_walks_the_chain_and_tells_what_it_found(
    home: Path, caplog: pytest.LogCaptureFixture, tampering: str, ok: bool
):
    assert run(["switch", "stop"]) == 0
    if tampering:
        _execute(home, tampering)
    inventory = load(home / "ha-tasks.toml", {})
    app = make_app(inventory.broker_url())
    runtime = Runtime(app, inventory)
    register(app, runtime)

    answer = app.tasks["ha.verify_audit"]()

    assert (answer["ok"], answer["entries"]) == (ok, 1 if ok else 0)
    results = {check: passed for check, _, passed, _ in runtime.system().store.ledger.integrity_results()}
    assert results == {"audit_chain": ok}
    assert any("the audit chain is broken" in r.getMessage() for r in caplog.records) is not ok
    runtime.system().store.dispose()
