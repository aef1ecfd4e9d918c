"""Signals to the processes of a stack, each proved to be ours first; and what they leave in the home.

What lasts is a file in the home: ``hold/<process>`` keeps it from being started again,
``hold/frozen_<pid>`` is a process that was stopped.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ha_tasks.embedded import state
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.layout import agent_of, is_agent
from ha_tasks.embedded.postgres import postmaster_pid
from ha_tasks.embedded.reaper import descendants, is_postgres_below
from ha_tasks.errors import DeadlineExceeded, ServiceUnreachable
from ha_tasks.ports.clock import Clock

GONE_TIMEOUT_S = 5.0


class Signals:
    """Kills and freezes. Every verb answers the moment just before its first signal."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home = home
        self._clock = clock

    def kill_process(self, name: str) -> datetime:
        """Its supervisor starts it again. Raises ServiceUnreachable when it does not run."""
        pid = self._pid(name)
        # What an agent started is no part of it: it goes on without its agent.
        victims = {pid} if is_agent(name) else {pid, *descendants(pid)}
        moment = self._clock.now()
        _kill(victims)
        self._until_gone(victims)
        return moment

    def hold_process(self, name: str) -> datetime:
        """Killed, and not started again before it is released: the supervisor sees the file."""
        self._pid(name)
        (self._home.hold / name).touch()
        return self.kill_process(name)

    def kill_agent(self, node: str) -> datetime:
        """The agent alone, and it stays away."""
        return self.hold_process(agent_of(node))

    def kill_postmaster(self, node: str) -> datetime:
        """Its children go on for some tenths of a second; that is part of the fault."""
        pid = self._postmaster(node)
        moment = self._clock.now()
        _kill({pid})
        self._until_gone({pid})
        return moment

    def kill_node(self, node: str) -> datetime:
        """The agent stays away until released: the supervisor sees the file."""
        agent = agent_of(node)
        pid = self._pid(agent)
        (self._home.hold / agent).touch()
        victims = {pid, *descendants(pid), *self._postgres(node)}
        moment = self._clock.now()
        _kill(victims)
        self._until_gone({pid})
        # Again and again: a backend that was being forked was in no list.
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while left := self._postgres(node):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"PostgreSQL of {node} does not die: {sorted(left)}")
            _kill(left)
            time.sleep(0.005)
        return moment

    def freeze_agent(self, node: str) -> datetime:
        """It takes connections (the kernel does) and says nothing."""
        return self._freeze([self._pid(agent_of(node))])

    def freeze_postmaster(self, node: str) -> datetime:
        """Its sessions go on; new ones wait for ever."""
        return self._freeze([self._postmaster(node)])

    def freeze_database(self, node: str) -> datetime:
        """The postmaster first: it forks no more that would have to be found."""
        moment = self._freeze([self._postmaster(node)])
        self._freeze(self._postgres(node))
        return moment

    def freeze_node(self, node: str) -> datetime:
        """The agent first: it shall not see its database freeze."""
        moment = self._freeze([self._pid(agent_of(node))])
        self.freeze_database(node)
        return moment

    def freeze_receiver(self, node: str) -> Callable[[], None]:
        """What wakes it again. Without effect where none runs."""
        pids = self.receivers(node)
        self._freeze(pids)

        def wake() -> None:
            for pid in pids:
                self._thaw(pid)

        return wake

    def receivers(self, node: str) -> set[int]:
        """The node's walreceiver, by its title."""
        return {pid for pid in self._postgres(node) if b"walreceiver" in _title(pid)}

    def release(self) -> None:
        """Thaws and lets come back. Idempotent."""
        for file in list(self._home.hold.iterdir()):
            kind, _, pid = file.name.partition("_")
            if kind == "frozen":
                self._thaw(int(pid))
            file.unlink(missing_ok=True)

    def _freeze(self, pids: Iterable[int]) -> datetime:
        moment = self._clock.now()
        for pid in pids:
            (self._home.hold / f"frozen_{pid}").touch()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        return moment

    def _thaw(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        (self._home.hold / f"frozen_{pid}").unlink(missing_ok=True)

    def _postmaster(self, node: str) -> int:
        pid = postmaster_pid(self._home, node)
        if pid is None:
            raise ServiceUnreachable(f"no PostgreSQL runs on {node}")
        return pid

    def _pid(self, name: str) -> int:
        """Of a process of the record; one that is no longer ours is none."""
        for process in state.load(self._home).processes:
            if process.name == name and self._is_ours(process.pid):
                return process.pid
        raise ServiceUnreachable(f"no process {name} runs in the stack of {self._home.root}")

    def _is_ours(self, pid: int) -> bool:
        """A pid may have been used again: ours bear the stack's mark, or work in its home.

        Valkey writes its title over its environment, so there is no mark to find.
        """
        mark = f"HA_TASKS_STACK={self._home.stack.read_text().strip()}".encode()
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return True
            return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self._home.root)
        except OSError:
            return False

    def _postgres(self, node: str) -> set[int]:
        directory = f"{self._home.node_dir(node)}/"
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return {pid for pid in pids if is_postgres_below(pid, directory)}

    def _until_gone(self, pids: set[int]) -> None:
        """Gone, or dead and waiting for its parent: both can do nothing any more."""
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while any(map(_lives, pids)):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"these processes do not die: {sorted(filter(_lives, pids))}")
            time.sleep(0.002)


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
