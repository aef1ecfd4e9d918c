"""Evidence about a PostgreSQL primary: positive evidence acts at once, missing evidence waits.

E1  its agent says the postmaster has exited                                        at once
E2  connection refused to the quorum of vantages, and no agent says it runs         2 probes, 0.5 s
E3  no answer to the quorum of vantages, and a standby says it hears nothing        3 s
E4  no new session for the quorum of vantages, and its own agent says why: every
    process is stopped by a signal                                                  2 s
    the postmaster is, while WAL flows and old sessions go on                       4 s
    no session for the agent either, and nobody knows why                           6 s
E5  reads are fine, a commit hangs: on the WAL's disk (failover), or on the
    synchronous set (a change of the set, never a failover)                         10 s
none  standbys still receive and its agent is silent or well, or nobody can be asked: the observers
      may be at fault. "Too many clients" is an answer: it is alive

Waits are counted from the sending of the first failed probe to the moment at which the last was known to
have failed, by each vantage's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile

from ha_tasks.model.plain import Facts
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome

REFUSED_FOR = timedelta(seconds=0.45)
"""Two refused probes, one probing interval (0.5 s) apart, less what timers are early by."""
SILENT_FOR = timedelta(seconds=3.0)
STOPPED_FOR = {"every process": timedelta(seconds=2.0), "the postmaster": timedelta(seconds=4.0)}
"""A stopped process is positive evidence; it is waited for as long as a person may stop one to look at it."""
NO_SESSION_FOR = timedelta(seconds=6.0)
UNANSWERED_S = 4.0
"""So long the agent itself must have got no new session: its question is patient, so a busy machine
answers it in between."""
STUCK_FOR = timedelta(seconds=10.0)
AGENT_ALIVE = "running"


class Remedy(StrEnum):
    """What evidence calls for."""

    NONE = "none"
    FAILOVER = "failover"
    CHANGE_SET = "change_set"
    """Of the synchronous set: the primary is well, and nobody acknowledges its commits."""


class EvidenceKind(StrEnum):
    """Which row of the table above; NONE: nothing proves that it is gone."""

    EXITED = "E1"
    REFUSED = "E2"
    SILENT = "E3"
    FROZEN = "E4"
    STUCK_DISK = "E5"
    STUCK_SET = "E5 (set)"
    NONE = "none"

    @property
    def remedy(self) -> Remedy:
        """What is to be done about it."""
        if self is EvidenceKind.NONE:
            return Remedy.NONE
        return Remedy.CHANGE_SET if self is EvidenceKind.STUCK_SET else Remedy.FAILOVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """``since``: sent time of the first probe that saw this failure."""

    kind: EvidenceKind
    text: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What there is to judge by. ``word`` is what its agent said last; None when it is silent."""

    failing: Mapping[str, Sequence[ProbeOutcome]]
    word: Facts | None
    answered_last: bool
    standbys: Sequence[ProbeOutcome]
    quorum: int

    @property
    def agent(self) -> str | None:
        """Its word of the postmaster."""
        return None if self.word is None else self.word.get("postmaster")

    def witnesses(self, kind: OutcomeKind, at_least: timedelta) -> int:
        """How many vantages saw nothing but that (or a refusal) for that long."""
        return sum(_lasting(tail, kind, at_least) for tail in self.failing.values())


def judge_primary(
    primary: Mapping[str, Sequence[ProbeOutcome]],
    standbys: Sequence[ProbeOutcome],
    quorum: int,
) -> Evidence:
    """Judges a primary by outcomes of fresh vantages (each oldest first) and the standbys' latest. Pure."""
    tails = {v: tail for v, outcomes in primary.items() if (tail := _failing_tail(outcomes))}
    if not tails:
        return _stuck(primary, quorum) or Evidence(kind=EvidenceKind.NONE, text="the primary answers")
    since = min(tail[0].sent_at for tail in tails.values())
    latest = max((outcomes[-1] for outcomes in primary.values()), key=lambda o: o.sent_at)
    view = _View(
        failing=tails,
        word=_word(primary),
        answered_last=latest.ok,
        standbys=standbys,
        quorum=quorum,
    )
    kind, text = _exited(view) or _refused(view) or _silent(view) or _frozen(view) or _NOTHING
    return Evidence(kind=kind, text=text, since=since)


_Found = tuple[EvidenceKind, str]
_NOTHING: _Found = (EvidenceKind.NONE, "some probes fail; not enough to act on")


def _exited(view: _View) -> _Found | None:
    if view.agent != "exited" or view.answered_last:
        return None
    why = (view.word or {}).get("self_fenced")
    said = f"its agent ended it by itself: {why}" if why else "its agent saw the postmaster exit"
    return EvidenceKind.EXITED, said


def _refused(view: _View) -> _Found | None:
    count = view.witnesses(OutcomeKind.REFUSED, REFUSED_FOR)
    if view.agent == AGENT_ALIVE or count < view.quorum:
        return None
    said = "its agent is silent" if view.agent is None else "its agent found no postmaster"
    return EvidenceKind.REFUSED, f"refused to {count} vantages, {said}"


