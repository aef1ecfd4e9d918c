"""The beat: whoever leads claims the ticks that are due, and only then sends them.

A tick is claimed in the store by compare-and-set under the leader's fence before its message is sent. So a
leader that was paused and woke up finds its claim refused; one that dies between claim and message has lost
a tick that may be lost, and left one that must not be lost for its successor to send.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ha_tasks.errors import BrokerUnreachable, HaTasksError, StaleFence, Unroutable
from ha_tasks.model.schedule import Entry, Move, TickState, decide
from ha_tasks.names import Counter, Handling
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.leadership import TickBook
from ha_tasks.ports.ledger import Ledger
from ha_tasks.ports.repositories import ScheduleBook
from ha_tasks.workflows.leading import Leading

log = logging.getLogger(__name__)


RETRY_S = 1.0
"""After a store that did not answer it is asked again so late."""


class Beat:
    """One process of those that beat. ``round`` is called again and again, after the pause it asks for."""

    def __init__(
        self,
        *,
        entries: Sequence[Entry],
        leading: Leading,
        ticks: TickBook,
        schedule: ScheduleBook,
        ledger: Ledger,
        clock: Clock,
        send: Callable[[Move, int], None],
    ) -> None:
        """``send`` hands a tick's message, under a fence, to the broker, or raises BrokerUnreachable."""
        self._entries = entries
        self._leading = leading
        self._ticks = ticks
        self._schedule = schedule
        self._ledger = ledger
        self._clock = clock
        self._send = send
        self._trouble = ""

    def round(self) -> float:
        """Does what is to be done now; answers how many seconds may pass until the next round.

        Nobody acts without the store: what it cannot claim it does not send. Raises nothing of the tree.
        """
        try:
            fence = self._leading.step()
            if fence is not None:
                self._act(fence)
        except StaleFence:
            self._leading.lost()
        except HaTasksError as error:
            self._tell(str(error))
            return min(RETRY_S, self._leading.pause_s)
        else:
            self._tell("")
        return self._pause_s()

    def close(self) -> None:
        """Lets the next one lead at once. A store that does not answer lets it wait for the lease's end."""
        try:
            self._leading.release()
        except HaTasksError as error:
            self._tell(str(error))

    def _act(self, fence: int) -> None:
        moves = self._moves()
        if not moves:
            return
        begun = self._clock.monotonic()
        claimed = self._ticks.claim(self._leading.name, fence, moves, self._clock.now(), self._leading.until)
        self._leading.renewed(begun)
        self._deliver([move for move in claimed if move.send], fence)

    def _moves(self) -> list[Move]:
        """What is to be done now. Successes are asked for only where they decide anything."""
        known, now = self._ticks.ticks(), self._clock.now()
        owing = any(tick.state is not TickState.SENT for tick in known.values())
        successes = self._schedule.successes() if owing else {}
        moves = (decide(e, known.get(e.name), successes.get(e.name), now) for e in self._entries)
        return [move for move in moves if move is not None]

    def _deliver(self, moves: Sequence[Move], fence: int) -> None:
        """After the first that the broker did not take the others are not tried: each might take a second."""
        sent, trouble = [], ""
        for move in moves:
            # The pause between claim and message may have been a long one: then another has taken over.
            if trouble or not self._leading.holds():
                continue
            try:
                self._send(move, fence)
            except Unroutable as error:
                log.error("beat: %s was not sent: %s", move.entry.name, error)
            except BrokerUnreachable as error:
                trouble = str(error)
            else:
                sent.append(move)
        self._settle(moves, sent, fence)
        if trouble:
            raise BrokerUnreachable(trouble)

    def _settle(self, moves: Sequence[Move], sent: Sequence[Move], fence: int) -> None:
        """What must not be lost is sent or owed from now on; what may be lost and was not sent is counted."""
        sure = [move for move in moves if move.entry.missed is Handling.MADE_UP]
        if sure:
            owed = [move for move in sure if move not in sent]
            self._ticks.settle(fence, [move for move in sure if move in sent], owed, self._clock.now())
        for move in moves:
            if move not in sent and move.entry.missed is Handling.DROPPED:
                labels = {"entry": move.entry.name, "handling": str(Handling.DROPPED)}
                self._ledger.count(Counter.SCHEDULE_MISSED, labels)

    def _pause_s(self) -> float:
        """Until the lease is to be renewed, or the next tick is due."""
        now = self._clock.now()
        next_s = [(entry.cadence.look_again(now) - now).total_seconds() for entry in self._entries]
        return min(self._leading.pause_s, *next_s) if self._leading.holds() else self._leading.pause_s

    def _tell(self, trouble: str) -> None:
        """Once when it begins, once when it is over."""
        if trouble and not self._trouble:
            log.error("beat: %s", trouble)
        elif self._trouble and not trouble:
            log.warning("beat: works again")
        self._trouble = trouble
