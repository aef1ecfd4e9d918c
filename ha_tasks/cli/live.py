"""The live view: the status of a platform and its last events, shown anew twice a second."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ha_tasks.cli.lines import DIM, WARN, Line, moment
from ha_tasks.cli.status import everything, lines
from ha_tasks.errors import HaTasksError
from ha_tasks.model.plain import Json

EVERY_S = 0.5


def watch_home(home: Path, ended: threading.Event) -> None:
    """Shows the platform of a home until the event is set."""
    from ha_tasks.bootstrap import assemble, queues_of
    from ha_tasks.inventory import load

    inventory = load(home / "ha-tasks.toml", os.environ)
    system, queues = assemble(inventory), queues_of(inventory)
    show_live(lambda: everything(system, queues), ended)


def show_live(look: Callable[[], Json], ended: threading.Event | None = None) -> None:
    """Shows what ``look`` answers until the event is set (or Ctrl-C). A look that fails is shown, too."""
    over = ended or threading.Event()
    with Live(console=Console(highlight=False), auto_refresh=False, redirect_stdout=False) as live:
        while not over.is_set():
            live.update(_picture(look), refresh=True)
            over.wait(EVERY_S)


def _picture(look: Callable[[], Json]) -> Text:
    try:
        shown = list(live_lines(look()))
    except HaTasksError as error:
        shown = [[("not to be seen now: ", WARN), str(error)]]
    # What does not fit goes on below: cut off, an instance that is down would be out of sight at 80 columns.
    return Text("\n").join([Text.assemble(*line) for line in shown])


def live_lines(content: Json) -> Iterator[Line]:
    """The status, and below it what happened last."""
    yield from lines(content)
    yield []
    for event in content["events"]:
        when = moment(event["at"], content["at"])
        yield [(f"{when}  I-{event['incident']}  ", DIM), event["text"], (f"  {event['actor']}", DIM)]