def _silent(view: _View) -> _Found | None:
    count = view.witnesses(OutcomeKind.TIMEOUT, SILENT_FOR)
    heard = [s.facts["receiving"] for s in view.standbys if "receiving" in s.facts]
    # When no standby can be asked either, the trouble may be the observers' own.
    if count < view.quorum or not heard or any(heard):
        return None
    return EvidenceKind.SILENT, f"no answer to {count} vantages, no standby hears from it"


def _frozen(view: _View) -> _Found | None:
    """Only with its agent's own word: from where the agent stands no network is in between."""
    if view.word is None or view.agent != AGENT_ALIVE:
        return None
    for stopped, at_least in STOPPED_FOR.items():
        count = sum(_stopped(tail, stopped, at_least) for tail in view.failing.values())
        if count >= view.quorum:
            return EvidenceKind.FROZEN, f"no new session for {count} vantages, {stopped} is stopped (SIGSTOP)"
    count = view.witnesses(OutcomeKind.TIMEOUT, NO_SESSION_FOR)
    unanswered_s = view.word.get("unanswered_s") or 0.0
    if count < view.quorum or unanswered_s < UNANSWERED_S:
        return None
    text = f"no new session for {count} vantages, none for its agent in {unanswered_s:.0f} s"
    return EvidenceKind.FROZEN, text


def _stuck(primary: Mapping[str, Sequence[ProbeOutcome]], quorum: int) -> Evidence | None:
    """E5: by what each vantage has read of the server's own sessions, see ProbeOutcome."""
    for kind, name, text in (
        (EvidenceKind.STUCK_SET, "sync", "no synchronous standby acknowledges, reads are fine"),
        (EvidenceKind.STUCK_DISK, "wal", "the WAL cannot be written to its disk, reads are fine"),
    ):
        tails = [_waiting_tail(outcomes, name) for outcomes in primary.values()]
        lasting = [tail for tail in tails if tail and _span(tail) >= STUCK_FOR]
        if len(lasting) >= quorum:
            since = min(tail[0].sent_at for tail in lasting)
            seconds = STUCK_FOR.total_seconds()
            return Evidence(kind=kind, text=f"a commit hangs for {seconds:.0f} s: {text}", since=since)
    return None


def _waiting_tail(outcomes: Sequence[ProbeOutcome], name: str) -> list[ProbeOutcome]:
    """The last probes that all found the same transaction waiting; at the disk nothing moves meanwhile."""

    def wait(outcome: ProbeOutcome) -> tuple[object, object] | None:
        waiting = outcome.facts.get("waits", {}).get(name) if outcome.ok else None
        return None if waiting is None else (waiting, name == "wal" and outcome.facts.get("lsn"))

    now = wait(outcomes[-1])
    if now is None:
        return []
    return list(takewhile(lambda outcome: wait(outcome) == now, reversed(outcomes)))[::-1]


def _failing_tail(outcomes: Sequence[ProbeOutcome]) -> list[ProbeOutcome]:
    """The failures since the last good probe; an error text is an answer, so it is no failure here.

    A server that is starting up or has too many clients says so: it is alive.
    """
    tail: list[ProbeOutcome] = []
    for outcome in reversed(outcomes):
        gone = (outcome.facts.get("agent") or {}).get("postmaster") == "exited"
        if outcome.kind in (OutcomeKind.OK, OutcomeKind.ERROR) and not gone:
            break
        tail.append(outcome)
    return tail[::-1]


def _lasting(tail: Sequence[ProbeOutcome], kind: OutcomeKind, at_least: timedelta) -> bool:
    """True when the last probes were all of that kind (or refused, which is stronger) for that long."""
    kinds = (kind, OutcomeKind.REFUSED)
    same = list(takewhile(lambda outcome: outcome.kind in kinds, reversed(tail)))[::-1]
    return len(same) >= 2 and _span(same) >= at_least


def _stopped(tail: Sequence[ProbeOutcome], who: str, at_least: timedelta) -> bool:
    """True when each of the last probes was silence, and brought the word that it (or all) is stopped."""

    def said(outcome: ProbeOutcome) -> bool:
        word = outcome.facts.get("agent") or {}
        return outcome.kind is OutcomeKind.TIMEOUT and word.get("stopped") in (who, "every process")

    same = list(takewhile(said, reversed(tail)))[::-1]
    return len(same) >= 2 and _span(same) >= at_least


def _span(outcomes: Sequence[ProbeOutcome]) -> timedelta:
    return outcomes[-1].known_at - outcomes[0].sent_at


def _word(primary: Mapping[str, Sequence[ProbeOutcome]]) -> Facts | None:
    """The newest word of the node's agent that any vantage has heard with its last probe.

    A vantage that does not hear the agent says nothing against one that does.
    """
    lasts = sorted((outcomes[-1] for outcomes in primary.values()), key=lambda o: o.sent_at)
    words = [word for last in lasts if (word := last.facts.get("agent")) is not None]
    return words[-1] if words else None
