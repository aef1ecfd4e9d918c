"""``ha-tasks doctor``: which server programs were found, and what mends what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from ha_tasks.cli.lines import BAD, DIM, GOOD, Line, columns
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.model.plain import Json


@click.command("doctor")
@with_home
@with_json
@pass_session
def command(session: Session) -> int:
    """Which server programs were found, and what mends what is missing. Exit status 2 when one is."""
    from ha_tasks.embedded.doctor import examine

    rows = [asdict(row) for row in examine()]
    ok = all(row["ok"] for row in rows)
    session.result({"ok": ok, "rows": rows}, lines)
    return 0 if ok else 2


def lines(content: Json) -> Iterator[Line]:
    """A line for each program, and what mends it below."""
    rows = content["rows"]
    yield from columns(
        ["", "PROGRAM", "VERSION", "FROM", "PATH"],
        [
            [("ok", GOOD) if r["ok"] else ("--", BAD), r["what"], r["version"], r["source"], (r["path"], DIM)]
            for r in rows
        ],
    )
    for row in rows:
        if not row["ok"]:
            yield [(f"{row['what']}: ", BAD), row["remedy"]]
