"""Host agents: the shipped commands, ledger and memory on simulated servers and disks.

Shipped: ``workers.agent`` commands, ledger (admission), memory (marks), warrants. Simulated: the server under
them, the disk (what was written is there after any crash), receivers, and the long jobs, which decide between
a plain start and a rebuild by comparing content, as ``kinship.py`` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ha_tasks.errors import AgentRefused, PassingFailure
from ha_tasks.ports.host import Authority, Postmaster
from tests.fakes.clock import FakeClock
from tests.protocol.instead import instead
from tests.protocol.servers import Server
from workers.agent import commands, ledger, memory, warrant
from workers.agent.instance import Position, Seen

STALL_S = 0.5
"""How much time one fruitless look of a waiting command takes."""


class AgentDied(BaseException):
    """SIGKILL for the agent; its server runs on."""


@dataclass(eq=False)
class Slot:
    """A file of the agent's."""

    host: Host
    value: Any = None


@dataclass(eq=False)
class Host:
    """A machine: its disk, its agent, its server. ``dies_in``: at that point from now its agent dies."""

    name: str
    world: Any
    server: Server
    ledger: Slot = field(init=False)
    memory: Slot = field(init=False)
    commands: commands.DatabaseCommands | None = None
    dies_in: int | None = None

    def __post_init__(self) -> None:
        self.ledger, self.memory = Slot(self), Slot(self)

    @property
    def answers(self) -> bool:
        return self.commands is not None and not self.server.frozen

    def begin(self) -> None:
        """The agent starts, with what is on its disk."""
        book = ledger.Ledger(self.ledger)  # type: ignore[arg-type] # a slot is all of the path that is used
        instance = SimInstance(self, memory.Memory(self.memory))  # type: ignore[arg-type]
        watch: Any = SimpleNamespace(unanswered_s=0.0, heard_s=None, hear=lambda standing: None)
        made = commands.DatabaseCommands(instance, book, SimJobs(book), watch)  # type: ignore[arg-type]
        made._receiving = SimReceiving(instance)  # type: ignore[assignment]
        made._turn = SimTurn(self.world.clock)  # type: ignore[assignment]
        self.commands, self.dies_in = made, None

    def acts(self, *, parks: bool = True) -> None:
        """Before an effect: what the agent obeys now must be on its disk."""
        self.point(parks=parks)
        kept = self.ledger.value or {"epoch": 0, "fence": 0}
        obeyed = self.commands._ledger.highest if self.commands else None
        if obeyed and (obeyed.epoch, obeyed.fence) > (kept["epoch"], kept["fence"]):
            self.world.breaks(f"{self.name} acts for {obeyed} and would not know it after a restart")

    def point(self, *, parks: bool = True) -> None:
        """Between two effects of a command: the agent may die here, and the command be stalled."""
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in < 0:
                self.commands, self.dies_in = None, None
                raise AgentDied
        if parks and self.world.is_an_agents_turn():
            self.world.turns.point()


