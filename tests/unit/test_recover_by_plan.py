"""``recover --plan``: the plan that runs is the one that was shown, or it asks again."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from ha_tasks.cli.root import run
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.plan_hash import plan_hash
from ha_tasks.store import Store
from tests.fakes.clock import START
from tests.unit.inventory_files import write_inventory
from tests.unit.test_cli import Healthy

STYLES = re.compile(r"\x1b\[[0-9;]*m")
OTHER = "0123456789ab"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose web1 is down and whose other web instances answer; nothing else does."""
    with socket.socket() as unused, ExitStack() as servers:
        unused.bind(("127.0.0.1", 0))
        changes = [("127.0.0.1:8101", f"127.0.0.1:{unused.getsockname()[1]}")]
        for port in (8102, 8103):
            server = servers.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Healthy))
            threading.Thread(target=server.serve_forever).start()
            servers.callback(server.shutdown)
            changes.append((f"127.0.0.1:{port}", f"127.0.0.1:{server.server_port}"))
        path = write_inventory(tmp_path / "home", *changes)
        monkeypatch.setenv("HA_TASKS_HOME", str(path.parent))
        monkeypatch.setenv("HA_TASKS__POLICIES__MIN_VANTAGES", "1")
        monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
        assert run(["migrate"]) == 0
        assert run(["apply", "--yes"]) == 0
        yield path.parent


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{home}/ha.db")
    yield opened
    opened.dispose()


