"""Every secret of a running stack is planted: unlike anything else. None is where it does not belong."""

from __future__ import annotations

import base64
import os
import sqlite3
import stat
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import redis

from tests.acceptance.stack import Stack

PLANTED = {
    "agent-key", "broker", "broker-request", "flower", "pg-agent", "pg-replication", "pg-control", "pg-app",
}  # fmt: skip
KEEPERS = ("state.json", "secrets/", "conf/", "nodes/")
"""Where secrets live: these files are ours alone, mode 0600."""


def planted(stack: Stack) -> Mapping[str, str]:
    """Name -> secret; in other spellings, too, as an URL or a header would bear it."""
    files = {f.name: f.read_text().strip() for f in (stack.home / "secrets").iterdir()}
    assert files.keys() >= PLANTED
    assert len(set(files.values())) == len(files)
    spelled = {f"{name} in base64": base64.b64encode(s.encode()).decode() for name, s in files.items()}
    return {**files, **spelled}


def found(secrets: Mapping[str, str], texts: Mapping[str, str]) -> list[str]:
    return [f"{name} in {where}" for where, text in texts.items() for name, s in secrets.items() if s in text]


def ours(stack: Stack) -> Iterator[psutil.Process]:
    """Every process of the stack: those of the record, and their children."""
    for recorded in stack.state["processes"]:
        try:
            process = psutil.Process(recorded["pid"])
            yield from (process, *process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue


def test_no_process_bears_a_secret_in_its_arguments_or_its_environment(stack: Stack) -> None:
    texts = {}
    for process in ours(stack):
        for what in ("cmdline", "environ"):
            try:
                told = Path(f"/proc/{process.pid}/{what}").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            texts[f"{what} of {process.pid}"] = told

    assert len(texts) > 40
    assert found(planted(stack), texts) == []


def test_a_recovery_that_fails_tells_no_secret_to_anybody(stack: Stack) -> None:
    """Logs, the store (every table), the broker (every key), Flower's answers, what each command prints."""
    run = _failed_run(stack)
    commands = [
        ("status", "--json"), ("incidents", "--json"), ("run", run, "--json"), ("run", run),
        ("plan", "db", "--json"), ("doctor", "--json"), ("check", "--connect", "--json"),
    ]  # fmt: skip
    with ThreadPoolExecutor(max_workers=4) as pool:
        printed = pool.map(lambda words: _printed(stack, *words), commands)
    logs = {f"log {f.name}": f.read_text(errors="replace") for f in (stack.home / "logs").glob("*.log")}
    secrets = planted(stack)

    assert found(secrets, dict(zip(map(" ".join, commands), printed, strict=True))) == []
    assert found(secrets, logs) == []
    assert found(secrets, _tables(stack)) == []
    assert found(secrets, _broker(stack)) == []
    assert found(secrets, _flower(stack)) == []


def _failed_run(stack: Stack) -> str:
    """A run whose step failed for good and was undone: of an earlier test, or else of a drill."""
    with closing(sqlite3.connect(stack.home / "ha.db")) as database:
        found = database.execute("SELECT max(id) FROM run WHERE state = 'rolled_back'").fetchone()[0]
    if found is not None:
        return str(found)
    return str(stack.drill("refused-promotion")["run"])


def test_no_file_of_the_home_bears_a_secret_but_those_that_are_ours_alone(stack: Stack) -> None:
    secrets = planted(stack)
    bearing: dict[str, int] = {}
    for path in _files(stack.home):
        text = path.read_bytes().decode(errors="replace")
        if any(secret in text for secret in secrets.values()):
            bearing[str(path.relative_to(stack.home))] = stat.S_IMODE(path.stat().st_mode)

    assert [name for name in bearing if not name.startswith(KEEPERS)] == []
    assert set(bearing.values()) == {0o600}


def _files(home: Path) -> Iterator[Path]:
    """All but what PostgreSQL keeps: there a password is a verifier, and there is much of it."""
    for directory, below, names in os.walk(home):
        below[:] = [name for name in below if name not in {"data", "data.new", "kept"}]
        files = (Path(directory) / name for name in names)
        yield from (file for file in files if file.is_file() and not file.is_symlink())


def test_an_error_about_store_or_broker_names_the_place_and_never_the_password(stack: Stack) -> None:
    """Connection strings in errors, with a password by the environment, as an override may bring it."""
    word = "an-utterly-secret-word"
    overrides = [
        ("STORE", f"postgresql+psycopg://me:{word}@127.0.0.1:1/ha"),
        ("STORE", f"postgresql+psycopg://me@127.0.0.1:1/ha?password={word}"),
        ("BROKER", f"redis://me:{word}@127.0.0.1:1/0"),
        ("BROKER", f"redis://me:{word}@127.0.0.1:notaport/0"),
    ]

    def told(override: tuple[str, str]) -> str:
        words = ("status",) if override[0] == "STORE" else ("check", "--connect")
        done = stack.with_environment(*words, **{f"HA_TASKS__{override[0]}__URL": override[1]})
        assert done.returncode != 0
        return done.stdout + done.stderr

    with ThreadPoolExecutor(max_workers=4) as pool:
        said = list(pool.map(told, overrides))

    assert all(said)
    assert [text for text in said if word in text] == []


def _printed(stack: Stack, *words: str) -> str:
    done = stack.command(*words)
    assert done.stdout or done.stderr
    return done.stdout + done.stderr


def _tables(stack: Stack) -> dict[str, str]:
    with closing(sqlite3.connect(stack.home / "ha.db")) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        dumped = {
            f"table {name}": repr(database.execute(f"SELECT * FROM {name}").fetchall())  # noqa: S608 - a table
            for name in names
        }
    assert len(dumped) > 10
    return dumped


def _broker(stack: Stack) -> dict[str, str]:
    """The append-only file has every message that has ever been there."""
    files = (stack.home / "broker").rglob("*")
    kept = {f"broker {f.name}": f.read_bytes().decode(errors="replace") for f in files if f.is_file()}
    with redis.Redis.from_url(stack.state["endpoints"]["broker"]) as client:
        waiting = {
            name: repr(client.lrange(name, 0, -1)) for name in ("recovery", "probes", "alerts", "ha.dead")
        }
        taken = {"unacked": repr(client.hscan("unacked.fast", 0, count=1000))}
    assert kept
    return {**kept, **waiting, **taken}


def _flower(stack: Stack) -> dict[str, str]:
    parts = urlsplit(stack.state["endpoints"]["flower"])
    token = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    answers = {}
    for path in (
        "/",
        "/workers",
        "/tasks",
        "/broker",
        "/api/tasks?limit=1000",
        "/api/workers?refresh=1",
        "/metrics",
    ):
        request = urllib.request.Request(f"http://{parts.hostname}:{parts.port}{path}")
        request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            answers[f"Flower {path}"] = answer.read().decode()
    return answers
