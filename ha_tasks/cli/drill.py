"""``ha-tasks drill``: rehearse a disaster on the demo platform, measure it and judge it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import click

from ha_tasks.cli.lines import BAD, DIM, HEAD, Line, columns, span, state
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.model.drill import DrillVerdict
from ha_tasks.model.plain import Json
from ha_tasks.model.scenario import Scenario


@click.command("drill")
@click.argument("scenario", metavar="list|SCENARIO", default="list")
@click.option("--list", "listing", is_flag=True, help="As `list`: what each does, comes to, and needs.")
@with_home
@with_json
@pass_session
def command(session: Session, scenario: str, listing: bool) -> int:
    """Rehearse SCENARIO on the demo that runs on this home; `list` says which there are.

    A steady load goes through the balancer while the fault is injected; what is acknowledged is read back.
    Beside it an application with a pool of connections takes orders, whose failures are counted.
    Exit status 0 for PASS, 1 for FAIL and INCONCLUSIVE.
    """
    from ha_tasks.model.scenarios import SCENARIOS

    if listing or scenario == "list":
        session.result({"scenarios": [_scenario_json(s) for s in SCENARIOS.values()]}, list_lines)
        return 0
    # Everything that a drill drives; `drill list` needs none of it.
    from ha_tasks.embedded.drills import drills_on

    drills = drills_on(session.root, session.system(), person(), session.tell)
    # A drill that is told to end heals its faults first, as at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = drills.run(scenario)
    session.result(report.to_json(), lines)
    return 0 if report.verdict is DrillVerdict.PASS else 1


def list_lines(content: Json) -> Iterator[Line]:
    """A line for each."""
    rows = [
        [
            (s["name"], HEAD),
            s["kind"],
            s["outcome"],
            _with_needs(s),
        ]
        for s in content["scenarios"]
    ]
    yield from columns(["SCENARIO", "ON", "MUST COME TO", "WHAT IT DOES"], rows)


def _with_needs(scenario: Json) -> str:
    needs = scenario["needs"]
    return str(scenario["summary"]) + (f" (needs {needs})" if needs else "")


def lines(content: Json) -> Iterator[Line]:
    """The verdict, what was measured beside what was promised, and the steps."""
    yield []
    yield [(content["scenario"], HEAD), " ", state(content["verdict"]), f"  {'; '.join(content['reasons'])}"]
    measured, objective = content["rto"]["measured_s"], content["rto"]["objective_s"]
    outage = "not measured" if measured is None else span(measured)
    yield [f"outage {outage} (objective {span(objective)})"]
    yield [", ".join(f"{word} T+{_seconds(content[f'{word}_s'])}" for word in _MOMENTS)]
    yield _writes(content)
    if content["application"]:
        yield _application(content["application"])
    yield from columns(
        ["STEP", "STATE", "TOOK"],
        [[s["action"], state(s["state"]), _seconds(s["seconds"])] for s in content["steps"]],
    )
    for what in content["left"]:
        yield [(f"left behind: {what}", BAD)]
    for earlier in content["acknowledged_cooldowns"]:
        yield [(f"acknowledged before: {earlier}", DIM)]
    if content["incident"] is not None:
        yield [f"its story: ha-tasks incidents {content['incident']}"]


_MOMENTS = ("detected", "decided", "acted", "verified")


def _seconds(value: float | None) -> str:
    return "-" if value is None else span(value)


def _writes(content: Json) -> Line:
    writes = content["writes"]
    lost = "could not be read back" if writes["lost"] is None else f"lost {writes['lost']}"
    text = f"acknowledged {writes['acked']}, failed {writes['failed']}, "
    return [text, (lost, BAD if writes["lost"] != 0 else ""), f", stale {writes['stale']}"]


def _application(served: Json) -> Line:
    gap = _seconds(served["longest_gap_s"])
    return [f"the application: {served['requests']} requests, {served['failed']} failed, longest gap {gap}"]


def _scenario_json(scenario: Scenario) -> Json:
    return {
        "name": scenario.name,
        "kind": str(scenario.kind),
        "summary": scenario.summary,
        "outcome": str(scenario.outcome).replace("_", " "),
        "needs": scenario.needs,
    }