def printed(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """The hash of the plan for web1."""
    capsys.readouterr()
    assert run(["plan", "web", "--instance", "web1", "--json"]) == 0
    return printed(capsys)["hash"]


def test_the_plan_that_was_shown_is_the_one_that_runs_and_the_run_keeps_its_hash(
    home: Path, store: Store, capsys: pytest.CaptureFixture[str]
):
    word = shown(capsys)

    # Its agent is away, so the recovery ends badly; which plan ran is what counts.
    assert run(["recover", "web", "--plan", word[:8].upper(), "--local", "--within", "5"]) == 1

    (made,) = store.journal.recent()
    assert plan_hash(made.plan) == word
    capsys.readouterr()
    assert run(["run", str(made.id)]) == 0
    assert f"plan {word[:12]}" in capsys.readouterr().out


@pytest.mark.parametrize("how", [[], ["--local"]])
def test_a_plan_with_nothing_to_mend_is_not_called_done(
    home: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    how: list[str],
):
    """Whoever reads only the exit status must not take it that the plan was run."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as web1:
        threading.Thread(target=web1.serve_forever).start()
        address = f"127.0.0.1:{web1.server_port}"
        monkeypatch.setenv("HA_TASKS__SERVICES__WEB__INSTANCES__WEB1__ADDRESS", address)
        status = run(["recover", "web", "--plan", OTHER, *how])
        web1.shutdown()

    assert status == 3

    assert f"plan {OTHER} was not run: web is healthy; nothing was changed" in capsys.readouterr().err
    assert store.journal.recent() == ()


def test_another_plan_than_the_one_of_now_is_not_run_and_the_difference_is_told(
    home: Path, store: Store, capsys: pytest.CaptureFixture[str]
):
    word = shown(capsys)
    store.wanted.want({("web", "web3"): ServerState.READY}, "more load is expected", START)

    assert run(["recover", "web", "--plan", word, "--local", "--json"]) == 3

    content = printed(capsys)
    assert store.journal.recent() == ()
    assert content["plan"]["changes"] == [
        {"what": "situation.rotation", "then": "web1, web2", "now": "web1, web2, web3"},
    ]
    assert content["plan"]["hash"] in content["message"]
    assert run(["recover", "web", "--plan", word]) == 3
    assert "situation.rotation  web1, web2 -> web1, web2, web3" in capsys.readouterr().out
    assert shown(capsys) == content["plan"]["hash"]


def test_a_plan_that_nobody_was_shown_here_is_not_run(
    home: Path, store: Store, capsys: pytest.CaptureFixture[str]
):
    assert run(["recover", "web", "--plan", OTHER, "--local"]) == 3

    assert "was not shown from this home" in capsys.readouterr().out
    assert store.journal.recent() == ()


def test_what_is_no_hash_is_a_usage_error(home: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["recover", "web", "--plan", "1234"]) == 2
    assert "is no hash of a plan" in capsys.readouterr().err


def test_a_run_by_another_plan_is_not_taken_for_it(
    home: Path, store: Store, capsys: pytest.CaptureFixture[str]
):
    assert run(["recover", "web", "--within", "0.1"]) == 1  # nobody works here: it stays under way
    (under_way,) = store.journal.active()

    assert run(["recover", "web", "--plan", OTHER]) == 3

    said = capsys.readouterr().err
    assert f"run {under_way.id} is under way by another plan, {plan_hash(under_way.plan)[:12]}" in said


def test_a_plan_of_another_kind_or_playbook_can_be_asked_for(home: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["plan", "db", "--kind", "standby_down"]) == 0
    assert "standby_down of db, target pg2" in capsys.readouterr().out
    assert run(["plan", "web", "--playbook", "http-instance"]) == 0
    assert "http-instance v1" in capsys.readouterr().out
    assert run(["plan", "web", "--playbook", "http-instanec"]) == 2
    assert 'there is no playbook "http-instanec"; did you mean "http-instance"?' in capsys.readouterr().err
    assert run(["plan", "web", "--playbook", "postgres-failover"]) == 2
    assert "postgres-failover is not for instance_down of web" in capsys.readouterr().err


def on_terminal(*arguments: str, answer: str) -> tuple[int, str]:
    """(exit status, what was on the screen) of a command that a person runs, and answers once."""
    person, terminal = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "ha_tasks.cli", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    )
    os.close(terminal)
    screen, asked = b"", False
    while True:
        try:
            screen += os.read(person, 4096)
        except OSError:  # the terminal is closed: the command has ended
            break
        if b"[y/N]:" in screen and not asked:
            os.write(person, f"{answer}\n".encode())
            asked = True
    os.close(person)
    return done.wait(timeout=20), STYLES.sub("", screen.decode())


def test_on_a_terminal_it_asks_again_and_runs_nothing_against_a_no(
    home: Path, store: Store, capsys: pytest.CaptureFixture[str]
):
    word = shown(capsys)
    store.wanted.want({("web", "web3"): ServerState.READY}, "more load is expected", START)

    status, screen = on_terminal("recover", "web", "--plan", word, "--local", answer="n")

    assert status == 3
    assert "the plan is another one now" in screen
    assert "situation.rotation" in screen
    assert "it was not agreed to; nothing was changed" in screen
    assert store.journal.recent() == ()


def test_on_a_terminal_a_yes_runs_the_new_plan(home: Path, store: Store, capsys: pytest.CaptureFixture[str]):
    word = shown(capsys)
    store.wanted.want({("web", "web3"): ServerState.READY}, "more load is expected", START)
    changed = shown(capsys)

    status, _ = on_terminal("recover", "web", "--plan", word, "--local", "--within", "5", answer="y")

    (made,) = store.journal.recent()
    assert status == 1
    assert plan_hash(made.plan) == changed != word


def test_on_a_terminal_the_plan_is_shown_in_short_and_asked_about_only_on_demand(home: Path, store: Store):
    status, screen = on_terminal("recover", "web", "--local", "--ask", answer="n")

    assert status == 3
    assert "http-instance v1 for web1, plan " in screen
    assert "take_out > spare_in > restart_instance > put_back" in screen
    assert store.journal.recent() == ()
    status, screen = on_terminal("recover", "web", "--local", "--within", "5", answer="")
    assert "http-instance v1 for web1, plan " in screen
    assert "[y/N]" not in screen
    assert len(store.journal.recent()) == 1
