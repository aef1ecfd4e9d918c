"""A plan as plain JSON and as lines: steps, differences, the way back, how long it will take."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, WARN, Line, columns, span, style_of
from ha_tasks.model.forecast import Forecast, Spread
from ha_tasks.model.guards import PASSED, Refusal
from ha_tasks.model.incident import ORDERED, Incident, IncidentKind
from ha_tasks.model.plain import Json
from ha_tasks.model.plan_hash import plan_changes, plan_hash
from ha_tasks.model.platform import Service
from ha_tasks.model.playbook import Plan
from ha_tasks.model.replication_findings import Finding
from ha_tasks.workflows.preview import PreviewedStep

SHORT = 12
"""So many digits of a hash are shown."""
INDENT = "     "


def described(
    service: Service,
    incident: Incident,
    plan: Plan,
    *,
    steps: Sequence[PreviewedStep],
    predicted: Forecast,
    refused: Sequence[Refusal],
    beside: Sequence[Finding] = (),
) -> Json:
    """The plan as plain JSON."""
    return {
        "service": service.name,
        "incident": incident.id or None,
        "kind": str(incident.kind),
        "targets": list(plan.targets),
        "hash": plan_hash(plan),
        "playbook": plan.playbook,
        "version": plan.version,
        "sha256": plan.sha256,
        "recovery_type": str(plan.recovery_type),
        "summary": plan.summary,
        "situation": plan.situation,
        "refusals": [
            {"guard": str(r.guard), "detail": r.detail, "asked_of_a_person": r.guard not in PASSED["manual"]}
            for r in refused
        ],
        "beside": [finding.to_json() for finding in beside],
        "duration": {
            "expected_s": predicted.expected_s,
            "guessed": predicted.guessed,
            "limit_s": predicted.limit_s,
            "objective_s": service.rto_s,
            "history": _spread(predicted.whole),
        },
        "steps": [_step(step, predicted.steps[step.planned.id]) for step in steps],
    }


def _spread(known: Spread | None) -> Json | None:
    return None if known is None else {"n": known.n, "median_s": known.median_s, "p90_s": known.p90_s}


def _step(seen: PreviewedStep, known: Spread | None) -> Json:
    step = seen.planned
    return {
        "no": step.no,
        "id": step.id,
        "action": str(step.action),
        "provider": step.provider,
        "args": dict(step.args),
        "change": seen.difference.text,
        "differences": [
            {"what": change.what, "before": change.before, "after": change.after}
            for change in seen.difference.changes
        ],
        "trouble": seen.trouble or seen.difference.doubt,
        "undo": str(step.undo),
        "timeout_s": step.timeout_s,
        "attempts": step.attempts,
        "point_of_no_return": step.point_of_no_return,
        "history": _spread(known),
    }


def lines(content: Json) -> Iterator[Line]:
    """The plan as one reads it before it runs, in 80 columns."""
    yield from _head(content)
    yield []
    table = columns(
        ["", "STEP", "USUALLY TAKES", "LIMIT", "ON THE WAY BACK"],
        [
            [
                f"{s['no']:>2}",
                (s["id"], HEAD),
                _usually(s["history"]),
                (f"{s['attempts']} x {span(s['timeout_s'])}", DIM),
                way,
            ]
            for s, way in zip(content["steps"], ways_back(content["steps"]), strict=True)
        ],
    )
    yield table[0]
    for line, step in zip(table[1:], content["steps"], strict=True):
        if step["point_of_no_return"]:
            yield [("---- no way back from here: nothing is undone, a person is called ----", BAD)]
        yield line
        yield from _details(step)
    yield []
    yield from _foot(content)


def _head(content: Json) -> Iterator[Line]:
    about = f"for I-{content['incident']}" if content["incident"] else "for a failure that has not happened"
    if content["kind"] in ORDERED:
        about = "by order of a person"
    targets = ", ".join(content["targets"]) or "nothing"
    yield [(content["playbook"], HEAD), f" v{content['version']} {about}"]
    yield [f"{content['kind']} of {content['service']}, target {targets}"]
    yield ["plan ", (content["hash"][:SHORT], HEAD), *_made_for(content["situation"])]
    yield duration(content["duration"])


def _made_for(situation: Mapping[str, object]) -> Line:
    if "rotation" in situation:
        return [f", made for {_listed(situation['rotation'])} in rotation"]
    if situation.get("primary"):
        return [f", made for primary {situation['primary']}"]
    return []


def _listed(names: object) -> str:
    return ", ".join(names) if isinstance(names, list) and names else "nobody"


def duration(content: Json) -> Line:
    """How long it will take beside the objective: green within it, red above it."""
    expected, objective = content["expected_s"], content["objective_s"]
    known = content["history"]
    beside = f", objective {span(objective)}"
    if content["guessed"]:
        text = f"no history: limits add up to {span(content['limit_s'])}"
        return [(text, WARN if content["limit_s"] > objective else GOOD), beside]
    style = BAD if expected > objective else GOOD
    if known is None:
        return [(f"takes about {span(expected)} (its steps' medians)", style), beside]
    late = known["p90_s"] > objective >= expected
    return [
        (f"takes about {span(expected)}", style),
        " from failure to verified, ",
        (f"p90 {span(known['p90_s'])}", WARN if late else ""),
        f", n {known['n']}{beside}",
    ]


def _usually(known: Json | None) -> tuple[str, str]:
    if known is None:
        return ("no history", DIM)
    return (f"{_brief(known['median_s'])}, p90 {_brief(known['p90_s'])}, n {known['n']}", "")


def _brief(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.1 else span(seconds)


def ways_back(steps: Sequence[Json]) -> list[tuple[str, str]]:
    """What a compensation would do with each step. Behind a point of no return there is none."""
    passed, ways = False, []
    for step in steps:
        passed = passed or step["point_of_no_return"]
        if passed:
            ways.append(("none", BAD))
        else:
            ways.append(("kept", DIM) if step["undo"] == "keep" else ("undone", ""))
    return ways


def _details(step: Json) -> Iterator[Line]:
    if step["trouble"]:
        yield from _wrapped(step["trouble"], WARN)
    provided = f" [{step['provider']}]" if step["provider"] else ""
    if step["change"] or provided:
        yield from _wrapped(f"{step['change']}{provided}".strip(), "")
    wide = max((len(change["what"]) for change in step["differences"]), default=0)
    for change in step["differences"]:
        what = f"{INDENT}  {change['what']:<{wide}}  "
        yield [what, (change["before"], DIM), " -> ", (change["after"], style_of(change["after"]) or HEAD)]


def _wrapped(text: str, style: str) -> Iterator[Line]:
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    for part in textwrap.wrap(text, max(width - len(INDENT), 20)):
        yield [INDENT, (part, style)]


def _foot(content: Json) -> Iterator[Line]:
    for refused in content["refusals"]:
        style = BAD if refused["asked_of_a_person"] else WARN
        yield [(f"refused now by {refused['guard']}", style), f": {refused['detail']}"]
        if not refused["asked_of_a_person"]:
            yield [INDENT, ("only what is automatic: a person's `ha-tasks recover` passes it", DIM)]
    for finding in content["beside"]:
        yield [("wrong besides", BAD), f": {finding['node'] or content['service']} {finding['problem']}"]
        yield [INDENT, ("mend it: ", DIM), finding["remedy"]]
    if not content["refusals"]:
        yield [("no guard would refuse it now", GOOD)]
    if content["kind"] in ORDERED:
        yield [("to run it: ", DIM), _order(content)]
        return
    run = f"ha-tasks recover {content['service']} --plan {content['hash'][:SHORT]}"
    yield [("to run this plan and no other: ", DIM), run]


def _order(content: Json) -> str:
    """The command by which a person orders planned work."""
    if content["kind"] == IncidentKind.SWITCHOVER_ORDERED:
        return f"ha-tasks switchover {content['service']} --to {', '.join(content['targets'])}"
    if content["kind"] == IncidentKind.VERSION_ORDERED:
        return f"ha-tasks rollback {content['service']} --to {', '.join(content['targets'])}"
    return f"ha-tasks rolling-restart {content['service']}"


def short(content: Json) -> Iterator[Line]:
    """The plan in a few lines, for whoever has no time."""
    targets = ", ".join(content["targets"])
    about = f" v{content['version']} for {targets}, plan "
    yield [(content["playbook"], HEAD), about, (content["hash"][:SHORT], HEAD)]
    yield duration(content["duration"])
    words = [
        f"[no way back:] {step['id']}" if step["point_of_no_return"] else step["id"]
        for step in content["steps"]
    ]
    yield from _wrapped(" > ".join(words), "")
    for step in content["steps"]:
        if step["trouble"]:
            yield from _wrapped(f"{step['id']}: {step['trouble']}", WARN)
    changes = [
        f"{change['what']} {change['before']} -> {change['after']}"
        for step in content["steps"]
        for change in step["differences"]
    ]
    yield from _wrapped("; ".join(changes), DIM)


def changed(shown: Plan | None, now: Plan) -> Json:
    """What makes the plan of now another one than the one that was shown (None: it is not known here)."""
    return {
        "hash": plan_hash(now),
        "known": shown is not None,
        "changes": [
            {"what": what, "then": then, "now": after}
            for what, then, after in (plan_changes(shown, now) if shown is not None else ())
        ],
    }


def changed_lines(content: Json) -> Iterator[Line]:
    """The same, to be read."""
    yield [("the plan is another one now", BAD), ": ", (content["hash"][:SHORT], HEAD)]
    for change in content["changes"]:
        yield [f"{INDENT}{change['what']}  ", (change["then"], DIM), " -> ", (change["now"], HEAD)]
    if not content["known"]:
        yield [f"{INDENT}the plan that was asked for was not shown from this home, or is no longer kept"]
