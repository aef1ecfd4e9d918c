"""A standby's receiving and replaying: ending it for good, and how far its WAL goes."""

from __future__ import annotations

import re
import signal

from workers.agent import processes
from workers.agent.instance import Instance, Position
from workers.agent.sql import Row
from workers.agent.timelines import timeline_holding
from workers.agent.warrant import Warrant

_RECEIVER = re.compile(r"postgres: (?:[^:]*: )?walreceiver\b")
_WAITS_FOR_WAL = frozenset({"RecoveryWalStream", "RecoveryRetrieveRetryInterval"})

_REPLAY = """
SELECT wait_event_type, wait_event, pg_last_wal_receive_lsn() IS NOT NULL
FROM pg_stat_activity WHERE backend_type = 'startup'
"""
_RESUME = "SELECT CASE WHEN pg_is_wal_replay_paused() THEN pg_wal_replay_resume() END"
_CLIENTS = """
SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


class Receiving:
    """The WAL receiver and the startup process of a running standby."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._node = instance.config.node
        self._sql = instance.sql

    def receivers(self) -> frozenset[int]:
        """Pids of the WAL receivers, by the operating system."""
        children = self._instance.postmaster.children()
        return frozenset(pid for pid in children if _RECEIVER.match(processes.title(pid)))

    def stop(self, warrant: Warrant) -> None:
        """Has it follow nobody, and returns when no receiver is left and none will come. Idempotent."""
        self._remember_timeline()
        self._instance.reconfigure(warrant, upstream=None, sync_setting="")
        self._end_receivers(warrant)
        self._sql.rows(_RESUME)

    def position(self, warrant: Warrant) -> Position:
        """How far the WAL of a standby without receiver goes.

        Waits until it has received since its start, or has replayed all that is on its disk: before
        that, it has more than it says.
        """
        warrant.wait_until(self._knows_its_end, f"{self._node} has replayed the WAL on its disk")
        at = self._instance.seen().at
        size = int(str(self._sql.value("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")))
        holding = timeline_holding(self._instance.wal_names(), at.lsn, size) or 0
        remembered = self._instance.memory.now.received_timeline or 0
        return Position(timeline=max(at.timeline, holding, remembered), lsn=at.lsn)

    def release_replay(self) -> None:
        """Ends the client sessions if replay waits for one of them now. Idempotent."""
        self._replay_state()

    def _end_receivers(self, warrant: Warrant) -> None:
        """Returns when two looks, 50 ms apart, find none.

        By signal from outside: a receiver whose startup process waits for a reader does not see the new
        settings, and pg_terminate_backend does nothing to it. Two looks, because a receiver may have
        been ordered just before the settings were read.
        """
        empty_looks = 0

        def is_over() -> bool:
            nonlocal empty_looks
            receivers = self.receivers()
            for pid in receivers:
                processes.send(pid, signal.SIGTERM)
            empty_looks = 0 if receivers else empty_looks + 1
            return empty_looks >= 2

        warrant.wait_until(is_over, f"the WAL receiver of {self._node} ends", every_s=0.05)

    def _remember_timeline(self) -> None:
        """Noted while a receiver lives: nobody can be asked afterwards."""
        received = self._sql.rows("SELECT received_tli FROM pg_stat_wal_receiver")
        if received and received[0][0]:
            self._instance.memory.note(received_timeline=int(received[0][0]))

    def _knows_its_end(self) -> bool:
        state = self._replay_state()
        return state is not None and (state[2] == "t" or state[1] in _WAITS_FOR_WAL)

    def _replay_state(self) -> Row | None:
        """What the startup process waits for; whoever holds it is ended."""
        rows = self._sql.rows(_REPLAY)
        if rows and _is_held(rows[0]):
            self._end_clients()
        return rows[0] if rows else None

    def _end_clients(self) -> None:
        """By signal: that is what pg_terminate_backend does, which no role may do to superusers."""
        clients = {int(str(pid)) for (pid,) in self._sql.rows(_CLIENTS)}
        for pid in clients & self._instance.postmaster.children():
            processes.send(pid, signal.SIGTERM)


def _is_held(replay: Row) -> bool:
    """True when the startup process waits for a session to let go."""
    kind, event, _ = replay
    return kind in {"Lock", "BufferPin", "Buffer"} or str(event).startswith("RecoveryConflict")
