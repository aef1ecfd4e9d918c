"""What runs when, on which queue, when it expires, and what becomes of a tick that was missed: a bare table.

``when`` is seconds, or a time of day: ``at("0 2 * * *", "Europe/Berlin")`` of ha_tasks.tasks.cadence, or a
crontab of Celery's in UTC. Times in seconds. Each entry expires before the next one of its kind is due, so
that a worker that was away finds no backlog of stale probes when it comes back. MADE_UP: one message as
soon as there is somebody to send it, however many ticks were missed; DROPPED: the next tick is soon enough.
"""

from ha_tasks.names import Handling, Queue, ScheduleEntry, TaskName

SCHEDULE = (
    # name                       task                      when  queue           expires  missed
    (ScheduleEntry.SWEEP, TaskName.SWEEP, 1.0, Queue.RECOVERY, 1.0, Handling.DROPPED),
    (ScheduleEntry.PROBE_HTTP, TaskName.PROBE_HTTP, 5.0, Queue.PROBES, 4.0, Handling.DROPPED),
    (ScheduleEntry.PROBE_POSTGRES, TaskName.PROBE_POSTGRES, 5.0, Queue.PROBES, 4.0, Handling.DROPPED),
    (ScheduleEntry.PROBE_REDIS, TaskName.PROBE_REDIS, 5.0, Queue.PROBES, 4.0, Handling.DROPPED),
    (ScheduleEntry.CHECK_REPLICATION, TaskName.CHECK_REPLICATION, 10.0, Queue.PROBES, 8.0, Handling.DROPPED),
    (
        ScheduleEntry.MONITOR_SYSTEM_HEALTH,
        TaskName.MONITOR_SYSTEM_HEALTH,
        15.0,
        Queue.PROBES,
        12.0,
        Handling.DROPPED,
    ),
    (ScheduleEntry.PUBLISH_EVENTS, TaskName.PUBLISH_EVENTS, 1.0, Queue.ALERTS, 1.0, Handling.DROPPED),
    (ScheduleEntry.VERIFY_AUDIT, TaskName.VERIFY_AUDIT, 3600.0, Queue.TUNING, 600.0, Handling.MADE_UP),
    (ScheduleEntry.PRUNE, TaskName.PRUNE, 60.0, Queue.TUNING, 50.0, Handling.DROPPED),
)
