"""One PostgreSQL instance in the agent's hands: starting it, its dynamic settings, its slots, its WAL.

Nothing here asks for authority; that is the business of who calls (commands.py, rejoin.py).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.adapters.postgres_conf import DYNAMIC_CONF, render_setting
from ha_tasks.adapters.wire import parse_address
from ha_tasks.errors import ActionFailed, AgentRefused, PassingFailure, ServiceUnreachable
from ha_tasks.model.replication_slots import PREFIX, slot_name
from workers.agent import processes
from workers.agent.binary import ServerProgram
from workers.agent.config import PostgresConfig
from workers.agent.disk import remove_durably, write_durably
from workers.agent.memory import Memory
from workers.agent.postmaster import Postmaster
from workers.agent.sql import Sql
from workers.agent.timelines import highest_timeline, parse_history
from workers.agent.warrant import Warrant

_SYNC_NAMES = re.compile(r"[\w\s,()*\"-]*")

_FACTS = """
SELECT pg_is_in_recovery(),
       CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_insert_lsn()) END,
       CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn,
       greatest((SELECT received_tli FROM pg_stat_wal_receiver),
                (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
                (SELECT timeline_id FROM pg_control_checkpoint())),
       coalesce((SELECT status = 'streaming' AND last_msg_receipt_time > now() - interval '2 s'
                 FROM pg_stat_wal_receiver), false)
"""
_DYNAMIC = """
SELECT pg_conf_load_time() > $1::timestamptz,
       current_setting('primary_conninfo'), current_setting('synchronous_standby_names')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far the WAL goes: ``lsn`` in bytes, on ``timeline``."""

    timeline: int
    lsn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a running server says of itself."""

    in_recovery: bool
    at: Position
    receiving: bool


class Instance:
    """PGDATA, its postmaster, and how to talk to it."""

    def __init__(self, config: PostgresConfig, memory: Memory) -> None:
        self.config = config
        self.memory = memory
        self.postmaster = Postmaster(config.data_dir)
        self.binary = ServerProgram(config.bin_dir / "postgres")
        self.sql = Sql(config.address, user=config.user, password=config.password)

    # --- what it is ---

    @property
    def has_data(self) -> bool:
        """True when PGDATA holds a cluster."""
        return (self.config.data_dir / "global" / "pg_control").exists()

    @property
    def is_marked_standby(self) -> bool:
        """True when it would start as a standby. PostgreSQL takes the mark away at the end of a promotion."""
        return (self.config.data_dir / "standby.signal").exists()

    @property
    def runs(self) -> bool:
        """True while a postmaster lives."""
        return self.postmaster.pid is not None

    def in_recovery(self) -> bool:
        """As the server itself says; ServiceUnreachable when it says nothing."""
        return self.sql.value("SELECT pg_is_in_recovery()") == "t"

    def seen(self, *, timeout_s: float = 2.0) -> Seen:
        """ServiceUnreachable when it does not answer in time."""
        return self.seen_through(self.sql, timeout_s=timeout_s)

    @staticmethod
    def seen_through(sql: Sql, *, timeout_s: float = 2.0) -> Seen:
        """What the server that ``sql`` reaches says of itself."""
        recovery, segment, lsn, timeline, receiving = sql.row(_FACTS, timeout_s=timeout_s)
        newest = int(segment[:8], 16) if segment else int(timeline or 0)
        return Seen(
            in_recovery=recovery == "t",
            at=Position(timeline=newest, lsn=int(lsn or 0)),
            receiving=receiving == "t",
        )

    def system_identifier(self) -> str:
        """Of its data; ServiceUnreachable when the server does not answer."""
        return str(self.sql.value("SELECT system_identifier FROM pg_control_system()"))

    def timeline_on_disk(self) -> int | None:
        """The highest timeline of which its pg_wal speaks; None without data."""
        return highest_timeline(self.wal_names())

    def history(self, timeline: int) -> tuple[tuple[int, int], ...] | None:
        """Where the timelines before that one were left: (timeline, LSN), oldest first; None: unknown."""
        if timeline == 1:
            return ()
        path = self.config.data_dir / "pg_wal" / f"{timeline:08X}.history"
        try:
            stretches = parse_history(path.read_text(), timeline)
        except OSError:
            return None
        return tuple((s.timeline, s.end) for s in stretches if s.end is not None)

    def wal_names(self) -> list[str]:
        """Names of the files in pg_wal."""
        try:
            return os.listdir(self.config.data_dir / "pg_wal")  # noqa: PTH208 (names are all that is wanted)
        except FileNotFoundError:
            return []

    # --- running it ---

    def launch(self) -> None:
        """Starts the postmaster; returns at once. Without effect while it runs."""
        self.memory.note(self_fenced="")
        conf = self.config.conf_dir / "postgresql.conf"
        command = [self.program("postgres"), "-D", str(self.config.data_dir), "-c", f"config_file={conf}"]
        self.postmaster.spawn([*self.config.run_as, *command], log=self.config.log)

    def wait_until_open(self, warrant: Warrant) -> None:
        """Returns when it takes sessions; ActionFailed with its last words when it ends instead."""

        def is_open() -> bool:
            if not self.runs:
                raise ActionFailed(f"PostgreSQL of {self.config.node} did not start: {self._last_words()}")
            return self.postmaster.says_open() and self._answers()

        warrant.wait_until(is_open, f"PostgreSQL of {self.config.node} takes sessions")

    def program(self, name: str) -> str:
        """Path of a PostgreSQL program."""
        return str(self.config.bin_dir / name)

    def mark_standby(self, data_dir: Path | None = None) -> None:
        """PGDATA (or ``data_dir``) will start as a standby. Durable, idempotent."""
        write_durably((data_dir or self.config.data_dir) / "standby.signal", "", prepare=self.hand_over)

    def unmark_standby(self) -> None:
        """It will start as a primary. Durable, idempotent."""
        remove_durably(self.config.data_dir / "standby.signal")

    def hand_over(self, path: Path) -> None:
        """Gives a file of ours to the user that PostgreSQL runs as, when we are root and it is not."""
        owner = self.config.conf_dir.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.chown(path, owner.st_uid, owner.st_gid)

    # --- its dynamic settings ---

    def configure(self, *, upstream: str | None, sync_setting: str) -> None:
        """Writes dynamic.conf: whom it follows (None: nobody) and whom its commits wait for. Durable.

        What ALTER SYSTEM said about these settings, which would win, is taken out of its file.
        """
        settings = {
            "primary_conninfo": self.conninfo(upstream) if upstream else "",
            "primary_slot_name": slot_name(self.config.node) if upstream else "",
            "synchronous_standby_names": checked_sync_setting(sync_setting),
        }
        path = self.config.conf_dir / DYNAMIC_CONF
        lines = [render_setting(name, value) for name, value in settings.items()]
        text = "\n".join(["# Written by the host agent; a change here is lost.", *lines, ""])
        write_durably(path, text, prepare=self.hand_over)
        self._forget_alter_system(settings)

    def _forget_alter_system(self, names: Collection[str]) -> None:
        path = self.config.data_dir / "postgresql.auto.conf"
        try:
            lines = path.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return
        left = [line for line in lines if line.partition("=")[0].strip().lower() not in names]
        if left != lines:
            write_durably(path, "".join(left), prepare=self.hand_over)

    def conninfo(self, upstream: str) -> str:
        """How this node reaches ``upstream`` for replication; AgentRefused when it is no peer."""
        return self._conninfo(
            upstream,
            user=self.config.replication_user,
            application_name=self.config.node,
            tcp_user_timeout="3000",
        )

    def agent_conninfo(self, upstream: str) -> str:
        """How a tool reaches ``upstream`` as the agent does; its password is in the passfile."""
        return self._conninfo(upstream, user=self.config.user)

    def backup_conninfo(self, upstream: str) -> str:
        """How pg_basebackup reaches ``upstream``.

        Never under the node's name: its WAL stream would count as that standby's acknowledgement.
        """
        return self._conninfo(upstream, user=self.config.replication_user, application_name=self.backup_name)

    @property
    def backup_name(self) -> str:
        """Under which name its base backup streams."""
        return f"rejoin_{self.config.node}"

    def peer_sql(self, upstream: str) -> Sql:
        """SQL on a peer, in the role of agents."""
        return Sql(self._peer(upstream), user=self.config.user, password=self.config.password)

    def reconfigure(self, warrant: Warrant, *, upstream: str | None, sync_setting: str) -> None:
        """``configure``, and returns when new sessions of the running server have these settings.

        A new session is forked after the postmaster has read them and told all its children.
        """
        self.configure(upstream=upstream, sync_setting=sync_setting)
        before = str(self.sql.value("SELECT clock_timestamp()"))
        self._signal(signal.SIGHUP)
        expected = ("t", self.conninfo(upstream) if upstream else "", sync_setting)
        warrant.wait_until(
            lambda: self.sql.row(_DYNAMIC, before, anew=True) == expected,
            f"{self.config.node} reads dynamic.conf (does its command line override it?)",
            every_s=0.005,
        )

    # --- slots ---

    def ensure_slots(self, *, renew: bool) -> None:
        """A physical slot for each peer. Lost ones are made again; with ``renew`` all that are not in use.

        Without reservation: a slot costs WAL only once somebody has streamed through it.
        """
        sql = "SELECT slot_name, active, wal_status FROM pg_replication_slots WHERE slot_type = 'physical'"
        there = {str(name): (active == "t", status) for name, active, status in self.sql.rows(sql)}
        for name in map(slot_name, self.config.peers):
            active, status = there.get(name, (False, None))
            if name in there and not active and (renew or status == "lost"):
                self.sql.rows("SELECT pg_drop_replication_slot($1)", name)
                del there[name]
            if name not in there:
                self.sql.rows("SELECT 1 FROM pg_create_physical_replication_slot($1)", name)

    def drop_slot(self, name: str) -> None:
        """A physical slot of a node that is no peer any more, read by nobody. Idempotent.

        AgentRefused for any other.
        """
        for node in (self.config.node, *self.config.peers):
            if slot_name(node) == name:
                raise AgentRefused(
                    f"slot {name} is {node}'s, by the agent.toml of {self.config.node}; take {node} out of "
                    "[postgres.peers] there first"
                )
        if not name.startswith(PREFIX):
            raise AgentRefused(f"slot {name} is none of ours; drop it by hand if nobody needs it")
        sql = "SELECT slot_type, active, temporary FROM pg_replication_slots WHERE slot_name = $1"
        for kind, active, temporary in self.sql.rows(sql, name):
            if (kind, active, temporary) != ("physical", "f", "f"):
                raise AgentRefused(f"slot {name} is read by somebody, or no physical one; it stays")
            self.sql.rows("SELECT pg_drop_replication_slot($1)", name)

    # --- inside ---

    def _signal(self, number: int) -> None:
        pid = self.postmaster.pid
        if pid is None or not processes.send(pid, number):
            raise PassingFailure(f"PostgreSQL of {self.config.node} does not run")

    def _answers(self) -> bool:
        try:
            return self.sql.value("SELECT 't'", timeout_s=1.0) == "t"
        except ServiceUnreachable:
            return False

    def _last_words(self) -> str:
        try:
            lines = self.config.log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return " | ".join(lines[-3:]) or "it said nothing"

    def _peer(self, name: str) -> str:
        if name not in self.config.peers:
            raise AgentRefused(f"{name} is no peer of {self.config.node}; add it to [postgres.peers]")
        return self.config.peers[name]

    def _conninfo(self, upstream: str, **more: str) -> str:
        host, port = parse_address(self._peer(upstream))
        words = {
            "host": host,
            "port": str(port),
            "dbname": "postgres",
            "passfile": str(self.config.passfile),
            "connect_timeout": "2",
            **more,
        }
        return " ".join(f"{name}={_conninfo_value(value)}" for name, value in words.items())


def checked_sync_setting(setting: str) -> str:
    """The same text; AgentRefused when it is no list of standby names, or names everybody."""
    if not _SYNC_NAMES.fullmatch(setting) or "*" in setting:
        raise AgentRefused(f"not a list of explicit standby names: {setting!r}")
    return setting


def _conninfo_value(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
