"""Logs without credentials: whatever a process of Celery's logs, tracebacks included."""

from __future__ import annotations

import logging
from typing import Any

from ha_tasks.model.confidential import without_credentials

_FORMATTER = logging.Formatter()


def install() -> None:
    """For every logger of this process, from now on. Idempotent."""
    before = logging.getLogRecordFactory()
    if getattr(before, "discreet", False):
        return

    def make(*args: Any, **options: Any) -> logging.LogRecord:
        record = before(*args, **options)
        record.msg, record.args = without_credentials(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            # Formatters take a traceback that is there already.
            record.exc_text = without_credentials(_FORMATTER.formatException(record.exc_info))
        return record

    make.discreet = True  # type: ignore[attr-defined] # the mark of ours
    logging.setLogRecordFactory(make)
