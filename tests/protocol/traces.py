"""One short history for each rule: it is harmless as long as the rule is there, and breaks when it is not.

Nodes are numbers: 0 is pg1, the first primary; LEADER is whoever is recorded. Written by hand from what each
rule keeps out, so the default run need not search. ``planted.py`` has the faults of these names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tests.protocol.explorer import LEADER, Event, History
from tests.protocol.world import Fate

TO_THE_END = ("work", ("A", 100_000, None))
FAIL_OVER: Sequence[Event] = (("suspect", (LEADER,)), TO_THE_END)
FLOW: Event = ("flow", ())


UNSEEN: Event = ("work_until", ("A", "promote answered", ("promote", Fate.UNANSWERED, 0)))
"""The candidate is promoted, and its answer is lost."""


def _each(event: str, *nodes: int) -> list[Event]:
    return [(event, (node,)) for node in nodes]


def _until(what: str) -> Event:
    return ("work_until", ("A", what))


def _shipped(source: int, *standbys: int) -> list[Event]:
    """A row is written and flushed there alone."""
    return [("write", (source,)), *(("ship", (source, standby, True)) for standby in standbys)]


def _cut(source: int, *others: int) -> list[Event]:
    return [("cut", (source, other)) for other in others]


def _promoted_and_forgotten(candidate: int) -> list[Event]:
    """It is promoted, nobody records it, and its agent falls silent; the run ends without it."""
    return [
        ("suspect", (LEADER,)),
        UNSEEN,
        *_each("kill_agent", candidate),
        TO_THE_END,
    ]


def _widening() -> list[Event]:
    """pg2 has taken over from pg1, which comes back: it is about to enter the synchronous set."""
    return [
        *_each("kill_host", 0),
        *FAIL_OVER,
        *_each("start_agent", 0),
        ("suspect", (0,)),
    ]


def _given_up_and_failed_over(*silent: int) -> list[Event]:
    """The executor dies, agents fall silent, the run fails, and the primary is suspected."""
    return [
        ("kill_controller", ("A",)),
        *_each("kill_agent", *silent),
        ("time", (5,)),
        TO_THE_END,
        *FAIL_OVER,
    ]


TRACES: Mapping[str, History] = MappingProxyType(
    {
        name: History(nodes, tuple(events))
        for name, nodes, events in (
            # Three of five standbys go on receiving, which is W.
            ("at_r_plus_w_equal_to_n", 6, [*_each("kill_agent", 0, 3, 4, 5), *FAIL_OVER]),
            # pg5's walsender has read the old set, pg1's the new one: together they release a commit.
            (
                "each_set_alone",
                5,
                [
                    *_widening(),
                    ("slow", (1, 4)),
                    _until("set_sync answered"),
                    FLOW,
                    *_given_up_and_failed_over(0, 4, 1),
                ],
            ),
            # pg3 was promoted behind pg4's acknowledgement; neither is asked when pg2 takes over again.
            (
                "without_the_unfinished",
                5,
                [
                    *_each("freeze", 0),
                    *_promoted_and_forgotten(1),
                    FLOW,
                    *_each("kill_agent", 4),
                    *_promoted_and_forgotten(2),
                    *_each("kill_agent", 3),
                    *_each("start_agent", 1, 4),
                    *FAIL_OVER,
                ],
            ),
            ("the_least_advanced", 4, [*_shipped(0, 2, 3), *_each("kill_host", 0), *FAIL_OVER]),
            (
                "take_over_in_the_same_epoch",
                4,
                [*_each("kill_host", 0), *FAIL_OVER, *_each("kill_host", LEADER), *FAIL_OVER],
            ),
            # An executor that slept since wakes and records its own primary over a later one.
            (
                "without_compare_and_set",
                4,
                [
                    *_each("kill_host", 0),
                    ("suspect", (LEADER,)),
                    _until("commit_primary.captured"),
                    _until("advance"),
                    ("time", (5,)),
                    ("work", ("B", 100_000, None)),
                    *_each("kill_host", 1),
                    ("suspect", (LEADER,)),
                    ("work", ("B", 100_000, None)),
                    *_each("write", LEADER),
                    FLOW,
                    TO_THE_END,
                ],
            ),
            # pg2 has acknowledged rows; the second candidate takes its place, and is struck out.
            (
                "one_unfinished_candidate",
                4,
                [
                    *_each("freeze", 0),
                    ("suspect", (LEADER,)),
                    UNSEEN,
                    *_each("write", 1),
                    FLOW,
                    *_each("kill_agent", 1),
                    TO_THE_END,
                    ("suspect", (LEADER,)),
                    _until("choose_candidate.done"),
                    *_each("kill_agent", 3),
                    TO_THE_END,
                    *_each("wake", 0),
                ],
            ),
            (
                "candidate_not_recorded",
                4,
                [
                    *_each("freeze", 0),
                    ("suspect", (LEADER,)),
                    UNSEEN,
                    *_each("write", 1),
                    FLOW,
                    *_each("kill_agent", 1),
                    TO_THE_END,
                    *_each("wake", 0),
                ],
            ),
            # Of five, three have the row: one is promoted, two are lost. Those that are left lack it.
            (
                "committed_before_it_is_flushed",
                6,
                [
                    *_shipped(0, 3, 4, 5),
                    *_each("kill_host", 0, 4, 5),
                    *_cut(3, 1, 2),
                    *FAIL_OVER,
                    *_each("kill_host", 3),
                    *FAIL_OVER,
                ],
            ),
            (
                "undone_over_a_candidate",
                4,
                [
                    *_each("freeze", 0),
                    ("suspect", (LEADER,)),
                    UNSEEN,
                    *_each("write", 1),
                    FLOW,
                    *_each("kill_agent", 1),
                    TO_THE_END,
                    *_each("kill_agent", 2),
                    *FAIL_OVER,
                    *_each("wake", 0),
                ],
            ),
            # In force ANY 2 (pg3, pg4, pg5), recorded ANY 3 of four already: pg4 and pg5 go on acknowledging.
            (
                "recorded_before_applied",
                5,
                [*_widening(), _until("set_sync"), *_given_up_and_failed_over(3, 4, 1)],
            ),
            # Recorded ANY 3 of four, in force ANY 3 of five already: three go on acknowledging.
            (
                "applied_before_recorded",
                6,
                [*_widening(), _until("set_sync answered"), FLOW, *_given_up_and_failed_over(0, 4, 5, 1)],
            ),
            # pg5's walsender still releases by ANY 2, with pg1's announcement.
            (
                "walsenders_not_ended",
                5,
                [*_widening(), ("slow", (1, 4)), TO_THE_END, *_each("kill_agent", 0, 4, 1), *FAIL_OVER],
            ),
            # A row is with pg4 and pg5 only, as the old set allows; by the new one pg1 and pg3 suffice.
            (
                "new_set_not_awaited",
                5,
                [
                    *_widening(),
                    _until("widen_sync_set.claimed"),
                    *_cut(1, 0, 2),
                    *_shipped(1, 3, 4),
                    TO_THE_END,
                    *_each("kill_host", 1, 3, 4),
                    *FAIL_OVER,
                ],
            ),
            # The order to promote pg2 comes a second time, long after, with the set of then.
            (
                "lower_pairs_obeyed",
                5,
                [
                    *_each("kill_host", 0),
                    ("suspect", (LEADER,)),
                    ("work", ("A", 100_000, ("promote", Fate.TWICE, 0))),
                    *_each("start_agent", 0),
                    ("suspect", (0,)),
                    TO_THE_END,
                    ("deliver", (0,)),
                    FLOW,
                    *_each("kill_agent", 3, 4, 1),
                    *FAIL_OVER,
                ],
            ),
            ("ledger_written_afterwards", 3, [*_each("kill_host", 0), *FAIL_OVER]),
            ("no_mark", 3, [*_each("kill_host", 0), *FAIL_OVER]),
            # Its agent dies between the mark and the promotion; the next failover is refused and undone.
            (
                "mark_not_asked",
                3,
                [
                    *_each("kill_agent", 0),
                    ("suspect", (LEADER,)),
                    ("work_until", ("A", "promote answered", ("promote", Fate.KILLS, 4))),
                    TO_THE_END,
                    *_each("start_agent", 1),
                    *_each("kill_agent", 2),
                    *FAIL_OVER,
                ],
            ),
            # After both have said how far they are, pg3 still receives and acknowledges.
            (
                "receiver_lives_on",
                3,
                [
                    *_each("kill_agent", 0),
                    ("suspect", (LEADER,)),
                    _until("choose_candidate.done"),
                    *_shipped(0, 2),
                    TO_THE_END,
                ],
            ),
            # pg2 counts twice: by its new walsender, and by the old one that lingers.
            (
                "any_standby_name",
                4,
                [
                    *_shipped(0, 1),
                    *_each("break_receiver", 1),
                    ("ship", (0, 1, True)),
                    *_each("kill_host", 0, 1),
                    *FAIL_OVER,
                ],
            ),
        )
    }
)
