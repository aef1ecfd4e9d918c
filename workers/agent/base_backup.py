"""A new base backup of the upstream: whether there is room for it, making it, how far it is."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from ha_tasks.errors import ActionFailed, ServiceUnreachable
from ha_tasks.model.progress import Progress, Tell
from ha_tasks.model.replication_slots import slot_name
from workers.agent.instance import Instance
from workers.agent.room import Share, Shortage, shortages
from workers.agent.tools import Tools
from workers.agent.upstream import Upstream

log = logging.getLogger(__name__)

TOLD_EVERY_S = 1.0


class BaseBackup:
    """One copy of ``upstream``, made beside PGDATA, which stays as it is."""

    def __init__(self, instance: Instance, upstream: Upstream, tools: Tools, tell: Tell) -> None:
        self._instance = instance
        self._upstream = upstream
        self._tools = tools
        self._tell = tell
        self._doing = f"base backup from {upstream.name}"

    def make(self, directory: Path) -> None:
        """Into a directory that is made for it; what an earlier attempt left there is removed first.

        ActionFailed, before anything is copied, when there is no room for it.
        """
        if directory.exists():
            shutil.rmtree(directory)
        self._require_room(directory)
        directory.mkdir(mode=0o700)
        self._instance.hand_over(directory)
        self._tell(Progress(doing=self._doing))
        self._tools.run(
            "pg_basebackup",
            f"--pgdata={directory}",
            f"--dbname={self._instance.backup_conninfo(self._upstream.name)}",
            f"--slot={slot_name(self._instance.config.node)}",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-password",
            cwd=directory,
            meanwhile=self._look,
            every_s=TOLD_EVERY_S,
        )

    def _look(self) -> None:
        """By the upstream's own count. One that does not answer now is asked again a second later."""
        try:
            done, whole = self._upstream.backup_progress()
        except ServiceUnreachable as error:
            log.info("%s does not say how far the base backup is: %s", self._upstream.name, error)
            return
        self._tell(Progress(doing=self._doing, done_bytes=done, of_bytes=whole))

    def _require_room(self, directory: Path) -> None:
        """The old data stays until the new one streams, so nothing of it counts as free."""
        small = shortages(self._shares(directory))
        if small:
            raise ActionFailed(self._refusal(small))

    def _shares(self, directory: Path) -> list[Share]:
        """WAL comes with the data while that is copied, and stays as much as its upstream keeps."""
        sizes = self._upstream.sizes()
        # A base backup puts a tablespace where its upstream has it.
        elsewhere = [Share(path=path, size=size) for path, size in sizes.tablespaces.items()]
        return [Share(path=directory, size=sizes.data + sizes.wal), *elsewhere]

    def _refusal(self, small: Sequence[Shortage]) -> str:
        data_dir = self._instance.config.data_dir
        kept = sorted(str(path) for path in data_dir.parent.glob(f"{data_dir.name}.diverged-*"))
        older = f" Old data of earlier rejoins, which nobody needs to run: {', '.join(kept)}." if kept else ""
        return (
            f"no room on {self._instance.config.node} for a new {self._doing}: it "
            f"{'; '.join(map(str, small))}. Nothing was deleted: the old data stays until the new one is "
            f"whole.{older} Make room there, or move data_dir to a larger disk, then begin the rejoin again: "
            f"ha-tasks recover SERVICE --instance {self._instance.config.node}"
        )
