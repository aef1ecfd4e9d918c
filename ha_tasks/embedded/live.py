"""A running stack: from the lock of its home to the last process, in the process that calls it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ha_tasks.embedded import home as homes
from ha_tasks.embedded import inventory, lock, ports, reaper, secret_files, state, unprivileged
from ha_tasks.embedded.background import in_background
from ha_tasks.embedded.binaries import SERVERS, Binary, resolve, resolve_from, version_of
from ha_tasks.embedded.control_plane import ControlPlane
from ha_tasks.embedded.guard import Guard
from ha_tasks.embedded.haproxy import runtime_socket
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.layout import standbys_for
from ha_tasks.embedded.secret_files import write_private
from ha_tasks.embedded.silence import Silence
from ha_tasks.embedded.stack import WARM_MODULES, Stack
from ha_tasks.embedded.supervisor import Event, Running, Supervisor
from ha_tasks.embedded.warm import Nursery
from ha_tasks.errors import StartFailed

log = logging.getLogger(__name__)

RECORD_EVERY_S = 0.25
REAPER_TIMEOUT_S = 15.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

View = Callable[[Path, threading.Event], None]
"""Shows the stack of a home until the event is set; returning earlier ends the stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who hears what happens. ``green`` is called once, with the ports, when everything works."""

    event: Callable[[Event], None]
    green: Callable[[Home, dict[str, int]], None]
    view: View | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a start was asked for; None: as before, or as usual. ``postgres`` is ``debian`` or ``wheel``."""

    standbys: int | None = None
    postgres: str | None = None


NO_WISHES = Wishes()


def run(path: Path, listener: Listener, wishes: Wishes = NO_WISHES) -> None:
    """Starts the stack and returns when it was asked to stop (a signal, the view's end) and has stopped.

    Raises an error of the tree when it cannot start; then nothing of it runs. Must be called from the
    main thread.
    """
    binaries = {name: resolve(name) for name in SERVERS}
    if wishes.postgres:
        binaries["postgres"] = resolve_from("postgres", wishes.postgres)
    versions = {name: version_of(binary) for name, binary in binaries.items()}
    way = unprivileged.choose(os.geteuid())
    home = homes.home_at(path)
    defaults = ports.defaults_for(standbys_for(home, wishes.standbys))
    demands = ports.demanded(defaults=defaults)
    homes.prepare(home)
    homes.check_space(home)
    with (
        lock.held(home.lock),
        _swept(home),
        ports.chosen(home.ports, demands, defaults) as chosen,
        _guarded(home) as guard,
    ):
        stack = _prepared(home, chosen, binaries, versions, way)
        asyncio.run(_Life(home=home, stack=stack, guard=guard, listener=listener).whole())


@contextmanager
def _swept(home: Home) -> Iterator[None]:
    """Ends what a killed supervisor left, before anything of ours starts."""
    lock.await_free(home.reaper_lock, REAPER_TIMEOUT_S)
    left = reaper.sweep(home.root, stack_id(home))
    if left:
        raise StartFailed(f"processes of an earlier start do not end: {sorted(left)}")
    home.state.unlink(missing_ok=True)
    Silence(home).lift()
    for held in home.hold.iterdir():
        held.unlink()
    yield


@contextmanager
def _guarded(home: Home) -> Iterator[Guard]:
    """With a reaper beside us; at the end whatever is left is ended and the record is removed."""
    identity = str(uuid.uuid4())
    write_private(home.stack, identity + "\n")
    guard = Guard(home.root, identity, home.log_of("reaper"))
    try:
        yield guard
    finally:
        Silence(home).lift()
        left = guard.dismiss()
        home.state.unlink(missing_ok=True)
    if left:
        raise StartFailed(f"these processes do not end, even by SIGKILL: {sorted(left)}")


def stack_id(home: Home) -> str | None:
    """The id of the latest stack of this home; None when there was none."""
    with suppress(FileNotFoundError):
        return home.stack.read_text().strip() or None
    return None


