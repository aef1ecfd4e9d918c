"""The supervisor on real processes: order, failure, restart, stop, and what is left when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ha_tasks.embedded import lock, reaper
from ha_tasks.embedded.process import Job, Node, NotReady, Process
from ha_tasks.embedded.supervisor import Event, EventKind, Supervisor
from ha_tasks.errors import AlreadyRunning, DeadlineExceeded, StartFailed

SLEEP = "exec sleep 60"


class Stack:
    """A supervisor on shell scripts; what it told is kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.events: list[Event] = []
        self.held: set[str] = set()
        self.give_up_after = 3

    def process(self, name: str, script: str, **settings: Any) -> Process:
        settings = {"stop_timeout_s": 1.0, "ready_timeout_s": 5.0} | settings
        return Process(
            name=name,
            kind="test",
            command=("/bin/sh", "-c", script),
            log=self.directory / f"{name}.log",
            **settings,
        )

    def run(self, nodes: list[Node], story: Callable[[Supervisor], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            supervisor = Supervisor(
                nodes,
                cwd=self.directory,
                environment={"PATH": "/usr/bin:/bin"},
                listen=self.events.append,
                is_held=self.held.__contains__,
                give_up_after=self.give_up_after,
            )
            try:
                await story(supervisor)
            finally:
                await supervisor.stop()

        asyncio.run(asyncio.wait_for(whole(), 15))

    def told(self, kind: EventKind) -> list[str]:
        return [event.name for event in self.events if event.kind is kind]

    async def until(self, kind: EventKind, name: str, times: int) -> None:
        while self.told(kind).count(name) < times:
            await asyncio.sleep(0.01)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


async def started(supervisor: Supervisor) -> None:
    await supervisor.start()


def file_exists(path: Path) -> Callable[[], Coroutine[Any, Any, None]]:
    async def look() -> None:
        if not path.exists():
            raise NotReady(f"{path.name} is missing")

    return look


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_process_starts_once_what_it_needs_is_ready_and_ends_before_it(stack: Stack):
    mark = stack.directory / "mark"
    nodes: list[Node] = [
        stack.process("second", SLEEP, needs=("first",)),
        stack.process("first", f"sleep 0.2; touch {mark}; {SLEEP}", ready=file_exists(mark)),
    ]

    stack.run(nodes, started)

    told = [(event.kind.value, event.name) for event in stack.events]
    assert told == [
        ("started", "first"),
        ("ready", "first"),
        ("started", "second"),
        ("ready", "second"),
        ("stopped", "second"),
        ("stopped", "first"),
    ]


def test_a_job_stands_between_processes_and_is_undone_at_its_turn(stack: Stack):
    done: list[str] = []

    async def do() -> None:
        done.append("done")

    async def undo() -> None:
        done.append("undone")

    job = Job(name="job", start=do, stop=undo, needs=("before",))
    nodes: list[Node] = [stack.process("before", SLEEP), job, stack.process("after", SLEEP, needs=("job",))]

    stack.run(nodes, started)

    assert done == ["done", "undone"]
    assert stack.told(EventKind.STOPPED) == ["after", "job", "before"]


def test_a_process_that_ends_while_it_starts_fails_the_start_with_its_last_words(stack: Stack):
    never = file_exists(stack.directory / "never")
    nodes: list[Node] = [
        stack.process("fine", SLEEP),
        stack.process("bad", "echo no such luck; exit 3", ready=never),
    ]

    with pytest.raises(StartFailed) as failed:
        stack.run(nodes, started)

    assert "bad ended with status 3 while it started" in str(failed.value)
    assert "no such luck" in str(failed.value)
    assert stack.told(EventKind.STOPPED) == ["fine"]


def test_a_process_that_ends_before_all_are_ready_fails_the_start(stack: Stack):
    brief = stack.process("brief", "sleep 0.2; echo farewell; exit 1")
    slow = stack.process("slow", SLEEP, ready=never_ready)

    with pytest.raises(StartFailed, match=r"(?s)brief ended with status 1 while it started.*farewell"):
        stack.run([brief, slow], started)


def test_a_program_that_cannot_be_run_is_said(stack: Stack):
    log = stack.directory / "x.log"
    missing = Process(name="x", kind="test", command=("/no/such",), log=log, ready=never_ready)

    with pytest.raises(StartFailed, match=r"(?s)status 127.*/no/such cannot be run: No such file"):
        stack.run([missing], started)


async def never_ready() -> None:
    raise NotReady("no proof")


def test_a_process_that_is_not_ready_in_time_fails_the_start_with_what_is_missing(stack: Stack):
    slow = stack.process("slow", SLEEP, ready=never_ready, ready_timeout_s=0.3)

    with pytest.raises(StartFailed, match=r"slow was not ready within 0.3 s: no proof"):
        stack.run([slow], started)

    assert stack.told(EventKind.STOPPED) == ["slow"]


def test_a_killed_process_comes_back_and_its_children_do_not_stay(stack: Stack):
    pids: list[int] = []

    async def story(supervisor: Supervisor) -> None:
        await supervisor.start()
        (before,) = supervisor.running()
        pids.extend((before.pid, *wait_for_children(before.pid)))
        os.kill(before.pid, signal.SIGKILL)
        await stack.until(EventKind.READY, "worker", 2)
        pids.append(supervisor.running()[0].pid)

    stack.run([stack.process("worker", "sleep 60 & wait")], story)

    first, child, second = pids
    assert len({first, child, second}) == 3
    assert not any(map(alive, pids))


def wait_for_children(pid: int) -> set[int]:
    wait_until(lambda: bool(reaper.descendants(pid)), 2)
    return reaper.descendants(pid)


def test_a_held_process_comes_back_when_it_is_released(stack: Stack):
    seen: list[tuple[str, ...]] = []

    async def story(supervisor: Supervisor) -> None:
        await supervisor.start()
        stack.held.add("agent")
        os.kill(supervisor.running()[0].pid, signal.SIGKILL)
        await stack.until(EventKind.EXITED, "agent", 1)
        await asyncio.sleep(0.4)
        seen.append(tuple(process.name for process in supervisor.running()))
        stack.held.clear()
        await stack.until(EventKind.READY, "agent", 2)

    stack.run([stack.process("agent", SLEEP)], story)

    assert seen == [()]


def test_a_process_that_keeps_ending_is_left_down_and_said_so(stack: Stack):
    async def story(supervisor: Supervisor) -> None:
        await supervisor.start()
        await stack.until(EventKind.GAVE_UP, "bad", 1)

    stack.run([stack.process("bad", "sleep 0.1; echo worn out; exit 1")], story)

    (gave_up,) = [event for event in stack.events if event.kind is EventKind.GAVE_UP]
    assert "bad ended 3 times in a row" in gave_up.text
    assert "worn out" in gave_up.text


def test_a_process_that_ignores_the_signal_is_killed_with_its_group(stack: Stack):
    mark = stack.directory / "mark"
    script = f"trap '' TERM; sleep 60 & touch {mark}; sleep 60"

    stack.run([stack.process("deaf", script, ready=file_exists(mark), stop_timeout_s=0.3)], started)

    assert stack.told(EventKind.KILLED) == ["deaf"]


@pytest.mark.parametrize(
    ("needs", "complaint"),
    [({"a": ("b",)}, "needed but unknown"), ({"a": ("b",), "b": ("a",)}, "need one another")],
)
def test_a_wrong_table_is_refused(stack: Stack, needs: dict[str, tuple[str, ...]], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        stack.run([stack.process(name, SLEEP, needs=need) for name, need in needs.items()], started)


SUPERVISED = """
import asyncio, sys
from pathlib import Path
from ha_tasks.embedded.guard import Guard
from ha_tasks.embedded.process import Process
from ha_tasks.embedded.supervisor import Supervisor

async def main(home, stack, *scripts):
    guard = Guard(home, stack, home / "reaper.log")
    nodes = [
        Process(name=f"p{i}", kind="test", command=("/bin/sh", "-c", script), log=home / f"p{i}.log")
        for i, script in enumerate(scripts)
    ]
    mark = {"HA_TASKS_STACK": stack, "PATH": "/usr/bin:/bin"}
    supervisor = Supervisor(
        nodes, cwd=home, environment=mark, listen=lambda e: None, is_held=lambda n: False
    )
    await supervisor.start()
    print("up", guard.pid, flush=True)
    if sys.stdin.readline():
        await supervisor.stop()
        print("left", guard.dismiss(), flush=True)

asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
"""

STUBBORN = "trap '' TERM; sleep 61 & setsid sleep 62 & wait; wait"


def start_supervised(home: Path, *scripts: str) -> tuple[subprocess.Popen[str], str, int]:
    identity = str(uuid.uuid4())
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISED, str(home), identity, *scripts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdout
    return supervisor, identity, int(supervisor.stdout.readline().split()[1])


def end(supervisor: subprocess.Popen[str]) -> None:
    supervisor.kill()
    supervisor.communicate(timeout=5)


def test_no_orphan_is_left_four_seconds_after_kill_9_of_the_supervisor(tmp_path: Path):
    supervisor, identity, reaper_pid = start_supervised(tmp_path, SLEEP, STUBBORN)
    assert wait_until(lambda: len(reaper.members(tmp_path, identity)) == 4, 3)

    end(supervisor)

    assert wait_until(lambda: not reaper.members(tmp_path, identity), 4)
    assert wait_until(lambda: not alive(reaper_pid), 2)


def test_a_proper_stop_leaves_the_reaper_nothing_and_ends_it(tmp_path: Path):
    supervisor, identity, reaper_pid = start_supervised(tmp_path, SLEEP)

    told, _ = supervisor.communicate("stop\n", timeout=10)

    assert told == "left set()\n"
    assert not reaper.members(tmp_path, identity)
    assert not alive(reaper_pid)


def test_a_new_start_waits_until_the_old_reaper_has_done_its_work(tmp_path: Path):
    supervisor, identity, _ = start_supervised(tmp_path, STUBBORN)
    assert lock.is_held(tmp_path / "reaper.lock")

    end(supervisor)
    lock.await_free(tmp_path / "reaper.lock", 5)

    assert not reaper.members(tmp_path, identity)


def test_a_strangers_shell_in_a_data_directory_is_left_alone(tmp_path: Path):
    data = tmp_path / "nodes" / "pg1" / "data"
    data.mkdir(parents=True)
    stranger = subprocess.Popen(["/bin/sleep", "60"], cwd=data)
    try:
        assert reaper.sweep(tmp_path, "no-such-stack") == set()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_second_taker_of_a_home_is_told_who_has_it_and_what_to_do(tmp_path: Path):
    with lock.held(tmp_path / "lock"):
        second = lock.held(tmp_path / "lock")
        with pytest.raises(AlreadyRunning) as refused, second:
            pass

    assert f"(pid {os.getpid()})" in str(refused.value)
    assert "ha-tasks demo --stop --home" in str(refused.value)


def test_a_released_home_can_be_taken_again(tmp_path: Path):
    for _ in range(2):
        with lock.held(tmp_path / "lock"):
            assert lock.is_held(tmp_path / "lock")
    assert not lock.is_held(tmp_path / "lock")


def test_waiting_for_a_lock_ends_at_its_deadline(tmp_path: Path):
    with lock.held(tmp_path / "lock"), pytest.raises(DeadlineExceeded, match=r"still held after 0.1 s"):
        lock.await_free(tmp_path / "lock", 0.1)
