"""Bringing a node back behind another: plain start, pg_rewind, or a new base backup.

Each way is tried only when the one before it cannot be right, and what is uncertain is built anew.
Everything can be begun again from the start at any point: PGDATA that a rewind has touched and not
finished is marked unsound first, and a new base backup is made beside PGDATA.
"""

from __future__ import annotations

import logging
import shutil

from ha_tasks.errors import ActionFailed, PassingFailure, ServiceUnreachable
from ha_tasks.model.plain import Json
from ha_tasks.model.progress import Progress, Tell
from workers.agent import processes
from workers.agent.base_backup import BaseBackup
from workers.agent.disk import sync_directory
from workers.agent.evidence import keep_diverged_wal, stamp
from workers.agent.instance import Instance
from workers.agent.kinship import ControlFile, Kinship, parse_control
from workers.agent.ledger import Ledger
from workers.agent.receiving import Receiving
from workers.agent.tools import Tools
from workers.agent.upstream import Upstream
from workers.agent.warrant import Warrant

log = logging.getLogger(__name__)

_KILL_S = 10.0
_OPENS_S = 120.0
"""How long the node may replay until it takes sessions; after that its data counts as useless."""
_STREAMS_S = 15.0
"""How long it may take from there until it streams."""
_STREAMING = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"


