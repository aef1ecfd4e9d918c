"""What the agent of a PostgreSQL node does when it is told to: the verbs of ports.host.DatabaseAgent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from ha_tasks.errors import ActionFailed, AgentRefused, ServiceUnreachable
from ha_tasks.model.plain import Json
from ha_tasks.model.progress import Tell
from ha_tasks.model.self_fence import Standing
from ha_tasks.ports.host import Authority, NodeStatus
from workers.agent.instance import Instance, Position, Seen, checked_sync_setting
from workers.agent.jobs import Jobs
from workers.agent.ledger import Ledger
from workers.agent.planned import Planned
from workers.agent.receiving import Receiving
from workers.agent.rejoin import Rejoin
from workers.agent.warrant import Warrant
from workers.agent.watch import Watch

_STATUS_S = 0.3
"""How long a status waits for a server that may be frozen."""


class DatabaseCommands:
    """Each command is checked for authority first, is idempotent, and runs one at a time.

    Fence and revoke do not wait for others: they call them off.
    """

    def __init__(self, instance: Instance, ledger: Ledger, jobs: Jobs, watch: Watch) -> None:
        self._instance = instance
        self._watch = watch
        self._ledger = ledger
        self._jobs = jobs
        self._receiving = Receiving(instance)
        self._turn = threading.Lock()

    def status(self) -> NodeStatus:
        """Reads only; answers within 0.4 s, also when PostgreSQL hangs (then ``in_recovery`` is None).

        One whose postmaster is stopped is not asked: who looks has only as long as the asking would take.
        """
        remembered = self._instance.memory.now
        stopped = self._instance.postmaster.stopped()
        seen = None if stopped else self._seen()
        timeline = seen.at.timeline if seen else self._timeline_of_stopped()
        return NodeStatus(
            node=self._instance.config.node,
            postmaster=self._instance.postmaster.state,
            in_recovery=seen.in_recovery if seen else None,
            epoch=self._ledger.highest.epoch,
            promotion_begun=remembered.promotion_begun,
            upstream=remembered.upstream,
            job=self._jobs.last(),
            timeline=timeline,
            lsn=seen.at.lsn if seen else None,
            receiving=seen.receiving if seen and seen.in_recovery else None,
            fence=self._ledger.highest.fence,
            history=None if timeline is None else self._instance.history(timeline),
            binary=self._instance.binary.version(),
            stopped=stopped,
            unanswered_s=0.0 if seen else self._watch.unanswered_s,
            self_fenced=remembered.self_fenced,
            store_heard_s=self._watch.heard_s,
            clock=time.time(),
            left=remembered.left,
            timeline_on_disk=self._instance.timeline_on_disk(),
        )

    def await_exit(self, timeout_s: float) -> Json:
        """The postmaster's state as soon as it does not run, or after ``timeout_s``."""
        return {"postmaster": self._instance.postmaster.await_exit(timeout_s)}

    def hear(self, standing: Standing) -> Json:
        """Who the store says is the primary. Commands nothing; the agent's own rules remember it."""
        self._watch.hear(standing)
        return {}

    def fence(self, by: Authority, timeout_s: float) -> Json:
        """SIGKILL for every process of PGDATA. Waits for nobody's turn."""
        with self._ledger.warrant(by, timeout_s=timeout_s, alone=True) as warrant:
            self._instance.postmaster.kill_tree(timeout_s=warrant.left_s())
        return {}

    def revoke(self, by: Authority, timeout_s: float) -> Json:
        """Ends receiving and says how far the WAL goes; AgentRefused when that cannot be known.

        A node that was promoted in an earlier epoch answers its own position: it receives nothing
        either, and whoever takes over needs to know how far it went.
        """
        with self._command(by, timeout_s, alone=True) as warrant, self._instance.sql.held():
            self._follow_nobody_at_next_start()
            self._require_running()
            if self._instance.in_recovery():
                self._keep_conninfo()
                self._receiving.stop(warrant)
                return self._confirmed(self._receiving.position(warrant))
            self._require_own_promotion()
            return self._confirmed(self._instance.seen().at)

    def follow(self, by: Authority, timeout_s: float, *, upstream: str) -> Json:
        """Points a running standby to ``upstream``."""
        with self._command(by, timeout_s) as warrant, self._instance.sql.held():
            self._require_running()
            self._require_clean_standby()
            if not self._instance.in_recovery():
                raise AgentRefused(f"{self._node} is a primary; it can only rejoin")
            self._point_to(warrant, upstream)
        return {}

    def set_sync(self, by: Authority, timeout_s: float, *, sync_setting: str) -> Json:
        """Sets ``synchronous_standby_names`` of a running primary."""
        checked_sync_setting(sync_setting)
        with self._command(by, timeout_s) as warrant:
            self._require_running()
            if self._instance.in_recovery():
                raise AgentRefused(f"{self._node} is a standby")
            self._apply_sync(warrant, sync_setting)
        return {}

    def promote(self, by: Authority, timeout_s: float, *, sync_setting: str) -> Json:
        """Promotes a standby; a node that this agent promoted before only gets the setting."""
        checked_sync_setting(sync_setting)
        with self._command(by, timeout_s) as warrant, self._instance.sql.held():
            self._require_running()
            self._require_sound()
            before = self._instance.seen()
            if before.in_recovery:
                self._promote(warrant, sync_setting, before.at)
            else:
                self._require_own_promotion()
                self._apply_sync(warrant, sync_setting)
                self._instance.memory.note(promotion_begun=by.epoch)
            return {"timeline": self._instance.seen().at.timeline}

    def start_primary(self, by: Authority, timeout_s: float, *, sync_setting: str) -> Json:
        """Starts it as the primary that the caller knows it to be."""
        checked_sync_setting(sync_setting)
        with self._command(by, timeout_s) as warrant:
            if self._instance.postmaster.says_stopping():
                self._instance.postmaster.kill_tree(timeout_s=warrant.left_s())
            if self._instance.runs:
                return self._require_primary(warrant)
            self._require_data()
            if self._instance.is_marked_standby:
                raise AgentRefused(f"{self._node} has the data of a standby; it can only be promoted")
            self._instance.configure(upstream=None, sync_setting=sync_setting)
            self._instance.memory.note(upstream=None)
            self._start(warrant)
            warrant.wait_until(lambda: not self._instance.in_recovery(), f"{self._node} is a primary")
            self._instance.ensure_slots(renew=False)
        return {}

    def start_standby(self, by: Authority, timeout_s: float, *, upstream: str) -> Json:
        """Starts it as a standby of ``upstream``; one that runs already is pointed there."""
        with self._command(by, timeout_s) as warrant:
            self._require_data()
            self._require_clean_standby()
            if self._instance.runs:
                self._instance.wait_until_open(warrant)
                self._point_to(warrant, upstream)
                return {}
            self._instance.configure(upstream=upstream, sync_setting="")
            self._instance.memory.note(upstream=upstream)
            self._start(warrant)
            self._instance.ensure_slots(renew=True)
        return {}

    def stop(self, by: Authority, timeout_s: float) -> Json:
        """Shuts a primary down cleanly; answers where its last record begins. Calls other commands off."""
        with self._command(by, timeout_s, alone=True) as warrant:
            self._require_data()
            if self._instance.is_marked_standby:
                raise AgentRefused(f"{self._node} is a standby; only a primary is stopped for a successor")
            return asdict(Planned(self._instance, self._ledger, warrant).stop())

    def demote(self, by: Authority, timeout_s: float, *, upstream: str) -> Json:
        """Puts the cleanly stopped primary behind its successor, without a rewind."""
        self._instance.conninfo(upstream)  # refuses whoever is no peer, before anything is begun
        with self._command(by, timeout_s) as warrant:
            self._require_data()
            behind = self._instance.is_marked_standby and self._instance.memory.now.upstream == upstream
            if self._instance.runs and not behind:
                raise AgentRefused(f"{self._node} runs, and not behind {upstream}; stop it first")
            if not self._instance.runs and self._instance.is_marked_standby and not behind:
                raise AgentRefused(f"{self._node} has the data of a standby; it can only rejoin")
            Planned(self._instance, self._ledger, warrant).demote(upstream)
        return {}

    def restart_standby(self, by: Authority, timeout_s: float, *, key: str) -> Json:
        """Restarts a running standby, once per ``key``."""
        with self._command(by, timeout_s) as warrant:
            self._require_running()
            self._require_clean_standby()
            upstream = self._instance.memory.now.upstream
            if upstream is None:
                raise AgentRefused(f"{self._node} follows nobody; bring it back first")
            if self._instance.memory.now.restarted == key:
                self._instance.wait_until_open(warrant)
            else:
                Planned(self._instance, self._ledger, warrant).restart(upstream, key)
        return {}

    def drop_slot(self, by: Authority, timeout_s: float, *, slot: str) -> Json:
        """Drops the slot that a node left behind which is no peer any more."""
        with self._command(by, timeout_s):
            self._require_running()
            self._instance.drop_slot(slot)
        return {}

    def rejoin(self, by: Authority, _timeout_s: float, *, upstream: str, job: str) -> Json:
        """Begins the job, or says how far it is. The work goes on when the caller does not wait."""
        self._instance.conninfo(upstream)  # refuses whoever is no peer, before anything is begun
        return self._jobs.ask(job, by, lambda warrant, tell: self._rejoin(warrant, upstream, tell))

    def job(self, job: str) -> Json:
        """How far a job is."""
        return self._jobs.state(job)

    # --- inside ---

    def _confirmed(self, at: Position) -> Json:
        """What whoever chooses a candidate has to know of a node that receives nothing any more."""
        remembered = self._instance.memory.now
        return {
            **asdict(at),
            "followed": remembered.left,
            "begun": remembered.promotion_begun,
            "system": self._instance.system_identifier(),
        }

    @property
    def _node(self) -> str:
        return self._instance.config.node

    @contextmanager
    def _command(self, by: Authority, timeout_s: float, *, alone: bool = False) -> Iterator[Warrant]:
        with self._ledger.warrant(by, timeout_s=timeout_s, alone=alone) as warrant:
            warrant.take(self._turn, f"the turn after another command on {self._node}")
            try:
                yield warrant
            finally:
                self._turn.release()

    def _rejoin(self, warrant: Warrant, upstream: str, tell: Tell) -> Json:
        warrant.take(self._turn, f"the turn after another command on {self._node}")
        try:
            return Rejoin(self._instance, self._ledger, warrant, upstream, tell).run()
        finally:
            self._turn.release()

    def _promote(self, warrant: Warrant, sync_setting: str, before: Position) -> None:
        """The mark is on the disk before anything else: a node that may have been promoted says so."""
        self._instance.memory.note(promotion_begun=warrant.by.epoch, upstream=None)
        self._apply_sync(warrant, sync_setting)
        with self._ledger.acting(warrant):
            self._instance.sql.rows("SELECT pg_promote(false)")
        warrant.wait_until(self._is_promoted, f"{self._node} leaves recovery", every_s=0.005)
        if self._instance.seen().at.timeline <= before.timeline:
            raise ActionFailed(f"{self._node} left recovery without a new timeline")
        self._instance.ensure_slots(renew=False)

    def _is_promoted(self) -> bool:
        if not self._instance.in_recovery():
            return True
        self._receiving.release_replay()
        return False

    def _apply_sync(self, warrant: Warrant, sync_setting: str) -> None:
        self._instance.reconfigure(warrant, upstream=None, sync_setting=sync_setting)

    def _point_to(self, warrant: Warrant, upstream: str) -> None:
        """The setting first: a status that names the upstream too late is asked again, one too early not."""
        self._instance.reconfigure(warrant, upstream=upstream, sync_setting="")
        self._instance.memory.note(upstream=upstream)

    def _start(self, warrant: Warrant) -> None:
        with self._ledger.acting(warrant):
            self._instance.launch()
        self._instance.wait_until_open(warrant)

    def _keep_conninfo(self) -> None:
        upstream = self._instance.memory.now.upstream
        if upstream:
            kept = self._instance.conninfo(upstream)
            self._instance.memory.note(kept_conninfo=kept, upstream=None, left=upstream)

    def _follow_nobody_at_next_start(self) -> None:
        """A stopped standby cannot confirm anything, but it must not come back as a receiver."""
        if self._instance.is_marked_standby and not self._instance.runs:
            self._keep_conninfo()
            self._instance.configure(upstream=None, sync_setting="")

    def _require_running(self) -> None:
        if not self._instance.runs:
            raise AgentRefused(f"PostgreSQL of {self._node} does not run")

    def _require_sound(self) -> None:
        unsound = self._instance.memory.now.unsound
        if unsound:
            raise AgentRefused(f"{self._node} can only rejoin: {unsound}")

    def _require_data(self) -> None:
        if not self._instance.has_data:
            raise AgentRefused(f"{self._node} has no data; it can only rejoin")
        self._require_sound()

    def _require_clean_standby(self) -> None:
        self._require_sound()
        begun = self._instance.memory.now.promotion_begun
        if begun is not None:
            raise AgentRefused(f"{self._node} began a promotion in epoch {begun}; it can only rejoin")
        if not self._instance.is_marked_standby:
            raise AgentRefused(f"{self._node} has the data of a primary; it can only rejoin")

    def _require_own_promotion(self) -> None:
        if self._instance.memory.now.promotion_begun is None:
            raise AgentRefused(f"{self._node} is a primary, and this agent did not promote it")

    def _require_primary(self, warrant: Warrant) -> Json:
        self._instance.wait_until_open(warrant)
        if self._instance.in_recovery():
            raise AgentRefused(f"{self._node} runs as a standby; it can only be promoted")
        return {}

    def _seen(self) -> Seen | None:
        if not self._instance.runs:
            return None
        try:
            return self._instance.seen(timeout_s=_STATUS_S)
        except ServiceUnreachable:
            return None

    def _timeline_of_stopped(self) -> int | None:
        return None if self._instance.runs else self._instance.timeline_on_disk()
