"""Units: what this host runs for the platform, restarted once per key.

A restart's key is on the disk before its effect, and the key is in the environment of the process that
it starts: an agent that died in between finds out whether it was done. Every real start is a line in
``units/<unit>.starts``, evidence that needs no journal.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ha_tasks.errors import ActionFailed, AgentRefused, HaTasksError, PassingFailure, StaleAuthority
from ha_tasks.model.plain import Json
from workers.agent import processes
from workers.agent.config import UnitConfig
from workers.agent.disk import append_durably, read_json, write_json

log = logging.getLogger(__name__)

_KEYS_KEPT = 200
_TERM_S = 2.0
_KILL_S = 3.0
UNIT_VARIABLE = "HA_TASKS_UNIT"
KEY_VARIABLE = "HA_TASKS_UNIT_KEY"
STATE_VARIABLE = "HA_TASKS_UNIT_STATE"
"""Environment of a unit's processes: which unit, started for which key, by the agent of which state_dir."""


class Units:
    """All units of a host."""

    def __init__(self, units: Mapping[str, UnitConfig], state_dir: Path) -> None:
        directory = state_dir / "units"
        directory.mkdir(parents=True, exist_ok=True)
        self._units = {name: _Unit(config, directory) for name, config in units.items()}

    def autostart(self) -> None:
        """Starts those that shall start with the agent and do not run yet."""
        for unit in self._units.values():
            try:
                unit.autostart()
            except (HaTasksError, OSError) as error:
                log.error("unit %s was not started: %s", unit.name, error)

    def restart(self, name: str, key: str, *, fence: int, timeout_s: float) -> Json:
        """``{"pid": int}``. Idempotent by ``key``. PassingFailure when it is not done in time.

        StaleAuthority when the unit has seen a higher fence.
        """
        return self._unit(name).restart(key, fence=fence, timeout_s=timeout_s)

    def status(self, name: str) -> Json:
        """``{"running": bool, "pid": int|None, "starts": int, "fence": int}``."""
        return self._unit(name).status()

    def _unit(self, name: str) -> _Unit:
        if name not in self._units:
            raise AgentRefused(f"there is no unit {name} here; add [units.{name}] to the agent's file")
        return self._units[name]


