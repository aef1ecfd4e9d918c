"""ClusterDetector: verdicts on the nodes of a PostgreSQL cluster. Pure.

The primary is judged by the table of evidence in model/evidence.py, a standby by whether it answers, and
whether it follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile

from ha_tasks.model.evidence import Remedy, judge_primary
from ha_tasks.model.platform import Service
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from ha_tasks.model.symptoms import quorum
from ha_tasks.model.verdict import Verdict, VerdictState, too_few

WINDOW = 10
FAILED_OF_WINDOW = 3
"""A node has failed by 3 of its last 10 probes at the quorum of vantages. What is done about a standby is
a rejoin, which a relapse cannot hurt: it needs no memory of what was."""
REFUSED_IN_A_ROW = 2
"""A refused connection is an answer: nobody listens there. Two in a row leave time for a restart."""
NOT_FOLLOWING_FOR = timedelta(seconds=4)


class ClusterDetector:
    """``seen``: outcomes by instance and fresh vantage, oldest first."""

    def __init__(self, min_vantages: int) -> None:
        self._min_vantages = min_vantages

    def judge(
        self,
        service: Service,
        primary: str | None,
        seen: Mapping[str, Mapping[str, Sequence[ProbeOutcome]]],
    ) -> list[Verdict]:
        """One verdict per node; by whether it answers alone while no primary is recorded."""
        if primary is None:
            return [self._node(service, i.name, seen[i.name]) for i in service.instances]
        return [
            self._primary(service, primary, seen)
            if instance.name == primary
            else self._standby(service, instance.name, primary, seen)
            for instance in service.instances
        ]

    def _node(self, service: Service, name: str, by_vantage: Mapping[str, Sequence[ProbeOutcome]]) -> Verdict:
        target = Target(service=service.name, instance=name)
        blind = too_few(target, by_vantage, self._min_vantages)
        if blind is not None:
            return blind
        failing = {v: why for v, outcomes in by_vantage.items() if (why := _failing(outcomes))}
        if len(failing) >= quorum(len(by_vantage), self._min_vantages):
            text = f"{next(iter(failing.values()))} at {len(failing)} of {len(by_vantage)} vantages"
            return _verdict(target, VerdictState.FAILED, text, by_vantage)
        if any(not outcomes[-1].ok for outcomes in by_vantage.values()):
            return _verdict(target, VerdictState.SUSPECT, "some probes fail", by_vantage)
        return _verdict(target, VerdictState.HEALTHY, "answers", by_vantage)

    def _primary(
        self, service: Service, name: str, seen: Mapping[str, Mapping[str, Sequence[ProbeOutcome]]]
    ) -> Verdict:
        target = Target(service=service.name, instance=name)
        blind = too_few(target, seen[name], self._min_vantages)
        if blind is not None:
            return blind
        standbys = [o[-1] for n, by in seen.items() if n != name for o in by.values()]
        evidence = judge_primary(seen[name], standbys, quorum(len(seen[name]), self._min_vantages))
        remedy = evidence.kind.remedy
        state = VerdictState.HEALTHY
        if remedy is Remedy.FAILOVER:
            state = VerdictState.FAILED
        elif evidence.since is not None or any(not o[-1].ok for o in seen[name].values()):
            state = VerdictState.SUSPECT
        text = evidence.text if remedy is Remedy.NONE else f"{evidence.kind}: {evidence.text}"
        return Verdict(
            target=target,
            state=state,
            evidence=text,
            vantages=tuple(seen[name]),
            failing_since=evidence.since,
            remedy=remedy,
        )

    def _standby(
        self,
        service: Service,
        name: str,
        primary: str,
        seen: Mapping[str, Mapping[str, Sequence[ProbeOutcome]]],
    ) -> Verdict:
        """A standby that runs must also follow; while the primary is away, it cannot.

        One that answers us with an error, as the primary does, is no reason to touch it: what both refuse
        is us (a password that was changed), and nothing could be mended without the primary's word. So its
        errors count from the moment at which the primary had its last one.
        """
        verdict = self._node(service, name, seen[name])
        if verdict.state is VerdictState.FAILED:
            alone = _errors_after(seen[name], _last_error(seen[primary]))
            if self._node(service, name, alone).state is not VerdictState.FAILED:
                text = f"answers as the primary does: {_refusal(seen[name])}"
                return replace(verdict, state=VerdictState.SUSPECT, evidence=text)
        if verdict.state is not VerdictState.HEALTHY:
            return verdict
        for judge, after, text in (
            (_writable, None, "is not in recovery"),
            (_deaf, _last_failure(seen[primary]), "does not follow"),
        ):
            since = _all_since(seen[name], judge, after)
            if since is None:
                continue
            lasting = max(o[-1].sent_at for o in seen[name].values()) - since >= NOT_FOLLOWING_FOR
            state = VerdictState.FAILED if lasting else VerdictState.SUSPECT
            return Verdict(
                target=verdict.target,
                state=state,
                evidence=text,
                vantages=verdict.vantages,
                failing_since=since,
            )
        return verdict


def _failing(outcomes: Sequence[ProbeOutcome]) -> str:
    """Why this vantage calls the target failed; empty when it does not."""
    last = outcomes[-1]
    if last.ok:
        return ""
    tail = outcomes[-REFUSED_IN_A_ROW:]
    if len(tail) == REFUSED_IN_A_ROW and all(o.kind is OutcomeKind.REFUSED for o in tail):
        return "connection refused"
    window = outcomes[-WINDOW:]
    failures = sum(not o.ok for o in window)
    return f"{failures} of {len(window)} probes failed" if failures >= FAILED_OF_WINDOW else ""


def _verdict(
    target: Target,
    state: VerdictState,
    text: str,
    by_vantage: Mapping[str, Sequence[ProbeOutcome]],
) -> Verdict:
    firsts = [first for o in by_vantage.values() if (first := _first_failure(o)) is not None]
    healthy = state is VerdictState.HEALTHY
    return Verdict(
        target=target,
        state=state,
        evidence=text,
        vantages=tuple(by_vantage),
        failing_since=None if healthy else min(firsts, default=None),
    )


def _first_failure(outcomes: Sequence[ProbeOutcome]) -> datetime | None:
    """Sent time of the first of the failures that have not ended yet."""
    first = None
    for outcome in reversed(outcomes):
        if outcome.ok:
            break
        first = outcome.sent_at
    return first


def _errors_after(
    by_vantage: Mapping[str, Sequence[ProbeOutcome]], after: ProbeOutcome | None
) -> Mapping[str, Sequence[ProbeOutcome]]:
    """Without the errors up to ``after``: it lived then, and said no."""
    if after is None:
        return by_vantage
    left = {
        v: [o for o in outcomes if o.kind is not OutcomeKind.ERROR or o.sent_at > after.sent_at]
        for v, outcomes in by_vantage.items()
    }
    return {v: outcomes for v, outcomes in left.items() if outcomes}


def _last_error(by_vantage: Mapping[str, Sequence[ProbeOutcome]]) -> ProbeOutcome | None:
    """The latest answer that was an error, of any vantage."""
    errors = [o for outcomes in by_vantage.values() for o in outcomes if o.kind is OutcomeKind.ERROR]
    return max(errors, key=lambda o: o.sent_at, default=None)


def _refusal(by_vantage: Mapping[str, Sequence[ProbeOutcome]]) -> str:
    """The text of its last error."""
    error = _last_error(by_vantage)
    return "" if error is None else error.detail


def _writable(outcome: ProbeOutcome) -> bool:
    return outcome.ok and outcome.facts.get("in_recovery") is False


def _deaf(outcome: ProbeOutcome) -> bool:
    return outcome.ok and outcome.facts.get("receiving") is False


def _last_failure(by_vantage: Mapping[str, Sequence[ProbeOutcome]]) -> datetime | None:
    """Sent time of the latest failed probe at any vantage; None when there is none."""
    return max((o.sent_at for outcomes in by_vantage.values() for o in outcomes if not o.ok), default=None)


def _all_since(
    by_vantage: Mapping[str, Sequence[ProbeOutcome]],
    judge: Callable[[ProbeOutcome], bool],
    after: datetime | None,
) -> datetime | None:
    """Since when (but after ``after``) every vantage has found this without a break; None: not all have."""
    starts: list[datetime] = []
    for outcomes in by_vantage.values():
        late = [o for o in outcomes if after is None or o.sent_at > after]
        tail = list(takewhile(judge, reversed(late)))
        if not tail:
            return None
        starts.append(tail[-1].sent_at)
    return max(starts)
