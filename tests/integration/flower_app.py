"""A small Celery application as the product configures it, for looking at it through Flower."""

from __future__ import annotations

import os
from pathlib import Path

from ha_tasks.names import ActionName, step_task
from ha_tasks.tasks.app import make_app

app = make_app((Path(os.environ["HA_TASKS_HOME"]) / "broker-url").read_text())


@app.task(name=step_task(ActionName.TAKE_OUT), shared=False)
def take_out(**_: object) -> None:
    """A step that does nothing."""
