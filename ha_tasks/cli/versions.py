"""``ha-tasks versions``: what a service is served from, and from what it was served before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, WARN, Line, columns
from ha_tasks.cli.plan import service_of
from ha_tasks.cli.session import Session, pass_session, person, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.plain import Json
from ha_tasks.model.versions import SHORT, Judgement, Present, Version, changed, in_place, last_good

if TYPE_CHECKING:
    from ha_tasks.bootstrap import System
    from ha_tasks.model.platform import Service

STYLES = {Judgement.GOOD: GOOD, Judgement.BAD: BAD, Judgement.RECORDED: DIM}


@click.command("versions")
@click.argument("service")
@click.option("--record", is_flag=True, help="Keep what is there now as a version.")
@click.option("--staged", is_flag=True, help="Keep what waits at the staged places instead; not served yet.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@with_home
@with_json
@pass_session
def command(session: Session, *, service: str, record: bool, staged: bool, reason: str) -> None:
    """The versions of what SERVICE is served from: who recorded them, why, when, and what came of them.

    A version says which content each configuration file has, and to which release each link leads
    (`[[services.NAME.files]]`). Contents stay on their hosts; only their digests are known here. What others
    change is recorded by itself once it has served well for a minute. To bring in a new version: put it to
    its staged place on each host, then `--staged`, then `ha-tasks rollback SERVICE --to VERSION`.
    """
    system = session.system()
    about = service_of(system.platform, service)
    if not about.files:
        raise UsageError(f"{service} has no files; name what it is served from: [[services.{service}.files]]")
    recorded = None
    if record or staged:
        recorded = system.rollback.record(about, staged=staged, actor=person(), reason=reason)
    session.result({**listed(system, about), "recorded": recorded and recorded.word}, lines)


def listed(system: System, service: Service) -> Json:
    """Every version, the newest first, beside what is there now."""
    versions = system.store.versions.of(service.name)
    present = system.rollback.present(service)
    there, good = in_place(versions, present), last_good(versions)
    return {
        "service": service.name,
        "in_place": there and there.word,
        "good": good and good.word,
        "present": dict(present),
        "untold": dict(system.rollback.troubles(service)) if len(present) < len(service.files) else {},
        "versions": [described(version, present) for version in versions],
    }


def described(version: Version, present: Present) -> Json:
    """A version as plain JSON. ``differs``: files that hold something else now, as far as is known."""
    return {
        "version": version.word,
        "judgement": str(version.judgement),
        "why": version.why,
        "recorded_at": version.recorded_at.isoformat(),
        "actor": version.actor,
        "reason": version.reason,
        "files": dict(version.files),
        "differs": list(changed(version, present)),
    }


def lines(content: Json) -> Iterator[Line]:
    """A line for each, and what is there now."""
    if content["recorded"]:
        yield [("recorded ", GOOD), (content["recorded"], HEAD)]
    if not content["versions"]:
        yield ["no version yet: record what is there with --record"]
    else:
        yield from columns(
            ["VERSION", "", "RECORDED", "BY", "DIFFERS FROM WHAT IS THERE", "WHY"],
            [
                [
                    (v["version"], HEAD),
                    (v["judgement"], STYLES[Judgement(v["judgement"])]),
                    v["recorded_at"][:16].replace("T", " "),
                    v["actor"],
                    ", ".join(v["differs"]) or ("in place" if v["version"] == content["in_place"] else "no"),
                    v["reason"],
                ]
                for v in content["versions"]
            ],
        )
    for key, why in content["untold"].items():
        yield [(f"{key} is not known", WARN), f": {why}"]
    if content["in_place"] is None and content["versions"]:
        shown = (f"{key} {'nothing' if d is None else d[:SHORT]}" for key, d in content["present"].items())
        yield [("what is there is no recorded version", WARN), f": {', '.join(shown)}"]
        if content["good"]:
            yield [f"back to {content['good']}: ha-tasks rollback {content['service']}"]
