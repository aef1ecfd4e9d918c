"""Long jobs: they run on when nobody waits, and are asked for by an id that is used once."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ha_tasks.errors import HaTasksError
from ha_tasks.model.plain import Json
from ha_tasks.model.progress import Progress, Tell
from ha_tasks.ports.host import Authority
from workers.agent.disk import read_json, write_json
from workers.agent.ledger import Ledger
from workers.agent.warrant import Warrant

log = logging.getLogger(__name__)
_KEPT = 50

Work: TypeAlias = Callable[[Warrant, Tell], Json]
"""A job: under its warrant, telling how far it is; answers what came of it."""


@dataclass
class _Running:
    """``progress``: what it told last, in memory only; it is gone with the agent, as the job is."""

    warrant: Warrant
    progress: Json = field(default_factory=dict)

    def tell(self, progress: Progress) -> None:
        self.progress = progress.to_json()


class Jobs:
    """One job at a time. Its record is on the disk before its first effect.

    A record: ``{"id", "state": running|done|failed|interrupted}`` with the answer of a job that is done,
    ``progress`` of one that runs, ``reason`` and ``detail`` of one that failed. Interrupted: the agent
    ended meanwhile; who asks for the same id again has it done from the start.
    """

    def __init__(self, directory: Path, ledger: Ledger, *, timeout_s: float) -> None:
        self._directory = directory
        self._ledger = ledger
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def ask(self, job: str, by: Authority, work: Work) -> Json:
        """Begins the job, or only reports one that runs or is done. StaleAuthority for a lower one."""
        with self._lock:
            running = self._running.get(job)
            if running is not None:
                self._ledger.renew(running.warrant, by)
                return self._record(job)
            warrant = self._ledger.open(by, timeout_s=self._timeout_s, alone=not self._is_done(job))
            if self._is_done(job):
                self._ledger.close(warrant)
                return self._record(job)
            self._begin(job, warrant, work)
            return self._record(job)

    def state(self, job: str) -> Json:
        """The record of a job; state ``unknown`` when it was never asked for."""
        with self._lock:
            return self._record(job)

    def last(self) -> Json:
        """The record of the job that was begun last; {} when there was none."""
        with self._lock:
            last = read_json(self._directory / "last.json")
            return self._record(str(last["id"])) if last else {}

    def _begin(self, job: str, warrant: Warrant, work: Work) -> None:
        self._write(job, {"state": "running"})
        write_json(self._directory / "last.json", {"id": job})
        running = self._running[job] = _Running(warrant)
        threading.Thread(target=self._run, args=(job, running, work), name="job", daemon=True).start()

    def _run(self, job: str, running: _Running, work: Work) -> None:
        try:
            outcome = {**work(running.warrant, running.tell), "state": "done"}
        except HaTasksError as error:
            reason = "passing_failure" if error.retryable else error.reason
            outcome = {"state": "failed", "reason": reason, "detail": str(error)}
        except Exception:  # a job's thread has nobody to raise to
            log.exception("job %s", job)
            outcome = {"state": "failed", "reason": "action_failed", "detail": "see the agent's log"}
        self._ledger.close(running.warrant)
        with self._lock:
            del self._running[job]
            self._write(job, outcome)
            self._prune()

    def _is_done(self, job: str) -> bool:
        return bool(self._record(job)["state"] == "done")

    def _record(self, job: str) -> Json:
        record = read_json(self._path(job)) or {"id": job, "state": "unknown"}
        if record["state"] != "running":
            return record
        running = self._running.get(job)
        if running is None:
            return {**record, "state": "interrupted"}
        return {**record, "progress": running.progress} if running.progress else record

    def _write(self, job: str, outcome: Json) -> None:
        write_json(self._path(job), {"id": job, **outcome})

    def _path(self, job: str) -> Path:
        """Ids are free text; their digests are file names."""
        return self._directory / f"job-{hashlib.sha256(job.encode()).hexdigest()[:32]}.json"

    def _prune(self) -> None:
        """Keeps the newest records."""
        records = sorted(self._directory.glob("job-*.json"), key=lambda path: path.stat().st_mtime)
        for old in records[:-_KEPT]:
            old.unlink()
