"""A Celery application as the product configures it; its tasks leave marks, hang, or kill their process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ha_tasks.tasks.app import make_app

HOME = Path(os.environ["HA_TASKS_HOME"])
app = make_app((HOME / "broker-url").read_text())


def leave(mark: str) -> None:
    """One line for each time."""
    with (HOME / "marks").open("a") as file:
        file.write(f"{mark}\n")


@app.task(name="ha.step.mark", shared=False)
def mark(*, run: int, **_: object) -> None:
    """Leaves a mark."""
    leave(f"run-{run}")


@app.task(name="ha.step.linger", shared=False)
def linger(*, run: int, **_: object) -> None:
    """The first time it says its pid and stays; when it comes again it leaves a mark."""
    begun = HOME / f"linger-{run}"
    if begun.exists():
        leave(f"run-{run}")
        return
    begun.write_text(str(os.getpid()))
    time.sleep(60)


@app.task(name="ha.step.killer", shared=False)
def killer(*, run: int, **_: object) -> None:
    """Kills its process each time."""
    leave(f"killer-{run}")
    os.kill(os.getpid(), signal.SIGKILL)
