"""Writers of the running stack, as an application has them: through the balancer, or through a pooler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.postgres_session import Login
from ha_tasks.adapters.write_load import WriteLoad
from ha_tasks.model.load import LoadReport
from tests.acceptance.stack import Stack, eventually

WARM_ACKS = 40


@dataclass
class Written:
    """``report`` is there once the writers have ended."""

    load: WriteLoad
    reports: list[LoadReport] = field(default_factory=list)

    @property
    def report(self) -> LoadReport:
        return self.reports[0]

    def go_on(self, more: int = WARM_ACKS) -> None:
        """Returns once so many more are acknowledged."""
        wanted = self.load.acknowledged() + more
        eventually(lambda: self.load.acknowledged() >= wanted, 30, f"{more} more acknowledgements")


def application(stack: Stack) -> tuple[str, Login]:
    """(entry for writes, the application's login)."""
    url = urlsplit(stack.state["endpoints"]["pg_write"])
    login = Login(user=url.username or "", database=url.path.strip("/"), password=unquote(url.password or ""))
    return f"{url.hostname}:{url.port}", login


@contextmanager
def writing(stack: Stack, entry: str | None = None, *, patience_s: float = 1.0) -> Iterator[Written]:
    """Four writers that write all the while; ``entry``: another way in than the balancer's.

    ``patience_s``: how long each waits for an answer before it counts as failed.
    """
    door, login = application(stack)
    load = WriteLoad(
        entry=entry or door,
        login=login,
        clock=SYSTEM_CLOCK,
        writers=4,
        pause_s=0.02,
        write_timeout_s=patience_s,
    )
    written = Written(load)
    load.start()
    try:
        written.go_on()
        yield written
        written.go_on()
    finally:
        written.reports.append(load.stop())
