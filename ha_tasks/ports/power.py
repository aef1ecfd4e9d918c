"""Switching a machine off for certain (STONITH): proof that whatever ran there is dead."""

from __future__ import annotations

from typing import Protocol


class Power(Protocol):
    """Only for a failover that could not be proved safe otherwise."""

    def off(self, host: str, *, timeout_s: float) -> bool:
        """True once the machine is off, or was; False when nothing is configured for it. Idempotent.

        PassingFailure when its command fails, or does not end in time: nothing is proved then.
        """
        ...
