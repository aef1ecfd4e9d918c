"""PostgreSQL servers, as far as acknowledging a commit and following another depend on them.

WAL is a list of records; an LSN is a number of records. A record is known by its identity, a timeline only
by its number, as on the real server: two promotions that know nothing of each other make the same number.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

Record = tuple[int, str]
"""(timeline, what nobody else writes)"""
_SETTING = re.compile(r"ANY (\d+) \((.*)\)")


@dataclass(frozen=True)
class Setting:
    """``synchronous_standby_names`` as one process has read it."""

    quorum: int
    names: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Setting:
        match = _SETTING.fullmatch(text)
        return cls(int(match[1]), frozenset(match[2].split(", "))) if match else cls(0, frozenset())


@dataclass(eq=False)
class Sender:
    """A walsender, with the connection that it serves.

    ``flushed`` is what it was told; ``told`` is on its way to it. ``alive``: the receiver at the other end
    is there. One whose receiver has ended lingers until it notices.
    """

    standby: Server
    setting: Setting
    flushed: int = 0
    told: int = 0
    alive: bool = True


@dataclass(eq=False)
class Server:
    """PGDATA, and the processes while it runs. ``conf`` is dynamic.conf, ``loaded`` what was read of it."""

    name: str
    wal: list[Record] = field(default_factory=list)
    timeline: int = 1
    forks: tuple[tuple[int, int], ...] = ()
    """Where the timelines before were left: (timeline, LSN)."""
    known: int = 1
    """Highest timeline of which there is a history file."""
    marked: bool = False
    conf: tuple[str | None, str] = (None, "")
    has_data: bool = True
    runs: bool = False
    stopping: bool = False
    in_recovery: bool = False
    loaded: tuple[str | None, str] = (None, "")
    receives: Sender | None = None
    senders: list[Sender] = field(default_factory=list)
    released: int = 0
    waiting: list[tuple[int, Record]] = field(default_factory=list)
    frozen: bool = False

    @property
    def lsn(self) -> int:
        return len(self.wal)

    @property
    def awake(self) -> bool:
        return self.runs and not self.frozen

    @property
    def setting(self) -> Setting:
        """What a process that starts now would read."""
        return Setting.parse(self.loaded[1])


class Replication:
    """All servers of a cluster, what flows between them, and who was told that a commit is safe.

    ``slots``: each standby streams through its own slot, which one walsender can hold. ``cut``: pairs of
    nodes between which nothing passes. ``slow``: (server, standby) whose walsender does not read settings.
    """

    def __init__(self, names: list[str]) -> None:
        self.servers = {name: Server(name, wal=[(1, "initdb")]) for name in names}
        self.slots = True
        self.cut: set[frozenset[str]] = set()
        self.slow: set[tuple[str, str]] = set()
        self.acknowledged: list[Record] = []
        self._rows = itertools.count(1)

    # --- processes ---

    def launch(self, name: str) -> None:
        server = self.servers[name]
        if not server.runs:
            server.runs, server.in_recovery, server.loaded = True, server.marked, server.conf
            server.senders, server.waiting, server.released = [], [], 0
            server.receives, server.stopping = None, False

    def kill(self, name: str) -> None:
        """Every process of it ends; whoever waits for a commit is told nothing."""
        server = self.servers[name]
        server.runs = server.stopping = False
        self.end_receiver(name)
        for sender in server.senders:
            sender.alive = False
            if sender.standby.receives is sender:
                sender.standby.receives = None
        server.senders, server.waiting = [], []

    def reload(self, name: str) -> None:
        """The postmaster reads dynamic.conf. Walsenders read it in their own time, a receiver at once."""
        server = self.servers[name]
        if server.conf[0] != server.loaded[0]:
            self._leave(server)
        server.loaded = server.conf
        if not server.setting.quorum:
            self._release(server, server.lsn)

    def _leave(self, server: Server) -> None:
        """A receiver ends by itself when the settings change, unless its startup process is held."""
        if server.conf[0] is not None:
            self.end_receiver(server.name)

    def end_receiver(self, name: str) -> None:
        server = self.servers[name]
        if server.receives is not None:
            server.receives.alive = False
            server.receives = None

    def promote(self, name: str) -> None:
        """A new timeline: one more than any that is known on this disk."""
        server = self.servers[name]
        self.end_receiver(name)
        server.forks = (*server.forks, (server.timeline, server.lsn))
        server.known = server.timeline = max(server.known, server.timeline) + 1
        server.wal.append((server.timeline, f"end-of-recovery-{next(self._rows)}"))
        server.marked = server.in_recovery = False
        for sender in server.senders:  # they ask again, now on the new timeline
            sender.alive = False
            sender.standby.receives = None
        server.senders, server.released, server.waiting = [], 0, []

    def shut_down(self, name: str) -> bool:
        """A clean end: standbys are sent everything. False while one of them cannot be sent it."""
        server = self.servers[name]
        if not server.stopping:
            server.stopping = True
            server.wal.append((server.timeline, f"shutdown-{next(self._rows)}"))
        for sender in server.senders:
            if sender.alive and not self._linked(server, sender.standby):
                return False
        for sender in server.senders:
            self.ship(sender, server)
        self.kill(name)
        return True

    def copy(self, name: str, source: str) -> None:
        """A rewind or a base backup: the data of ``source`` as it is now."""
        server, other = self.servers[name], self.servers[source]
        server.wal, server.timeline = list(other.wal), other.timeline
        server.forks, server.known = other.forks, other.known
        server.marked, server.has_data = True, True

    # --- commits ---

    def write(self, name: str) -> Record | None:
        """A client commits there; None: nobody listens. Whether it is told so is seen later."""
        server = self.servers[name]
        if not server.awake or server.in_recovery or server.stopping:
            return None
        record = (server.timeline, f"row-{next(self._rows)}")
        server.wal.append(record)
        server.waiting.append((server.lsn, record))
        if not server.setting.quorum:
            self._release(server, server.lsn)
        return record

    def _release(self, server: Server, lsn: int) -> None:
        server.released = max(server.released, lsn)
        self.acknowledged += [record for at, record in server.waiting if at <= server.released]
        server.waiting = [(at, record) for at, record in server.waiting if at > server.released]

    def hear(self, sender: Sender, server: Server) -> None:
        """The walsender takes its standby's reply: SyncRepReleaseWaiters, by the settings *it* has read."""
        if not server.awake:
            return
        sender.flushed = max(sender.flushed, sender.told)
        mine = sender.setting
        if server.in_recovery or not mine.quorum or sender.standby.name not in mine.names:
            return
        # Each walsender announces its priority by its own settings; the quorum is the releasing one's.
        flushed = sorted(
            (s.flushed for s in server.senders if s.standby.name in s.setting.names), reverse=True
        )
        if len(flushed) >= mine.quorum:
            self._release(server, flushed[mine.quorum - 1])

    # --- streaming ---

    def ship(self, sender: Sender, server: Server, most: int = 1000) -> None:
        """The standby flushes what it lacks, by position, and says so."""
        standby = sender.standby
        if not (sender.alive and server.awake and standby.awake and self._linked(server, standby)):
            return
        leaves = dict(server.forks).get(standby.timeline, server.lsn)
        standby.wal += server.wal[standby.lsn : standby.lsn + most]
        if server.timeline > standby.timeline and standby.lsn >= leaves:
            standby.timeline, standby.forks = server.timeline, server.forks
        sender.told = max(sender.told, standby.lsn)

    def connect(self, standby: Server) -> None:
        """A receiver starts, if the settings name somebody and that server takes it."""
        upstream = self.servers.get(standby.loaded[0] or "")
        ready = standby.awake and standby.in_recovery and standby.receives is None
        if not ready or upstream is None or not upstream.awake or not self._linked(upstream, standby):
            return
        if self.slots and any(s.standby is standby for s in upstream.senders):
            return
        if not self.takes(upstream, standby):
            return
        standby.known = max(standby.known, upstream.known)
        standby.receives = Sender(standby, upstream.setting)
        upstream.senders.append(standby.receives)

    @staticmethod
    def takes(upstream: Server, standby: Server) -> bool:
        """By numbers, as the real one: it cannot see what the WAL before the position says."""
        if upstream.timeline == standby.timeline:
            return standby.lsn <= upstream.lsn
        left = dict(upstream.forks).get(standby.timeline)
        return left is not None and standby.lsn <= left

    def read_settings(self, server: Server) -> None:
        for sender in server.senders:
            if (server.name, sender.standby.name) not in self.slow:
                sender.setting = server.setting

    def notice(self, server: Server) -> None:
        """Walsenders whose receiver has gone end."""
        server.senders = [s for s in server.senders if s.alive]

    def end_senders(self, name: str, names: set[str]) -> None:
        server = self.servers[name]
        for sender in [s for s in server.senders if s.standby.name in names]:
            sender.alive = False
            if sender.standby.receives is sender:
                sender.standby.receives = None
            server.senders.remove(sender)

    def flow(self, rounds: int = 2) -> None:
        """What happens by itself in a moment, where nothing is cut, slow or frozen."""
        for _ in range(rounds):
            for server in self.servers.values():
                if server.awake:
                    self.notice(server)
                    self.read_settings(server)
            for server in self.servers.values():
                self.connect(server)
            for server in self.servers.values():
                for sender in list(server.senders):
                    self.ship(sender, server)
                    self.hear(sender, server)

    def _linked(self, one: Server, other: Server) -> bool:
        return frozenset((one.name, other.name)) not in self.cut

    # --- what must hold ---

    def can_acknowledge(self, name: str) -> bool:
        """True when a commit there could be acknowledged without any further command to anybody.

        Frozen processes can wake and cut links can heal, so neither takes anything away.
        """
        server = self.servers[name]
        if not server.runs or server.in_recovery or server.stopping:
            return False
        if not server.setting.quorum:
            return True
        settings = {
            standby.name: next((s.setting for s in server.senders if s.standby is standby), server.setting)
            for standby in self.servers.values()
            if self._would_receive(standby, server)
        }
        count = sum(name in setting.names for name, setting in settings.items())
        return any(s.quorum and n in s.names and count >= s.quorum for n, s in settings.items())

    def _would_receive(self, standby: Server, server: Server) -> bool:
        if not standby.runs or not standby.in_recovery:
            return False
        connected = standby.receives is not None and standby.receives in server.senders
        follows = standby.loaded[0] == server.name and standby.receives is None
        return connected or (follows and self.takes(server, standby))
