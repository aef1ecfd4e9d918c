"""The agent's own look at its PostgreSQL, once a second, and what it does by itself.

The look is a new session with a patient deadline: a busy machine answers it now and then, a frozen one
never. An agent that missed its own schedule by more than a second was paused, or its host was: what it
had counted before is worth nothing then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ha_tasks.errors import PassingFailure, ServiceUnreachable
from ha_tasks.model.self_fence import Heard, SelfView, Standing, why_fence
from workers.agent.instance import Instance
from workers.agent.sql import is_answer

log = logging.getLogger(__name__)

EVERY_S = 1.0
PATIENCE_S = 2.0
LATE_S = 1.0
_FENCE_S = 10.0
_KEPT = 32
"""Standings: two observers each second, for longer than any rule looks back."""
_SET_IN_FORCE = """
SELECT pg_is_in_recovery(), current_setting('synchronous_standby_names'),
       (SELECT count(*) FROM pg_stat_replication
         WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum'))
"""


class Watch:
    """One per agent of a PostgreSQL node; ``run`` is its thread, everything else is asked by others."""

    def __init__(
        self,
        instance: Instance,
        *,
        obeyed: Callable[[], int],
        may_fence: bool,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``obeyed``: the highest epoch that the agent has obeyed. ``may_fence``: by its configuration."""
        self._instance = instance
        self._obeyed = obeyed
        self._may_fence = may_fence
        self._now = now
        self._heard: deque[tuple[float, Standing]] = deque(maxlen=_KEPT)
        self._answered: tuple[int, float] | None = None
        """Which postmaster answered last, or was first asked, and when."""
        self._lonely_since: float | None = None
        self._lock = threading.Lock()

    def hear(self, standing: Standing) -> None:
        """A controller said what it has read in the store. Idempotent in effect."""
        with self._lock:
            self._heard.append((self._now(), standing))

    @property
    def heard_s(self) -> float | None:
        """How long ago a controller last spoke; None when none did since the agent began."""
        heard = self._heardings()
        return heard[-1].ago_s if heard else None

    @property
    def unanswered_s(self) -> float | None:
        """How long a new session was not answered, since it is asked; None when PostgreSQL does not run."""
        answered, pid = self._answered, self._instance.postmaster.pid
        return self._now() - answered[1] if answered is not None and answered[0] == pid else None

    def run(self, ended: threading.Event) -> None:
        """Looks until ``ended`` is set."""
        due = self._now()
        while not ended.is_set():
            if self._now() - due > LATE_S:
                self._discard()
            self.look()
            due = max(due + EVERY_S, self._now())
            ended.wait(max(0.0, due - self._now()))

    def look(self) -> None:
        """One look, and the fence where a rule demands it."""
        begun = self._now()
        view = self._view()
        if self._now() - begun > PATIENCE_S + LATE_S:
            self._discard()
        elif view is None:
            self._lonely_since = None
        elif (why := why_fence(view)) and self._may_fence:
            self._fence(why)

    def _discard(self) -> None:
        """The agent was paused: what it had seen and heard before says nothing about now."""
        log.warning("the agent missed its schedule by over %.0f s: what it has seen is discarded", LATE_S)
        with self._lock:
            self._heard.clear()
        self._lonely_since = self._answered = None

    def _view(self) -> SelfView | None:
        """None unless a primary runs here and says how it is."""
        pid = self._instance.postmaster.pid
        if pid is None:
            return None
        if self._answered is None or self._answered[0] != pid:
            self._answered = (pid, self._now())
        try:
            recovery, names, streaming = self._instance.sql.row(_SET_IN_FORCE, timeout_s=PATIENCE_S)
        except ServiceUnreachable as error:
            if is_answer(error):
                self._answered = (pid, self._now())
            return None
        self._answered = (pid, self._now())
        if recovery == "t":
            return None
        quorum, members = quorum_of(names or ""), int(streaming or 0)
        self._lonely_since = None if members else self._lonely_since or self._now()
        lonely_s = 0.0 if self._lonely_since is None else self._now() - self._lonely_since
        return SelfView(
            node=self._instance.config.node,
            heard=self._heardings(),
            obeyed=self._obeyed(),
            quorum=quorum,
            streaming=members,
            lonely_s=lonely_s,
        )

    def _heardings(self) -> list[Heard]:
        now = self._now()
        with self._lock:
            return [Heard(standing=standing, ago_s=now - at) for at, standing in self._heard]

    def _fence(self, why: str) -> None:
        """Said on the disk first: whoever finds it ended must be able to read why."""
        log.critical("PostgreSQL of %s is ended by its own agent: %s", self._instance.config.node, why)
        self._instance.memory.note(self_fenced=why)
        try:
            self._instance.postmaster.kill_tree(timeout_s=_FENCE_S)
        except PassingFailure as error:
            log.error("%s; the next look tries again", error)


def quorum_of(setting: str) -> int:
    """W of ``synchronous_standby_names``: 0 when empty; lists without a count need one."""
    words = setting.replace("(", " ( ").split()
    if not words:
        return 0
    if "(" not in words:
        return 1
    count = words[words.index("(") - 1] if words.index("(") else "1"
    return int(count) if count.isdigit() else 1
