"""The product's Celery application with a schedule for trials: something to drop, something to make up."""

from __future__ import annotations

from ha_tasks.bootstrap import load_inventory
from ha_tasks.names import Handling, Queue, TaskName
from ha_tasks.tasks.app import make_app
from ha_tasks.tasks.runtime import Runtime
from workers.beat import LeadingScheduler, entries_of

BACKUP_EVERY_S = 4.0
BACKUP_LATE_S = 3.5

inventory = load_inventory()
app = make_app(inventory.broker_url())
app.conf.beat_scheduler = "workers.beat:LeadingScheduler"
LeadingScheduler.runtime = Runtime(app, inventory)
LeadingScheduler.entries = entries_of(
    (
        ("sweep", TaskName.SWEEP, 1.0, Queue.RECOVERY, 1.0, Handling.DROPPED),
        ("backup", "ha.backup", BACKUP_EVERY_S, Queue.BACKUPS, BACKUP_LATE_S, Handling.MADE_UP),
    )
)
