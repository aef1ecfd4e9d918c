"""``ha-tasks demo``: starts and stops the stack of a home, in the foreground or detached."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ha_tasks import errors
from ha_tasks.embedded import home as homes
from ha_tasks.embedded import live, lock, reaper, state, unprivileged
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.live import NO_WISHES, Listener, View, Wishes
from ha_tasks.embedded.silence import Silence
from ha_tasks.embedded.state import FLOWER_USER
from ha_tasks.embedded.supervisor import Event, EventKind
from ha_tasks.errors import DeadlineExceeded, Failed, HaTasksError, Refused, StartFailed

Echo = Callable[[str], None]
STOP_TIMEOUT_S = 45.0
"""Longer than the deadlines of all processes on the longest way from beat down to the broker."""

END_TIMEOUT_S = 3.0

NOTICE = "For development only: everything on this machine's loopback, no TLS, demo passwords in its home."


def start(
    home: Path,
    *,
    detach: bool,
    echo: Echo,
    view: View | None = None,
    wishes: Wishes = NO_WISHES,
) -> int:
    """Starts the stack of ``home``; answers 0, or raises an error of the tree with nothing left behind.

    Detached it returns once all is green. In the foreground it returns after it was asked to stop
    (Ctrl-C, SIGTERM) and has stopped; meanwhile it calls ``view``, or tells what ends and comes back.
    """
    if detach:
        _detached(home, echo, wishes)
    else:
        _foreground(home, echo, view, wishes)
    return 0


def stop(home: Path, *, purge: bool, echo: Echo) -> int:
    """Stops the stack in order, and what a killed supervisor left. Deletes the home with ``purge``.

    Idempotent: without a running stack it says so and answers 0.
    """
    place = homes.home_at(home)
    if purge and place.root.exists() and not place.is_ours():
        homes.purge(place)  # refuses before anything is stopped
    if lock.is_held(place.lock):
        _stop_supervisor(place)
        echo(f"stopped the stack of {place.root}")
    elif place.is_ours() and _sweep(place):
        echo(f"ended what a killed supervisor had left running on {place.root}")
    else:
        echo(f"no stack runs on {place.root}")
    if purge:
        unprivileged.abandon(place)
        homes.purge(place)
        echo(f"deleted {place.root}")
    return 0


def _foreground(home: Path, echo: Echo, view: View | None, wishes: Wishes) -> None:
    progress = Progress(echo, talkative=view is None)
    live.run(home, Listener(event=progress.event, green=progress.green, view=view), wishes)
    echo("stopped")


def _detached(home: Path, echo: Echo, wishes: Wishes) -> None:
    """A supervisor in a session of its own, that reports through a pipe until it is green or has failed."""
    place = homes.home_at(home)
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "ha_tasks.embedded", str(place.root), json.dumps(asdict(wishes))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    if supervisor.stdout is None:
        raise StartFailed("the supervisor has no output")
    try:
        with supervisor.stdout as reports:
            _hear(reports, echo)
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait(STOP_TIMEOUT_S)
        raise
    except HaTasksError:
        supervisor.wait(STOP_TIMEOUT_S)
        raise
    # It goes on without us; the warning of a child that was not waited for is not meant for that.
    supervisor.returncode = 0


def _hear(reports: IO[str], echo: Echo) -> None:
    """Tells what is reported; returns at green. Raises what the supervisor raised."""
    unexpected: list[str] = []
    for line in reports:
        report = _parsed(line)
        if "line" in report:
            echo(report["line"])
        elif "failed" in report:
            raise _error_of(report)
        elif "green" in report:
            return
        else:
            unexpected.append(line.rstrip())
    raise StartFailed("\n".join(["the supervisor ended without a word", *unexpected[-10:]]))


def _parsed(line: str) -> dict[str, Any]:
    """{} for what is no report, such as a traceback."""
    try:
        report = json.loads(line)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _error_of(report: dict[str, Any]) -> HaTasksError:
    kind = getattr(errors, str(report["failed"]), Failed)
    text = str(report.get("text", ""))
    # A class with an __init__ of its own cannot be made from a text; its family says the exit status.
    return kind(text) if kind.__init__ is Exception.__init__ else Refused(text)


def supervise(home: Path, wishes: Wishes, reports: IO[str]) -> int:
    """The detached supervisor: reports to whoever started it until it is green, then goes on in silence."""

    def report(**words: object) -> None:
        # Whoever started it may be gone; the stack goes on all the same.
        if not reports.closed:
            try:
                reports.write(json.dumps(words) + "\n")
                reports.flush()
            except BrokenPipeError:
                reports.close()

    progress = Progress(lambda line: report(line=line), talkative=False)

    def green(place: Home, ports: dict[str, int]) -> None:
        progress.green(place, ports)
        report(green=True)
        _let_go(reports, place)

    try:
        live.run(home, Listener(event=progress.event, green=green), wishes)
    except HaTasksError as error:
        report(failed=type(error).__name__, text=str(error))
        return error.exit_status
    except OSError as error:
        report(failed=Failed.__name__, text=f"{error.filename or home}: {error.strerror or error}")
        return Failed.exit_status
    return 0


def _let_go(reports: IO[str], home: Home) -> None:
    """Output goes to a log from now on: the reader of the pipe is about to leave."""
    log = os.open(home.log_of("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    reports.flush()
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)


class Progress:
    """Plain lines about a start, with the seconds since its beginning."""

    def __init__(self, echo: Echo, *, talkative: bool) -> None:
        self._echo = echo
        self._talkative = talkative
        self._since = time.monotonic()
        self._is_green = False

    def event(self, event: Event) -> None:
        """Before green each node that is ready; after it, when talkative, what ends and comes back."""
        if event.kind is EventKind.READY and not self._is_green:
            self._echo(f"  {event.after_s:5.1f} s  {event.name:<11} {event.text}".rstrip())
        elif event.kind in (EventKind.GAVE_UP, EventKind.KILLED):
            self._echo(f"  {event.name} {event.kind}: {event.text}".rstrip(": "))
        elif self._is_green and self._talkative and event.kind in (EventKind.EXITED, EventKind.READY):
            word = "is up again" if event.kind is EventKind.READY else f"ended {event.text}"
            self._echo(f"  {event.name} {word}")

    def green(self, home: Home, ports: dict[str, int]) -> None:
        """Everything answers; where, and what to do next."""
        self._is_green = True
        urls = state.endpoints(home, ports)
        flower = f"http://127.0.0.1:{ports['flower']}/"
        self._echo(f"ALL GREEN in {time.monotonic() - self._since:.1f} s")
        for name, url, remark in (
            ("Site", urls["web"], "three services behind HAProxy"),
            ("Flower", flower, f"user {FLOWER_USER}, password in {home.secret('flower')}"),
            ("Metrics", urls["metrics"], ""),
            ("HAProxy", urls["balancer"], "statistics"),
            (
                "Database",
                f"127.0.0.1:{ports['pg_write']} writes, :{ports['pg_read']} reads",
                "DSNs in state.json",
            ),
        ):
            self._echo(f"  {name:<9} {url}" + (f"   {remark}" if remark else ""))
        option = "" if home.root == Path(".ha").resolve() else f" --home '{home.root}'"
        self._echo(f"  try: ha-tasks drill lose-primary{option}   stop: ha-tasks demo --stop{option}")
        self._echo(NOTICE)


def _stop_supervisor(home: Home) -> None:
    pid = lock.holder(home.lock)
    if pid is None:
        raise Failed(f"{home.lock} is held, and does not say by whom")
    _send(pid, signal.SIGTERM)
    try:
        lock.await_free(home.lock, STOP_TIMEOUT_S)
    except DeadlineExceeded:
        _send(pid, signal.SIGKILL)
        lock.await_free(home.lock, 5.0)
        _sweep(home)
    deadline = time.monotonic() + END_TIMEOUT_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)  # it has let go of everything and is about to end


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise Refused(f"the stack belongs to another user (pid {pid}): let that user stop it") from error


def _sweep(home: Home) -> bool:
    """Ends what is left of a stack without supervisor; True when there was something."""
    lock.await_free(home.reaper_lock, live.REAPER_TIMEOUT_S)
    stack = live.stack_id(home)
    found = bool(reaper.members(home.root, stack))
    Silence(home).lift()
    left = reaper.sweep(home.root, stack)
    if left:
        raise Failed(f"these processes do not end, even by SIGKILL: {sorted(left)}")
    home.state.unlink(missing_ok=True)
    return found
