"""Versions of what services serve from. Each verb is one transaction; StoreUnreachable is retryable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from ha_tasks.model.versions import Judgement, Version
from ha_tasks.ports.repositories import Warrant


class Versions(Protocol):
    """Numbered in each service from 1 without gaps. What a version contains is never changed."""

    def of(self, service: str) -> tuple[Version, ...]:
        """All of the service, the newest first."""
        ...

    def get(self, service: str, no: int) -> Version:
        """KeyError when there is none."""
        ...

    def record(
        self,
        service: str,
        files: Mapping[str, str],
        *,
        actor: str,
        reason: str,
        now: datetime,
    ) -> Version:
        """Adds the next one. Idempotent: the files of the newest again are that one, as it was recorded."""
        ...

    def judge(
        self,
        service: str,
        no: int,
        judgement: Judgement,
        why: str,
        now: datetime,
        *,
        actor: str,
        under: Warrant | None = None,
    ) -> Version:
        """Says what came of it; the last word counts, and when it was said, also where it is the same again.

        Idempotent by judgement and ``why``. KeyError when there is none.

        StaleFence when the run of ``under`` was taken over.
        """
        ...
