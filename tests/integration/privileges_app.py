"""A small Celery application as the product configures it, whose one task answers its caller."""

from __future__ import annotations

import os
from pathlib import Path

from ha_tasks.tasks.app import make_app

app = make_app((Path(os.environ["HA_TASKS_HOME"]) / "broker-url").read_text())
app.conf.result_backend = "rpc://"


@app.task(name="ha.recovery.request", shared=False, ignore_result=False)
def request(**kwargs: object) -> dict[str, object]:
    """Says what it was asked."""
    return {"asked": kwargs}
