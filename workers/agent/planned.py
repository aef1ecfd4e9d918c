"""Planned work on a node that is well: stopping a primary cleanly, demoting it, restarting a standby.

A clean shutdown sends every standby all WAL up to its last record, the shutdown checkpoint. A successor that
has that record has everything, and the stopped node can follow it without a rewind.
"""

from __future__ import annotations

import signal

from ha_tasks.errors import ActionFailed, AgentRefused
from ha_tasks.model.cluster import format_lsn
from workers.agent import processes
from workers.agent.instance import Instance, Position
from workers.agent.kinship import ControlFile, Kinship, parse_control
from workers.agent.ledger import Ledger
from workers.agent.tools import Tools
from workers.agent.upstream import Upstream
from workers.agent.warrant import Warrant

_KILL_S = 5.0
_STOP_SHARE = 0.5
"""Of a restart's time that its shutdown may take; a standby that takes longer is killed: it only replays."""
_STREAMING = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"


class Planned:
    """Done under a warrant; whoever calls has checked the node's past (see commands.py)."""

    def __init__(self, instance: Instance, ledger: Ledger, warrant: Warrant) -> None:
        self._instance = instance
        self._ledger = ledger
        self._warrant = warrant
        self._node = instance.config.node

    def stop(self) -> Position:
        """Where the shutdown checkpoint of the primary begins. Idempotent: a stopped one only says so.

        PassingFailure when it has not ended in time. It cannot be called back then: the next start as a
        primary ends what is left of it.
        """
        if self._instance.runs:
            with self._ledger.acting(self._warrant):
                self._interrupt()
            self._warrant.wait_until(
                lambda: not self._instance.runs, f"PostgreSQL of {self._node} shuts down"
            )
        self._instance.postmaster.kill_tree(timeout_s=_KILL_S)
        control = self._clean_control()
        return Position(timeline=control.timeline, lsn=control.checkpoint)

    def demote(self, upstream: str) -> None:
        """Starts the cleanly stopped primary as a standby of ``upstream``; returns when it streams.

        AgentRefused unless the upstream's history goes on where this node's WAL ends.
        """
        behind = Upstream(self._instance, upstream)
        if not self._instance.runs:
            self._must_be_held_by(behind)
            behind.free_slot(self._warrant)
            # Noted before the mark: whoever finds the mark and nobody to follow can only rejoin.
            self._instance.memory.note(upstream=upstream)
            self._instance.mark_standby()
            self._open(upstream)
            self._instance.ensure_slots(renew=True)
        self._await_streaming(upstream)
        self._instance.memory.note(promotion_begun=None, received_timeline=None)

    def restart(self, upstream: str, key: str) -> None:
        """A running standby, stopped and started with the programs and settings that are on its disk now."""
        self._instance.postmaster.stop_fast(timeout_s=self._warrant.left_s() * _STOP_SHARE)
        self._open(upstream)
        self._instance.memory.note(restarted=key)

    def _interrupt(self) -> None:
        pid = self._instance.postmaster.pid
        if pid is not None:
            processes.send(pid, signal.SIGINT)

    def _clean_control(self) -> ControlFile:
        data_dir = self._instance.config.data_dir
        tools = Tools(self._instance, self._ledger, self._warrant)
        try:
            control = parse_control(tools.run("pg_controldata", str(data_dir), cwd=data_dir))
        except (KeyError, ValueError) as error:
            raise ActionFailed(f"the control file of {self._node} cannot be read: {error}") from error
        if not control.shut_down:
            raise AgentRefused(f"{self._node} was not shut down cleanly; it can only rejoin")
        return control

    def _must_be_held_by(self, behind: Upstream) -> None:
        control = self._clean_control()
        end = Position(timeline=control.timeline, lsn=control.checkpoint)
        if not Kinship(self._instance.config.data_dir, control, behind).holds(end):
            where = f"{end.timeline}:{format_lsn(end.lsn)}"
            raise AgentRefused(f"{behind.name} lacks the end of {self._node} ({where}); it can only rejoin")

    def _open(self, upstream: str) -> None:
        self._instance.configure(upstream=upstream, sync_setting="")
        self._instance.memory.note(upstream=upstream)
        with self._ledger.acting(self._warrant):
            self._instance.launch()
        self._instance.wait_until_open(self._warrant)

    def _await_streaming(self, upstream: str) -> None:
        """Two looks in a row: a receiver that is refused its starting point streams for a moment only."""
        looks = 0

        def streams() -> bool:
            nonlocal looks
            looks = looks + 1 if self._instance.sql.value(_STREAMING) == "1" else 0
            return looks >= 2

        self._warrant.wait_until(streams, f"{self._node} streams from {upstream}", every_s=0.05)
