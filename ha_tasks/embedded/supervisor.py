"""The supervisor: starts what is ready to start, restarts what ends, ends all in the reverse order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ha_tasks.embedded.child import Child
from ha_tasks.embedded.process import Job, Node, NotReady, Process, check_graph
from ha_tasks.embedded.warm import Nursery
from ha_tasks.errors import HaTasksError, StartFailed

POLL_S = 0.05
LOOK_TIMEOUT_S = 2.0
"""One look at a process's readiness may take that long."""

LONG_LIFE_S = 10.0
"""A process that lived that long was no crash loop; its next restart comes at once."""

GIVE_UP_AFTER = 8
"""So many short lives in a row and the process is left down."""

LONGEST_PAUSE_S = 5.0


class EventKind(StrEnum):
    """What can happen to a node of the graph."""

    STARTED = "started"
    READY = "ready"
    EXITED = "exited"
    GAVE_UP = "gave up"
    STOPPED = "stopped"
    KILLED = "killed"
    """It did not end by itself in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened; ``after_s`` counts from the supervisor's start, ``text`` is for people."""

    kind: EventKind
    name: str
    after_s: float
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process that runs now."""

    name: str
    kind: str
    pid: int


class Supervisor:
    """Runs a graph of processes and jobs.

    ``listen`` hears every event. A process for which ``is_held`` is true is not started again until it is
    not. To be used from one event loop in the main thread.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        listen: Callable[[Event], None],
        is_held: Callable[[str], bool],
        nursery: Nursery | None = None,
        give_up_after: int = GIVE_UP_AFTER,
    ) -> None:
        check_graph(nodes)
        self._nodes = {node.name: node for node in nodes}
        self._cwd = cwd
        self._environment = environment
        self._listen = listen
        self._is_held = is_held
        self._nursery = nursery
        self._give_up_after = give_up_after
        self._ready = {name: asyncio.Event() for name in self._nodes}
        self._children: dict[str, Child] = {}
        self._begun: set[str] = set()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._since = time.monotonic()
        self._early_end: asyncio.Future[str] | None = None

    async def start(self) -> None:
        """Returns once every node is ready. Raises StartFailed for the first that does not come up.

        So does one that ends before all are ready. What has been started then still runs: call ``stop``.
        The same after a cancellation.
        """
        self._early_end = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(self._bring_up(node)) for node in self._nodes.values()]
        whole = asyncio.gather(*tasks)
        try:
            await asyncio.wait((whole, self._early_end), return_when=asyncio.FIRST_COMPLETED)
            if self._early_end.done():
                raise StartFailed(self._early_end.result())
            await whole
        finally:
            self._early_end = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, whole, return_exceptions=True)

    async def stop(self) -> None:
        """Ends everything, what needs before what is needed, side by side where possible. Idempotent."""
        keepers = list(self._keepers.values())
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        self._keepers.clear()
        ended = {name: asyncio.Event() for name in self._nodes}
        await asyncio.gather(*(self._take_down(node, ended) for node in self._nodes.values()))
        self._begun.clear()

    def running(self) -> tuple[Running, ...]:
        """The processes that run now, in the order of the table."""
        return tuple(
            Running(name=name, kind=child.process.kind, pid=child.pid)
            for name in self._nodes
            if (child := self._children.get(name)) and not child.has_ended
        )

    async def _bring_up(self, node: Node) -> None:
        for need in node.needs:
            await self._ready[need].wait()
        self._begun.add(node.name)
        if isinstance(node, Job):
            await self._do(node)
        else:
            child = await self._spawn(node)
            await self._until_ready(node, child)
            self._keepers[node.name] = asyncio.create_task(self._keep(node))
        self._ready[node.name].set()
        self._tell(EventKind.READY, node.name, node.where)

    async def _do(self, job: Job) -> None:
        self._tell(EventKind.STARTED, job.name)
        try:
            await asyncio.wait_for(job.start(), job.timeout_s)
        except TimeoutError as error:
            raise StartFailed(f"{job.name} was not done within {job.timeout_s:g} s") from error

    async def _spawn(self, process: Process) -> Child:
        if process.prepare:
            process.prepare()
        child = await Child.spawn(
            process, cwd=self._cwd, environment=self._environment, nursery=self._nursery
        )
        self._children[process.name] = child
        self._tell(EventKind.STARTED, process.name)
        return child

    async def _until_ready(self, process: Process, child: Child) -> None:
        ends_at = time.monotonic() + process.ready_timeout_s
        while (missing := await self._look(process)) is not None:
            if child.has_ended:
                raise StartFailed(_ended_early(process, child, await child.wait()))
            if time.monotonic() > ends_at:
                raise StartFailed(
                    f"{process.name} was not ready within {process.ready_timeout_s:g} s: {missing}"
                    f"; its log is {process.log}\n{child.last_words()}"
                )
            await asyncio.sleep(process.look_every_s)
        if child.has_ended:
            # Something else answered for it: what took its port before it could.
            raise StartFailed(_ended_early(process, child, await child.wait()))

    async def _look(self, process: Process) -> str | None:
        """None when it is ready, else what is missing."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                await process.ready()
        except NotReady as missing:
            return str(missing)
        except TimeoutError:
            return f"no answer within {LOOK_TIMEOUT_S:g} s"
        return None

    async def _keep(self, process: Process) -> None:
        """Starts the process again whenever it ends, later and later while its lives are short."""
        short_lives = 0
        while True:
            began = time.monotonic()
            child = self._children[process.name]
            status = await child.wait()
            child.kill_leftovers()
            self._tell(EventKind.EXITED, process.name, _how(status))
            if self._early_end and not self._early_end.done():
                self._early_end.set_result(_ended_early(process, child, status))
            short_lives = 0 if time.monotonic() - began > LONG_LIFE_S else short_lives + 1
            if short_lives >= self._give_up_after:
                self._tell(EventKind.GAVE_UP, process.name, _gave_up(process, child, short_lives))
                return
            await asyncio.sleep(min(LONGEST_PAUSE_S, 0.05 * 2**short_lives))
            while self._is_held(process.name):
                await asyncio.sleep(POLL_S)
            await self._restart(process)

    async def _restart(self, process: Process) -> None:
        try:
            child = await self._spawn(process)
            await self._until_ready(process, child)
        except (HaTasksError, OSError) as error:
            self._tell(EventKind.EXITED, process.name, str(error))
            child = self._children[process.name]
            if not child.has_ended:  # it may be the one before, whose pid is no longer its own
                await child.kill()
        else:
            self._tell(EventKind.READY, process.name, process.where)

    async def _take_down(self, node: Node, ended: Mapping[str, asyncio.Event]) -> None:
        for other in self._nodes.values():
            if node.name in other.needs:
                await ended[other.name].wait()
        try:
            if node.name in self._begun:
                await (self._undo(node) if isinstance(node, Job) else self._end(node))
        finally:
            ended[node.name].set()

    async def _undo(self, job: Job) -> None:
        if not job.stop:
            return
        try:
            await asyncio.wait_for(job.stop(), job.stop_timeout_s)
        except (TimeoutError, HaTasksError) as error:
            # The stop goes on: what is left is swept up at its end, however it got stuck.
            self._tell(EventKind.KILLED, job.name, str(error) or f"not done in {job.stop_timeout_s:g} s")
        else:
            self._tell(EventKind.STOPPED, job.name)

    async def _end(self, process: Process) -> None:
        child = self._children.get(process.name)
        if not child or child.has_ended:
            return
        by_itself = await child.stop()
        self._tell(EventKind.STOPPED if by_itself else EventKind.KILLED, process.name)

    def _tell(self, kind: EventKind, name: str, text: str = "") -> None:
        self._listen(Event(kind=kind, name=name, after_s=time.monotonic() - self._since, text=text))


def _how(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"


def _ended_early(process: Process, child: Child, status: int) -> str:
    how = _how(status)
    return f"{process.name} ended {how} while it started; its log is {process.log}\n{child.last_words()}"


def _gave_up(process: Process, child: Child, times: int) -> str:
    return (
        f"{process.name} ended {times} times in a row soon after its start and is left down; "
        f"mend the cause, then stop and start the stack; its log is {process.log}\n{child.last_words()}"
    )
