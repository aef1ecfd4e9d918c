"""The broker hangs: what fails meanwhile is recovered by the observers alone, within the promise."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.acceptance.stack import Stack, eventually

RECOVERED_WITHIN_S = 30
RESUMES_WITHIN_S = 5


@contextmanager
def silent_broker(stack: Stack) -> Iterator[None]:
    """It keeps its sockets and says nothing: the nastiest way to be away. Its supervisor sees it live."""
    pid = stack.pid("broker")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def latest(stack: Stack) -> dict[str, object]:
    incidents = stack.result("incidents")["incidents"]
    return incidents[0] if incidents else {"id": 0, "state": "none"}


def test_an_instance_that_dies_while_the_broker_is_silent_is_recovered_by_an_observer(stack: Stack) -> None:
    """Within 30 s; and work by way of the broker resumes within 5 s after it answers again."""
    stack.command("ack", "web")
    before = latest(stack)["id"]
    with silent_broker(stack):
        began = time.monotonic()
        web = stack.pid("web1")
        assert web is not None
        os.kill(web, signal.SIGKILL)
        eventually(
            lambda: latest(stack)["id"] != before and latest(stack)["state"] == "resolved",
            RECOVERED_WITHIN_S,
            "the incident is resolved without a broker",
        )
        took_s = time.monotonic() - began
        run = stack.result("run", str(latest(stack)["run"]))
    workers = {str(attempt["worker"]) for attempt in run["attempts"]}

    assert took_s < RECOVERED_WITHIN_S
    assert any("probe-" in worker for worker in workers), workers

    def resumed() -> bool:
        text = stack.command("status").stdout
        return "queues: empty" in text

    eventually(resumed, RESUMES_WITHIN_S + 3, "the queues are worked on again")
