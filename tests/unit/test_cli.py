"""The command line as it is called: arguments, output, exit status."""

from __future__ import annotations

import ast
import errno
import importlib
import importlib.util
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest

from ha_tasks.cli import NEEDED, complaint, doctor, recover
from ha_tasks.cli.lines import text_of
from ha_tasks.cli.live import show_live
from ha_tasks.cli.root import COMMANDS, _said, run
from ha_tasks.cli.session import Session
from ha_tasks.cli.status import gathered
from ha_tasks.errors import DeadlineExceeded, StoreUnreachable
from ha_tasks.inventory import load
from ha_tasks.model.run import Outcome, Run, RunState
from tests.fakes.clock import FakeClock
from tests.fakes.repositories import FakeStore
from tests.unit.inventory_files import write_inventory
from tests.unit.test_cli_views import recovering, settled


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an inventory whose servers are all down, and with a migrated store."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    changes = [(f"127.0.0.1:{p}", f"127.0.0.{n}:{port}") for n, p in enumerate(PORTS, start=2)]
    path = write_inventory(tmp_path / "a home", *changes)
    monkeypatch.setenv("HA_TASKS_HOME", str(path.parent))
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    assert run(["migrate"]) == 0
    assert run(["apply", "--yes"]) == 0
    return path.parent


