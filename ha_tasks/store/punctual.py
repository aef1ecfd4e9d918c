"""A psycopg connection on which no wait is longer than its patience.

A frozen server (its kernel still accepts and acknowledges for it) ends no wait by itself: neither
``statement_timeout`` nor ``tcp_user_timeout`` does. So the client looks at the clock. A connection whose
patience has ended is closed without a cancel request, which that server would not hear either.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

Result = TypeVar("Result")

INTERVAL_S = 0.1
"""How often psycopg looks whether it was interrupted."""


class PunctualConnection(psycopg.Connection[Any]):
    """``patience_s``: longest wait for one answer; afterwards OperationalError, and it is closed.

    Connecting has libpq's ``connect_timeout`` instead, for each address.
    """

    patience_s = 6.0

    def wait(self, gen: PQGen[Result], interval: float = INTERVAL_S, timeout: float | None = None) -> Result:
        """As psycopg's, with a deadline for every call and not only for those that bring one."""
        patience_s = self.patience_s if timeout is None else min(timeout, self.patience_s)
        deadline = time.monotonic() + patience_s
        try:
            return super().wait(gen, interval, timeout=patience_s)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None or time.monotonic() < deadline:
                raise
            self.close()
            raise psycopg.OperationalError(f"no answer within {patience_s:g} s") from error