class SimTurn:
    """Whose command runs. Whoever waits for it in vain uses up its time."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock, self._taken = clock, False

    def acquire(self, timeout: float = 0.0) -> bool:
        if self._taken:
            self._clock.advance(STALL_S)
            return False
        self._taken = True
        return True

    def release(self) -> None:
        self._taken = False


class SimJobs:
    """Jobs that are over when they have been asked for."""

    def __init__(self, book: ledger.Ledger) -> None:
        self._book = book
        self._done: dict[str, Any] = {}

    def ask(self, job: str, by: Authority, work: Callable[..., Any]) -> Any:
        with self._book.warrant(by, timeout_s=300, alone=job not in self._done) as leave:
            if job not in self._done:
                self._done[job] = {**work(leave, lambda _: None), "state": "done"}
        return self._done[job]

    def last(self) -> Any:
        return {}


class SimInstance:
    """See workers/agent/instance.py; the postmaster and the SQL connection are this object too."""

    def __init__(self, host: Host, remembered: memory.Memory) -> None:
        self.host, self.memory = host, remembered
        self.server, self.net = host.server, host.world.net
        self.config = SimpleNamespace(node=host.name)
        self.binary = SimpleNamespace(version=lambda: "18.1")
        self.postmaster = self.sql = self
        self._launched = False

    # what it is

    @property
    def state(self) -> Postmaster:
        if self.runs:
            return Postmaster.RUNNING
        return Postmaster.EXITED if self._launched else Postmaster.ABSENT

    @property
    def has_data(self) -> bool:
        return self.server.has_data

    @property
    def is_marked_standby(self) -> bool:
        return self.server.marked

    @property
    def runs(self) -> bool:
        self._launched = self._launched or self.server.runs
        return self.server.runs

    def in_recovery(self) -> bool:
        return self.server.in_recovery

    def seen(self, *, timeout_s: float = 2.0) -> Seen:
        receiving = self.server.receives is not None
        at = Position(timeline=self.server.timeline, lsn=self.server.lsn)
        return Seen(in_recovery=self.server.in_recovery, at=at, receiving=receiving)

    def timeline_on_disk(self) -> int:
        return self.server.known

    def history(self, timeline: int) -> tuple[tuple[int, int], ...] | None:
        return self.server.forks if timeline == self.server.timeline else None

    def system_identifier(self) -> str:
        return "7000000000000000000"

    def stopped(self) -> str:
        return ""

    def says_stopping(self) -> bool:
        return self.server.stopping

    # what is done to it

    def conninfo(self, upstream: str) -> str:
        if upstream not in self.net.servers or upstream == self.host.name:
            raise AgentRefused(f"{upstream} is no peer of {self.host.name}")
        return upstream

    def configure(self, *, upstream: str | None, sync_setting: str) -> None:
        self.host.acts()
        self.server.conf = (upstream, sync_setting)
        self.host.point()

    def reconfigure(self, leave: warrant.Warrant, *, upstream: str | None, sync_setting: str) -> None:
        if upstream is not None and self.memory.now.promotion_begun is not None:
            self.host.world.breaks(f"{self.host.name} bears a promotion's mark and is pointed to {upstream}")
        self.configure(upstream=upstream, sync_setting=sync_setting)
        if not self.server.runs:
            raise PassingFailure(f"PostgreSQL of {self.host.name} does not run")
        self.net.reload(self.host.name)
        self.host.point()
        leave.check()

    def launch(self) -> None:
        self.host.acts(parks=False)
        self._launched = True
        self.net.launch(self.host.name)
        self.host.point(parks=False)

    def wait_until_open(self, leave: warrant.Warrant) -> None:
        self.host.point()
        leave.check()

    def kill_tree(self, *, timeout_s: float) -> None:
        self.host.acts()
        self.net.kill(self.host.name)
        self.host.point()

    def mark_standby(self) -> None:
        self.host.point()
        self.server.marked = True

    def ensure_slots(self, *, renew: bool) -> None:
        self.host.point()

    def held(self) -> AbstractContextManager[None]:
        return nullcontext()

    def rows(self, sql: str) -> list[Any]:
        """The one statement that the commands give it themselves."""
        assert "pg_promote" in sql, sql
        self.host.acts(parks=False)
        if self.server.in_recovery:
            epoch = self.memory.now.promotion_begun
            self.net.promote(self.host.name)
            self.host.world.promoted(self.host.name, epoch)
        self.host.point(parks=False)
        return []


class SimReceiving:
    """See workers/agent/receiving.py."""

    def __init__(self, instance: SimInstance) -> None:
        self._instance = instance

    def stop(self, leave: warrant.Warrant) -> None:
        self._instance.memory.note(received_timeline=self._instance.server.timeline)
        self._instance.reconfigure(leave, upstream=None, sync_setting="")
        self.end()
        self._instance.host.point()

    def end(self) -> None:
        self._instance.net.end_receiver(self._instance.host.name)

    def position(self, _: warrant.Warrant) -> Position:
        self._instance.host.point()
        return self._instance.seen().at

    def release_replay(self) -> None:
        """Nothing holds replay here."""


class SimLong:
    """What takes long: a rejoin, a clean stop, a demotion, a restart."""

    def __init__(
        self, instance: SimInstance, book: ledger.Ledger, leave: warrant.Warrant, *more: Any
    ) -> None:
        self._instance, self._book, self._leave = instance, book, leave
        self._net, self._server = instance.net, instance.server
        self._upstream = more[0] if more else ""

    def run(self) -> Any:
        """A rejoin, see workers/agent/rejoin.py."""
        it, server = self._instance, self._server
        it.kill_tree(timeout_s=1)
        upstream = self._source(self._upstream)
        clean = it.memory.now.promotion_begun is None and server.marked and not it.memory.now.unsound
        if clean and self._is_prefix(upstream):
            method = "start"
        else:
            it.memory.note(unsound="a rebuild was begun")
            it.host.point()
            self._net.copy(server.name, upstream.name)
            it.host.point()
            method = "basebackup"
        it.mark_standby()
        self._open(upstream.name)
        it.memory.note(promotion_begun=None, received_timeline=None, unsound="")
        return {"method": method, "kept": ""}

    def stop(self) -> Position:
        if self._server.runs:
            with self._book.acting(self._leave):
                done = self._net.shut_down(self._server.name)
            if not done:
                raise PassingFailure(f"not in time: PostgreSQL of {self._server.name} shuts down")
        if not self._server.wal[-1][1].startswith("shutdown"):
            raise AgentRefused(f"{self._server.name} was not shut down cleanly; it can only rejoin")
        return Position(timeline=self._server.timeline, lsn=self._server.lsn - 1)

    def demote(self, upstream: str) -> None:
        it = self._instance
        if not self._server.runs:
            if not self._is_prefix(self._source(upstream)):
                raise AgentRefused(f"{upstream} lacks the end of {self._server.name}")
            it.memory.note(upstream=upstream)
            it.mark_standby()
            self._open(upstream)
        it.memory.note(promotion_begun=None, received_timeline=None)

    def restart(self, upstream: str, key: str) -> None:
        self._instance.kill_tree(timeout_s=1)
        self._open(upstream)
        self._instance.memory.note(restarted=key)

    def _open(self, upstream: str) -> None:
        self._instance.configure(upstream=upstream, sync_setting="")
        self._instance.memory.note(upstream=upstream)
        with self._book.acting(self._leave):
            self._instance.launch()

    def _source(self, name: str) -> Server:
        self._instance.conninfo(name)
        source = self._net.servers[name]
        cut = frozenset((name, self._server.name)) in self._net.cut
        if cut or not source.awake or source.in_recovery:
            raise PassingFailure(f"{name} is no primary that can be reached")
        self._net.end_senders(name, {self._server.name})
        return source

    def _is_prefix(self, upstream: Server) -> bool:
        ours = self._server.wal
        return upstream.wal[: len(ours)] == ours and self._net.takes(upstream, self._server)


class _Moment:
    """An event on which nobody can wait beside the world: time passes instead."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock, self._set = clock, False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float = 0.0) -> bool:
        self._clock.advance(STALL_S)
        return self._set


def _read(slot: Slot) -> Any:
    return slot.value


def _write(slot: Slot, value: Any) -> None:
    """Nobody is stalled here: the ledger holds its lock meanwhile."""
    slot.host.point(parks=False)
    slot.value = value
    slot.host.point(parks=False)


@contextmanager
def simulated(clock: Callable[[], FakeClock]) -> Iterator[None]:
    """The shipped agent on simulated disks, time and servers, as long as this lasts."""
    time = SimpleNamespace(monotonic=lambda: clock().monotonic())
    events = SimpleNamespace(Event=lambda: _Moment(clock()), Lock=threading.Lock)
    with (
        instead(ledger, read_json=_read, write_json=_write),
        instead(memory, read_json=_read, write_json=_write),
        instead(warrant, time=time, threading=events),
        instead(commands, Rejoin=SimLong, Planned=SimLong),
    ):
        yield