class Rejoin:
    """One rejoin of ``instance`` behind ``upstream``."""

    def __init__(
        self, instance: Instance, ledger: Ledger, warrant: Warrant, upstream: str, tell: Tell
    ) -> None:
        self._tell = tell
        self._instance = instance
        self._config = instance.config
        self._ledger = ledger
        self._warrant = warrant
        self._upstream = Upstream(instance, upstream)
        self._receiving = Receiving(instance)
        self._tools = Tools(instance, ledger, warrant)
        self._backup = BaseBackup(instance, self._upstream, self._tools, tell)
        self._beside = self._config.data_dir.with_name(f"{self._config.data_dir.name}.new")

    def run(self) -> Json:
        """``{"method": "start"|"rewind"|"basebackup", "kept": path|""}`` once the node streams."""
        self._fence()
        self._upstream.prepare(self._warrant)
        control = self._control()
        if control and self._is_clean_standby() and self._start_plainly(control):
            method, kept = "start", ""
        else:
            method, kept = self._rebuild(control)
        self._instance.memory.note(promotion_begun=None, received_timeline=None)
        self._instance.ensure_slots(renew=True)
        return {"method": method, "kept": kept}

    def _fence(self) -> None:
        """Also of what an earlier attempt, perhaps of an agent that is dead, left running."""
        self._instance.postmaster.kill_tree(timeout_s=_KILL_S)
        processes.kill_holders(self._beside, timeout_s=_KILL_S)

    def _control(self) -> ControlFile | None:
        """None when PGDATA is empty, unreadable or unsound: only a base backup is left then."""
        if not self._instance.has_data or self._instance.memory.now.unsound:
            return None
        data_dir = self._config.data_dir
        try:
            return parse_control(self._tools.run("pg_controldata", str(data_dir), cwd=data_dir))
        except (ActionFailed, KeyError, ValueError) as error:
            log.warning("%s: the control file cannot be used: %s", self._config.node, error)
            return None

    def _is_clean_standby(self) -> bool:
        """True when it never wrote WAL of its own, as far as anybody knows."""
        never_promoted = self._instance.memory.now.promotion_begun is None
        return never_promoted and self._instance.is_marked_standby

    def _start_plainly(self, control: ControlFile) -> bool:
        """Started behind nobody it says how far its WAL goes; only then may it follow. False: it may not."""
        self._tell(Progress(doing="plain start"))
        kinship = Kinship(self._config.data_dir, control, self._upstream)
        try:
            self._open(upstream=None)
            at = self._receiving.position(self._warrant.within(_OPENS_S))
            if kinship.continues_at(at):
                name = self._upstream.name
                self._instance.reconfigure(self._warrant, upstream=name, sync_setting="")
                self._instance.memory.note(upstream=name)
                self._await_streaming()
                return True
        except (ActionFailed, PassingFailure, ServiceUnreachable) as error:
            log.warning("%s: a plain start will not do: %s", self._config.node, error)
        self._warrant.check()
        self._instance.postmaster.stop_fast(timeout_s=_KILL_S)
        return False

    def _rebuild(self, control: ControlFile | None) -> tuple[str, str]:
        fork = Kinship(self._config.data_dir, control, self._upstream).fork() if control else None
        if control is None or fork is None:
            aside = self._base_backup()
            return "basebackup", aside
        wal, kept = self._config.data_dir / "pg_wal", self._config.state_dir / "kept"
        saved = str(keep_diverged_wal(wal, kept, fork=fork, segment_bytes=control.segment_bytes))
        if self._rewind():
            return "rewind", saved
        self._base_backup()
        return "basebackup", saved

    def _rewind(self) -> bool:
        """False when it did not work, or the node does not stream after it."""
        memory, name = self._instance.memory, self._upstream.name
        self._tell(Progress(doing=f"pg_rewind from {name}"))
        memory.note(unsound=f"a rewind behind {name} was begun and did not end")
        # pg_rewind may have to recover the node by a single-user server, which the mark forbids.
        self._instance.unmark_standby()
        self._instance.configure(upstream=None, sync_setting="")
        try:
            self._tools.run(
                "pg_rewind",
                f"--target-pgdata={self._config.data_dir}",
                f"--source-server={self._instance.agent_conninfo(name)}",
                f"--config-file={self._config.conf_dir / 'postgresql.conf'}",
                cwd=self._config.data_dir,
            )
            self._stream()
        except (ActionFailed, PassingFailure, ServiceUnreachable) as error:
            log.warning("%s: rewinding did not work: %s", self._config.node, error)
            self._warrant.check()
            self._fence()
            return False
        return True

    def _base_backup(self) -> str:
        """Answers where the old data is kept, empty when there was none."""
        self._upstream.prepare(self._warrant)
        self._backup.make(self._beside)
        # Before it takes the old one's place: without the mark it could be started as a primary.
        self._instance.mark_standby(self._beside)
        self._remove_older_asides()
        with self._ledger.acting(self._warrant):
            aside = self._swap_in()
        self._stream()
        return aside

    def _remove_older_asides(self) -> None:
        """Of old data that is kept aside, only the newest stays."""
        data_dir = self._config.data_dir
        for old in data_dir.parent.glob(f"{data_dir.name}.diverged-*"):
            shutil.rmtree(old)

    def _swap_in(self) -> str:
        """Puts the new data in the place of the old; answers where that is kept now."""
        data_dir, aside = self._config.data_dir, ""
        if data_dir.exists() and any(data_dir.iterdir()):
            kept = data_dir.with_name(f"{data_dir.name}.diverged-{stamp()}")
            data_dir.rename(kept)
            aside = str(kept)
        self._beside.rename(data_dir)
        sync_directory(data_dir.parent)
        return aside

    def _stream(self) -> None:
        """Starts it as a standby of the upstream; returns when it streams, and takes it for sound then."""
        self._tell(Progress(doing=f"replays what it needs to stream from {self._upstream.name}"))
        self._instance.mark_standby()
        self._open(upstream=self._upstream.name)
        self._await_streaming()
        self._instance.memory.note(unsound="")

    def _open(self, *, upstream: str | None) -> None:
        self._instance.configure(upstream=upstream, sync_setting="")
        self._instance.memory.note(upstream=upstream)
        with self._ledger.acting(self._warrant):
            self._instance.launch()
        self._instance.wait_until_open(self._warrant.within(_OPENS_S))

    def _await_streaming(self) -> None:
        """Two looks in a row: a receiver that is refused its starting point streams for a moment only."""
        looks = 0

        def streams() -> bool:
            nonlocal looks
            looks = looks + 1 if self._instance.sql.value(_STREAMING) == "1" else 0
            return looks >= 2

        what = f"{self._config.node} streams from {self._upstream.name}"
        self._warrant.within(_STREAMS_S).wait_until(streams, what, every_s=0.1)