PORTS = (6379, 7101, 7102, 7103, 7104, 8405, 8080, 8101, 8102, 8103, 5540, 5541, 5431, 5432, 5433, 6391)


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The JSON that the last command printed."""
    content = json.loads(capsys.readouterr().out)
    assert content["schema"] == 1
    return content


def test_help_names_every_command_and_imports_nothing_heavy():
    program = (
        "import sys\nfrom ha_tasks.cli.root import run\nstatus = run(['--help'])\n"
        "heavy = {'sqlalchemy', 'pydantic', 'celery', 'psycopg', 'redis', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(status)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")][-1] == "migrate"
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_name_a_home_and_a_help(name: str, capsys: pytest.CaptureFixture[str]):
    command = importlib.import_module(f"ha_tasks.cli.{COMMANDS[name][0]}").command

    assert command.name == name
    assert run([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert "--home DIR" in out or isinstance(command, click.Group)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stauts"], "No such command 'stauts'"),
        (["ack"], "Missing argument 'SCOPE|I-<n>'"),
        (["switch", "down"], "'down' is not one of 'off', 'stop', 'observe', 'on'"),
        (["demo", "--purge"], "--purge goes with --stop: ha-tasks demo --stop --purge"),
        (["demo", "--stop", "--detach"], "--stop and --detach exclude each other"),
        (["playbook", "show", "http-instanec"], 'there is no playbook "http-instanec"; did you mean "http-i'),
        (["playbook", "lint", "/nowhere.toml"], "/nowhere.toml is no file and no directory; name"),
    ],
)
def test_what_cannot_be_asked_for_ends_with_2_and_one_message(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert run(["--home", str(tmp_path), *arguments]) == 2

    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_without_an_inventory_the_message_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["status", "--home", str(tmp_path)]) == 2

    err = capsys.readouterr().err
    assert err == f"ha-tasks: {tmp_path}/ha-tasks.toml: does not exist; write one with: ha-tasks init\n"


def test_debug_shows_where_an_error_came_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["--debug", "status", "--home", str(tmp_path)]) == 2

    assert "InventoryError" in capsys.readouterr().err


def test_a_wrong_inventory_is_told_whole_by_every_command(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HA_TASKS__STORE__URL", "nonsense")
    monkeypatch.setenv("HA_TASKS__SERVICES__WEB__RTOS", "1")

    assert run(["incidents"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "f: the disk is full; make room, or use a home on another disk: --home DIR"),
        (errno.EACCES, "f: Permission denied; mend the permissions, or use another home: --home DIR"),
        (errno.ENOENT, "f: No such file or directory"),
    ],
)
def test_trouble_of_the_system_is_one_clear_message(code: int, said: str):
    assert _said(OSError(code, os.strerror(code), "f")) == said


def test_a_full_disk_ends_with_1_and_says_so(home: Path):
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m ha_tasks.cli playbook list --json > /dev/full'],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("ha-tasks: the disk is full; make room")
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_had_enough_is_no_error(home: Path):
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m ha_tasks.cli playbook show postgres-failover | head -c 1'],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("p", "")


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]):
    assert run(["statsu"]) == 2
    assert "Did you mean 'status'?" in capsys.readouterr().err

    assert run(["frobnicate"]) == 2
    assert "No such command 'frobnicate'." in capsys.readouterr().err


def test_a_python_that_is_too_old_is_told_which_one_is_needed():
    assert complaint((3, 11, 0)) == ""
    assert complaint((3, 14, 0)) == ""
    assert complaint((3, 9, 2)).startswith("ha-tasks needs Python 3.11 or newer, this is 3.9 (")
    assert NEEDED == (3, 11)


@pytest.mark.parametrize("module", ["ha_tasks", "ha_tasks.cli", "ha_tasks.cli.__main__"])
def test_what_is_read_before_that_message_can_be_read_by_an_old_python(module: str):
    """A syntax error would come before the message, and say nothing of what to do."""
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None

    ast.parse(Path(found.origin).read_text(), feature_version=(3, 7))


def test_init_writes_an_inventory_and_a_key_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    home = tmp_path / "new home"
    assert run(["init", "--home", str(home)]) == 0
    key = home / "secrets" / "agent-key"
    written = (home / "ha-tasks.toml").read_text(), key.read_text()

    assert run(["init", "--home", str(home)]) == 2

    assert "is there already and is left as it is" in capsys.readouterr().err
    assert written == ((home / "ha-tasks.toml").read_text(), key.read_text())
    assert written[0].startswith("#:schema file:///")
    assert len(key.read_text().strip()) >= 43
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700


def test_init_keeps_a_key_that_is_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "agent-key").write_text("in use")

    assert run(["init", "--home", str(tmp_path)]) == 0
    assert (tmp_path / "secrets" / "agent-key").read_text() == "in use"
    assert f"kept {tmp_path}/secrets/agent-key" in capsys.readouterr().out


def test_check_of_what_init_wrote_asks_only_for_the_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run(["init", "--home", str(tmp_path)])
    capsys.readouterr()

    assert run(["check", "--home", str(tmp_path), "--json"]) == 2

    (fault,) = result(capsys)["faults"]
    assert fault["key"] == "services.db.postgres.password"
    (tmp_path / "secrets" / "db-password").touch(0o600)
    assert run(["check", "--home", str(tmp_path)]) == 0
    assert "the file is in order: my-platform: 3 services, 7 instances" in capsys.readouterr().out


def test_check_tells_faults_of_the_inventory_and_of_its_playbooks_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.toml").write_text("schema = 1\n")
    path = write_inventory(tmp_path, ("directories = []", 'directories = ["own"]'))

    assert run(["check", str(path)]) == 2

    out = capsys.readouterr().out
    assert f"{own}/mine.toml: name: is missing" in out
    assert f"{path}" in out.splitlines()[-1]


def test_check_connect_tells_each_server_that_does_not_answer_with_its_remedy(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["check", "--connect", "--json"]) == 4

    answers = {answer["what"]: answer for answer in result(capsys)["answers"]}
    ill = {what.split(" (")[0] for what, answer in answers.items() if not answer["ok"]}
    assert ill == {
        "broker",
        "balancers.edge",
        *(f"hosts.{host}" for host in ("db1", "db2", "db3", "app1")),
        *(f"services.web.instances.web{n}" for n in (1, 2, 3)),
        *(f"services.db.instances.pg{n}" for n in (1, 2, 3)),
        "services.cache.instances.cache1",
        "services.web.routing",
        "services.db.routing",
    }
    assert answers["store"]["ok"]
    assert all(answer["remedy"] for answer in answers.values() if not answer["ok"])
    assert "hush-hush" not in json.dumps(answers)


def test_status_and_its_like_answer_in_json_and_in_words(home: Path, capsys: pytest.CaptureFixture[str]):
    for arguments, said in (
        (["status"], "no worker has reported lately"),
        (["incidents"], "no incident yet"),
        (["run"], "no run yet"),
        (["switch"], "automation is on"),
        (["ack", "web"], "web had no cool-down"),
        (["playbook", "list"], "postgres-failover"),
        (["playbook", "show", "postgres-failover"], "no way back from here"),
        (["playbook", "lint"], "ok: http-instance, postgres-failover, postgres-narrow-set, postgres-rejoin,"),
        (["plan", "web"], "refused now by blind: too few fresh vantages to judge"),
        (["drill", "list"], "lose-primary"),
    ):
        assert run(arguments) == 0, arguments
        assert said in capsys.readouterr().out
        assert run([*arguments, "--json"]) == 0
        result(capsys)


def test_a_switch_is_engaged_with_its_name_and_released_again(home: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["switch", "stop", "--reason", "night"]) == 0
    assert "automation is off for everything, by " in capsys.readouterr().out
    assert run(["switch", "observe", "--json"]) == 0
    assert all(result(capsys)["switches"].values())

    assert run(["switch", "on", "--json"]) == 0

    assert result(capsys)["switches"] == {"stop": None, "observe": None}


def test_home_may_stand_before_or_behind_the_command(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HA_TASKS_HOME")

    assert run(["--home", str(home), "incidents"]) == 0
    assert run(["incidents", "--home", str(home)]) == 0


def test_a_drill_without_a_demo_ends_with_4_and_says_how_to_start_one(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["drill", "crash-web"]) == 4
    assert "start one with `ha-tasks demo" in capsys.readouterr().err


@pytest.mark.parametrize("how", [[], ["--local"]])
def test_a_recovery_that_a_guard_refuses_ends_with_3_and_says_which(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: list[str]
):
    monkeypatch.setenv("HA_TASKS__POLICIES__MIN_VANTAGES", "1")

    assert run(["recover", "web", *how]) == 3

    err = capsys.readouterr().err
    assert "is blocked: " in err
    assert "refused by blast_radius: only 0 other healthy instances, 1 needed" in err


@pytest.mark.parametrize("how", [[], ["--local"]])
def test_a_healthy_service_is_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: list[str]
):
    monkeypatch.setenv("HA_TASKS__POLICIES__MIN_VANTAGES", "1")
    with ExitStack() as servers:
        for number in (1, 2, 3):
            server = servers.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Healthy))
            threading.Thread(target=server.serve_forever).start()
            servers.callback(server.shutdown)
            variable = f"HA_TASKS__SERVICES__WEB__INSTANCES__WEB{number}__ADDRESS"
            monkeypatch.setenv(variable, f"127.0.0.1:{server.server_port}")
        status = run(["recover", "web", *how, "--json"])

    assert status == 0
    assert result(capsys)["message"] in ("web is healthy", "System healthy")


class Healthy(BaseHTTPRequestHandler):
    """Answers 200 to everything."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format, *args):
        pass