class _Unit:
    """One unit; its record, its keys, its highest fence and its starts are files in ``directory``."""

    def __init__(self, config: UnitConfig, directory: Path) -> None:
        self.name = config.name
        self._config = config
        self._record = directory / f"{config.name}.json"
        self._keys = directory / f"{config.name}.keys"
        self._fence = directory / f"{config.name}.fence"
        self._starts = directory / f"{config.name}.starts"
        self._mine = {UNIT_VARIABLE: config.name, STATE_VARIABLE: str(directory.parent)}
        self._turn = threading.Lock()

    def autostart(self) -> None:
        with self._turn:
            self._adopt()
            if self._config.autostart and self._config.command and self._pid() is None:
                self._start("autostart")

    def restart(self, key: str, *, fence: int, timeout_s: float) -> Json:
        end = time.monotonic() + timeout_s
        if not self._turn.acquire(timeout=timeout_s):
            raise PassingFailure(f"another restart of {self.name} is not done yet")
        try:
            self._admit(fence)
            keys = read_json(self._keys) or {}
            if keys.get(key) is None:
                pid = self._restarted_before(key) if key in keys else None
                self._note(keys, key, None)
                self._note(keys, key, pid or self._restart(key, timeout_s=end - time.monotonic()))
            return {"pid": keys[key]}
        finally:
            self._turn.release()

    def status(self) -> Json:
        pid = self._pid()
        starts = len(self._starts.read_text().splitlines()) if self._starts.exists() else 0
        return {"running": pid is not None, "pid": pid, "starts": starts, "fence": self._highest()}

    def _admit(self, fence: int) -> None:
        """A higher fence is on the disk before the first effect; a lower one is StaleAuthority."""
        highest = self._highest()
        if fence < highest:
            raise StaleAuthority(f"fence {fence} is lower than {highest}, which {self.name} has seen")
        if fence > highest:
            write_json(self._fence, {"fence": fence})

    def _highest(self) -> int:
        return int((read_json(self._fence) or {"fence": 0})["fence"])

    def _restart(self, key: str, *, timeout_s: float) -> int:
        if self._config.systemd:
            self._systemctl("restart", timeout_s=timeout_s)
            pid = self._pid() or 0
            self._count(pid, key)
            return pid
        self._stop()
        return self._start(key)

    def _start(self, key: str) -> int:
        config = self._config
        config.log.parent.mkdir(parents=True, exist_ok=True)
        with config.log.open("ab") as output:
            try:
                process = subprocess.Popen(  # waited for by _reap
                    config.command,
                    cwd=config.cwd,
                    env={**os.environ, **self._mine, KEY_VARIABLE: key},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                raise ActionFailed(f"{self.name} cannot be started: {error}") from error
        threading.Thread(target=process.wait, name=f"reap-{self.name}", daemon=True).start()
        self._remember(process.pid)
        self._count(process.pid, key)
        return process.pid

    def _stop(self) -> None:
        """SIGTERM, then SIGKILL; also for what an earlier agent left without a record."""
        for number, patience_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
            for pid in self._processes():
                processes.send(pid, number)
            if self._all_gone(patience_s):
                return
        raise PassingFailure(f"processes {sorted(self._processes())} of {self.name} do not die")

    def _all_gone(self, patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while self._processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)  # the condition is looked at again at once
        return True

    def _processes(self) -> frozenset[int]:
        """The unit's process and its children, by the environment they were started with."""
        recorded = None if self._config.systemd else self._pid()
        return processes.with_environment(self._mine) | ({recorded} if recorded else set())

    def _pid(self) -> int | None:
        """Of the running unit; None when it does not run."""
        if self._config.systemd:
            pid = int(self._systemctl("show", "--property=MainPID", "--value", timeout_s=1.0) or 0)
            return pid or None
        record = read_json(self._record)
        if record is None or processes.start_ticks(record["pid"]) != record["start_ticks"]:
            return None
        return int(record["pid"])

    def _adopt(self) -> None:
        """Finds a process that was started when there was no time to record it."""
        if self._config.command and self._pid() is None:
            for pid in self._leaders():
                self._remember(pid)
                self._count(pid, processes.environment(pid).get(KEY_VARIABLE, ""))

    def _restarted_before(self, key: str) -> int | None:
        """The process that an agent started for this key before it died, if that is so."""
        found = [p for p in self._leaders() if processes.environment(p).get(KEY_VARIABLE) == key]
        return found[0] if found else None

    def _leaders(self) -> list[int]:
        """Processes of the unit whose parent is none of them: at most one, unless something went wrong."""
        mine = self._processes()
        return sorted(pid for pid in mine if processes.parent(pid) not in mine)

    def _remember(self, pid: int) -> None:
        write_json(self._record, {"pid": pid, "start_ticks": processes.start_ticks(pid)})

    def _count(self, pid: int, key: str) -> None:
        append_durably(self._starts, f"{datetime.now(UTC).isoformat()} pid={pid} key={key}")

    def _note(self, keys: Json, key: str, pid: int | None) -> None:
        """``None``: begun. The oldest keys are forgotten in the end."""
        keys.pop(key, None)
        keys[key] = pid
        for old in list(keys)[:-_KEYS_KEPT]:
            del keys[old]
        write_json(self._keys, keys)

    def _systemctl(self, verb: str, *options: str, timeout_s: float) -> str:
        command = ["systemctl", verb, *options, "--", self._config.systemd]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=max(0.1, timeout_s), check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PassingFailure(f"systemctl {verb} {self._config.systemd} takes too long") from error
        except OSError as error:
            raise ActionFailed(f"systemctl cannot be run: {error}") from error
        if done.returncode != 0:
            raise ActionFailed(f"systemctl {verb} {self._config.systemd}: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()
