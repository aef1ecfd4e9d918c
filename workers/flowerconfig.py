"""Flower's configuration: ``celery -A workers.app flower --conf=.../workers/flowerconfig.py [--port=5555]``.

Flower executes this file and takes every name that is one of its options. It fails closed: without a
readable password file of its own there is no Flower, since Flower without a login shows its pages to
everybody. ``HA_TASKS_FLOWER_PASSWORD_FILE`` names the file (default ``secrets/flower`` in the home),
``HA_TASKS_FLOWER_USER`` the user (default ``ha``).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ha_tasks.bootstrap import home_of
from ha_tasks.errors import UsageError


def password_file() -> Path:
    """Where the password is."""
    named = os.environ.get("HA_TASKS_FLOWER_PASSWORD_FILE")
    return Path(named) if named else home_of() / "secrets" / "flower"


def login() -> str:
    """``user:password``. Raises UsageError when the file is missing, empty or open to other users."""
    path = password_file()
    try:
        mode, password = path.stat().st_mode, path.read_text("utf-8").strip()
    except OSError as error:
        raise UsageError(f"Flower's password file {path} cannot be read: {error.strerror}") from error
    if mode & stat.S_IRWXO:
        raise UsageError(f"Flower's password file {path} is open to others: chmod 0600 '{path}'")
    if not password:
        raise UsageError(f"Flower's password file {path} is empty: write a password into it")
    return f"{os.environ.get('HA_TASKS_FLOWER_USER', 'ha')}:{password}"


# This variable would open the API to everybody once the login below is taken out again.
os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)

basic_auth = [login()]
# Flower's /metrics and /healthcheck ask for no login at all, so nobody else may reach the port.
address = "127.0.0.1"
# What is to be done is asked of ha-tasks, where guards look at it and the journal keeps it.
read_only = True
# Nothing is kept on disk: the truth about runs is in the journal, not here.
persistent = False
# A worker that was started without events is told to send them.
enable_events = True
max_tasks = 10_000
purge_offline_workers = 300
tasks_columns = "name,kwargs,state,received,started,runtime,worker,uuid"
