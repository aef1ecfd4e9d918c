"""What runs when, on which queue, and when it expires: a bare table.

Times in seconds. Each entry expires before the next one of its kind is due, so that a worker that was
away finds no backlog of stale probes when it comes back.
"""

from ha_tasks.names import Queue, TaskName

SCHEDULE = (
    # name                  task                          every  queue            expires
    ("sweep", TaskName.SWEEP, 1.0, Queue.RECOVERY, 1.0),
    ("probe-http", TaskName.PROBE_HTTP, 5.0, Queue.PROBES, 4.0),
    ("probe-postgres", TaskName.PROBE_POSTGRES, 5.0, Queue.PROBES, 4.0),
    ("probe-redis", TaskName.PROBE_REDIS, 5.0, Queue.PROBES, 4.0),
    ("check-replication", TaskName.CHECK_REPLICATION, 10.0, Queue.PROBES, 8.0),
    ("prune", TaskName.PRUNE, 60.0, Queue.TUNING, 50.0),
)