def test_a_recovery_of_an_unknown_service_ends_with_2(home: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["recover", "wbe"]) == 2
    assert 'there is no service "wbe"; did you mean "web"?' in capsys.readouterr().err


def made(tmp_path: Path) -> tuple[FakeStore, FakeClock, Run]:
    """A store with a run at its first step."""
    store = FakeStore()
    return store, FakeClock(), recovering(store, load(write_inventory(tmp_path), {}).platform)


def test_a_run_that_no_worker_takes_up_is_not_waited_for(tmp_path: Path):
    store, clock, claimed = made(tmp_path)
    waiting = replace(claimed, fence=0, lease_owner=None, state=RunState.PENDING)
    store.journal.get = lambda _: waiting

    with pytest.raises(
        DeadlineExceeded, match="no worker has taken run 1 up; start the workers, or: ha-tasks"
    ):
        recover.watched(Session(), store.journal, clock, waiting, 60.0)


def test_a_run_that_takes_too_long_is_not_waited_for(tmp_path: Path):
    store, clock, claimed = made(tmp_path)

    with pytest.raises(DeadlineExceeded, match="run 1 has not ended after 60 s; see: ha-tasks run 1"):
        recover.watched(Session(), store.journal, clock, claimed, 60.0)


def test_a_run_is_watched_to_its_end_and_each_turn_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store, clock, claimed = made(tmp_path)
    clock.on_pause = lambda: settled(store, claimed, Outcome(ok=False, error="no"))

    ended = recover.watched(Session(), store.journal, clock, claimed, 60.0)

    assert ended.state is RunState.ROLLED_BACK
    assert capsys.readouterr().out == "run 1 running: at step 1 of 6 take_out by h/recovery-1/7\n"


def test_ctrl_c_ends_the_watching_and_says_that_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store, clock, claimed = made(tmp_path)

    def press() -> None:
        raise KeyboardInterrupt

    clock.on_pause = press

    with pytest.raises(KeyboardInterrupt):
        recover.watched(Session(), store.journal, clock, claimed, 60.0)
    assert "no longer watched; run 1 goes on: ha-tasks run 1\n" in capsys.readouterr().out


def test_the_live_view_goes_on_while_the_store_is_away_and_ends_when_told(
    capsys: pytest.CaptureFixture[str],
):
    ended = threading.Event()

    def look():
        ended.set()
        raise StoreUnreachable("the store did not answer")

    show_live(look, ended)

    assert "not to be seen now: the store did not answer" in capsys.readouterr().out


def test_the_live_view_hides_nothing_on_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    platform = load(write_inventory(tmp_path), {}).platform
    monkeypatch.setenv("COLUMNS", "60")
    ended = threading.Event()

    def look() -> dict:
        ended.set()
        return gathered(platform, FakeStore(), FakeClock().now())

    show_live(look, ended)

    shown = capsys.readouterr().out
    assert [name for name in ("web1", "web3", "pg3", "cache1") if name not in shown] == []


def test_doctor_names_every_program_and_what_mends_a_missing_one(capsys: pytest.CaptureFixture[str]):
    assert run(["doctor", "--json"]) in (0, 2)
    rows = result(capsys)["rows"]
    assert {"python", "postgres", "valkey", "haproxy"} <= {row["what"] for row in rows}

    missing = {
        "ok": False,
        "what": "haproxy",
        "version": "",
        "source": "",
        "path": "",
        "remedy": "install it",
    }
    shown = [text_of(line) for line in doctor.lines({"rows": [missing]})]
    assert shown[-1] == "haproxy: install it"


def test_ctrl_c_ends_the_live_view_quietly_with_130(home: Path):
    reader, writer = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "ha_tasks.cli", "status", "--watch"],
        stdin=writer,
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(writer)
    try:
        shown, deadline = b"", time.monotonic() + 15
        while b"cache1 active" not in shown:
            assert time.monotonic() < deadline, shown
            shown += os.read(reader, 4096)
        watching.send_signal(signal.SIGINT)
        status = watching.wait(10)
    finally:
        watching.kill()
        watching.wait(5)
        os.close(reader)

    assert watching.stderr is not None
    assert (status, watching.stderr.read().strip()) == (130, b"")
    watching.stderr.close()
