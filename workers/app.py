"""The Celery application of this installation: ``celery -A workers.app worker``.

A plain worker serves every queue but those of hosts. ``--observe`` makes it an observer as well; it
needs a pool without forks (``-P threads`` or ``-P solo``).
"""

from __future__ import annotations

from celery.schedules import schedule
from click import Option

from beat_schedule import SCHEDULE
from ha_tasks.bootstrap import load_inventory
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.register import register
from ha_tasks.tasks.runtime import Runtime
from workers.lifecycle import attach
from workers.observer import ObserverStep

inventory = load_inventory()
app = make_app(inventory.broker_url())
runtime = Runtime(app, inventory)
register(app, runtime)
attach(runtime, {str(task): name for name, task, *_ in SCHEDULE})
app.conf.beat_schedule = {
    name: {
        "task": str(task),
        "schedule": schedule(every_s),
        "options": {"queue": str(queue), "expires": expires_s},
    }
    for name, task, every_s, queue, expires_s in SCHEDULE
}
app.user_options["worker"].add(
    Option(["--observe"], is_flag=True, help="Probe, judge and react from this process as well.")
)
ObserverStep.runtime = runtime
app.steps["worker"].add(ObserverStep)
