"""The sidecar's application, without a server: what it answers when its sources do not."""

from __future__ import annotations

import json
from threading import Thread
from wsgiref.util import setup_testing_defaults

from ha_tasks.monitoring.prometheus import Part
from ha_tasks.monitoring.snapshot import Snapshot
from tests.unit.metrics_reading import Stage
from tests.unit.test_metrics_collector import Hanging
from workers.metrics_sidecar import application


def ask(app, path: str) -> tuple[str, str]:
    """(status, body)."""
    environ = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    told = []
    body = b"".join(app(environ, lambda status, headers: told.append(status)))
    return told[0], body.decode()


def test_it_serves_metrics_and_health_and_nothing_else():
    stage = Stage()
    app = application(Snapshot(stage.collector, stage.clock))

    assert ask(app, "/metrics")[0] == "200 OK"
    assert json.loads(ask(app, "/healthz")[1]) == {"status": "ok", "down": []}
    assert ask(app, "/")[0] == "404 Not Found"


def test_parts_that_are_down_are_named_by_a_process_that_is_well():
    stage = Stage()
    stage.queues.down = True
    app = application(Snapshot(stage.collector, stage.clock))

    status, body = ask(app, "/healthz")

    assert status == "200 OK"
    assert json.loads(body) == {"status": "degraded", "down": ["broker"]}


def test_a_scrape_that_hangs_is_503_for_the_next_who_ask():
    queues = Hanging()
    stage = Stage(queues=queues)
    app = application(Snapshot(stage.collector, stage.clock, wait_s=0.05))
    answers: list[tuple[str, str]] = []
    first = Thread(target=lambda: answers.append(ask(app, "/metrics")))
    first.start()
    assert queues.asked.wait(10)

    second, health = ask(app, "/metrics"), ask(app, "/healthz")
    queues.let_go.set()
    first.join(10)

    assert second[0] == "503 Service Unavailable"
    assert len(json.loads(health[1])["down"]) == len(Part)
    assert answers[0][0] == "200 OK"
