"""``ha-tasks doctor``: which server programs were found, and what mends what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ha_tasks.cli.lines import BAD, DIM, GOOD, Line, columns
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import InventoryError
from ha_tasks.model.plain import Json

if TYPE_CHECKING:
    from ha_tasks.embedded.doctor import Row


@click.command("doctor")
@with_home
@with_json
@pass_session
def command(session: Session) -> int:
    """Which server programs were found, and what mends what is missing. Exit status 2 when one is.

    Where there is an inventory its broker is asked too, whether it is set to lose nothing.
    """
    from ha_tasks.embedded.doctor import examine

    found = list(examine())
    if session.inventory_path.exists():
        found += _of_inventory(session)
    rows = [asdict(row) for row in found]
    ok = all(row["ok"] for row in rows)
    session.result({"ok": ok, "rows": rows}, lines)
    return 0 if ok else 2


def _of_inventory(session: Session) -> Iterable[Row]:
    """What its broker is set to; one that cannot be read is a row too, as the programs are there or not."""
    from ha_tasks.embedded.doctor import Row, examine_broker

    try:
        return examine_broker(session.inventory().broker.address())
    except InventoryError as error:
        path = str(session.inventory_path)
        return (Row(what="inventory", path=path, version="", source="", ok=False, remedy=str(error)),)


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
