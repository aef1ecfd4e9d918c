"""The Celery application of this installation: ``celery -A workers.app worker``.

A plain worker serves every queue but those of hosts. ``--observe`` makes it an observer as well; it
needs a pool without forks (``-P threads`` or ``-P solo``).
"""

from __future__ import annotations

from click import Option

from beat_schedule import SCHEDULE
from ha_tasks.bootstrap import load_inventory
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.register import register
from ha_tasks.tasks.runtime import Runtime
from workers import discreet_logs
from workers.beat import LeadingScheduler, entries_of
from workers.lifecycle import attach
from workers.observer import ObserverStep
from workers.poison import count_poison

discreet_logs.install()
inventory = load_inventory()
app = make_app(inventory.broker_url())
runtime = Runtime(app, inventory)
register(app, runtime)
count_poison()
attach(runtime, {str(task): name for name, task, *_ in SCHEDULE})
# Celery's own table stays empty: another scheduler than ours, which asks nobody who leads, sends nothing.
app.conf.beat_scheduler = "workers.beat:LeadingScheduler"
LeadingScheduler.runtime = runtime
LeadingScheduler.entries = entries_of(SCHEDULE)
app.user_options["worker"].add(
    Option(["--observe"], is_flag=True, help="Probe, judge and react from this process as well.")
)
ObserverStep.runtime = runtime
app.steps["worker"].add(ObserverStep)