def _prepared(
    home: Home,
    chosen: dict[str, int],
    binaries: dict[str, Binary],
    versions: dict[str, str],
    way: unprivileged.Way,
) -> Stack:
    """Everything written that the processes will read."""
    secret_files.ensure(home.secrets)
    socket = runtime_socket(home.run, chosen["runtime"])
    write_private(home.inventory, inventory.render(chosen, socket))
    stack = Stack(
        home=home,
        ports=chosen,
        socket=socket,
        valkey=binaries["valkey"],
        haproxy=binaries["haproxy"],
        postgres=unprivileged.settle(home, way, binaries["postgres"]),
        way=way,
        versions=versions,
        control=ControlPlane(home, environment_of(home)),
        nursery=Nursery(
            WARM_MODULES, cwd=home.run, environment=environment_of(home), log=home.log_of("nursery")
        ),
    )
    stack.write_files()
    return stack


def environment_of(home: Home) -> dict[str, str]:
    """Of every process: where its home is, overruling the user's own, and which stack it belongs to."""
    return {
        **os.environ,
        "HA_TASKS_HOME": str(home.root),
        "HA_TASKS_CONFIG": str(home.inventory),
        "HA_TASKS_CRASH_POINTS": str(home.crash_points),
        "HA_TASKS_STACK": stack_id(home) or "",
        "PYTHONUNBUFFERED": "1",
    }


class _Life:
    """From the first process to the last."""

    def __init__(self, *, home: Home, stack: Stack, guard: Guard, listener: Listener) -> None:
        self._home = home
        self._ports = dict(stack.ports)
        self._guard = guard
        self._nursery = stack.nursery
        self._listener = listener
        self._recorded: state.State | None = None
        self._complained = ""
        self._supervisor = Supervisor(
            stack.nodes(),
            cwd=home.run,
            environment=environment_of(home),
            nursery=stack.nursery,
            listen=self._hear,
            is_held=lambda name: (home.hold / name).exists(),
        )

    async def whole(self) -> None:
        """Starts, watches, stops. Raises what the start raised, after the stop."""
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, asked.set)
        try:
            if await self._started(asked):
                await self._watch(asked)
        finally:
            await self._supervisor.stop()

    async def _started(self, asked: asyncio.Event) -> bool:
        """False when it was asked to stop meanwhile."""
        starting = asyncio.create_task(self._supervisor.start())
        waiting = asyncio.create_task(asked.wait())
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return False
        starting.result()
        return True

    async def _watch(self, asked: asyncio.Event) -> None:
        self._record()
        self._listener.green(self._home, self._ports)
        showing = asyncio.create_task(self._show(asked))
        while not asked.is_set():
            self._guard.renew()
            self._record()
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), RECORD_EVERY_S)
        await showing

    async def _show(self, asked: asyncio.Event) -> None:
        """The view runs in a thread; when it ends, the stack ends, and the other way round."""
        view = self._listener.view
        if view is None:
            return
        ended = threading.Event()
        viewing = asyncio.create_task(in_background(lambda: view(self._home.root, ended)))
        waiting = asyncio.create_task(asked.wait())
        await asyncio.wait((viewing, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        asked.set()
        ended.set()
        await viewing

    def _hear(self, event: Event) -> None:
        """Every event goes to the supervisor's log; what is told to people is the listener's business."""
        with self._home.log_of("supervisor").open("a") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {event.name} {event.kind} {event.text}\n")
        self._listener.event(event)

    def _record(self) -> None:
        """A record that cannot be written now (a full disk, a secret that is away) ends no platform."""
        try:
            self._write_state()
        except OSError as error:
            self._complain(f"state.json is not renewed: {error}")
        else:
            self._complained = ""

    def _complain(self, text: str) -> None:
        """Once, not at every look."""
        if text != self._complained:
            self._complained = text
            log.warning("%s", text)

    def _write_state(self) -> None:
        """Writes state.json when something in it has changed."""
        supervised = self._supervisor.running()
        agents = {p.name: p.pid for p in supervised if p.kind == "agent"}
        processes = (
            Running(name="supervisor", kind="supervisor", pid=os.getpid()),
            Running(name="reaper", kind="reaper", pid=self._guard.pid),
            *(Running(name="nursery", kind="nursery", pid=pid) for pid in (self._nursery.pid,) if pid),
            *supervised,
            *state.unsupervised(self._home),
        )
        now = state.State(
            endpoints=state.endpoints(self._home, self._ports),
            nodes=state.nodes(self._home, self._ports, agents),
            processes=processes,
        )
        if now != self._recorded:
            state.write(self._home, now)
            self._recorded = now
