"""The metrics sidecar: ``python -m workers.metrics_sidecar``, a small HTTP server of its own.

``/metrics`` is read out of SQL and the broker at scrape time; ``/healthz`` says that this process lives, and
which parts have no numbers. It changes nothing anywhere and keeps nothing, so it may be killed and
run twice.
"""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import click
from prometheus_client import CollectorRegistry, make_wsgi_app

from beat_schedule import SCHEDULE
from ha_tasks.adapters.broker_queues import queues_at
from ha_tasks.adapters.clock import SystemClock
from ha_tasks.bootstrap import load_inventory
from ha_tasks.bootstrap.own_actions import offered
from ha_tasks.errors import DeadlineExceeded, HaTasksError, StartFailed
from ha_tasks.inventory import Inventory
from ha_tasks.monitoring.metrics_collector import MetricsCollector
from ha_tasks.monitoring.prometheus import Part
from ha_tasks.monitoring.snapshot import Snapshot
from ha_tasks.monitoring.sources import Sources
from ha_tasks.names import TaskName
from ha_tasks.ports.queues import Queues
from ha_tasks.store import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

CLIENT_TIMEOUT_S = 2.0
"""A client that connects and says nothing holds a thread for so long at most."""
STORE_LIMIT_S = 2.0
"""A scrape must come to its end while the store is frozen: it is what says that the store is down."""
ROUNDS_UNTIL_OVERDUE = 3


def sources(inventory: Inventory, store: Store, queues: Queues) -> Sources:
    """The ports of this installation."""
    return Sources(
        platform=inventory.platform,
        ledger=store.ledger,
        incidents=store.incidents,
        journal=store.journal,
        clusters=store.clusters,
        pictures=store.replication,
        health=store.health,
        observations=store.observations,
        limits=store.limits,
        identity=store.identity,
        schedule=store.schedule,
        queues=queues,
        clock=SystemClock(),
        audit=store.audit,
        cursors=store.cursors,
        own_actions=tuple(offered()[0]),
        integrity_due_s={"replication": ROUNDS_UNTIL_OVERDUE * _every_s(TaskName.CHECK_REPLICATION)},
    )


def _every_s(task: TaskName) -> float:
    return next(every_s for _, known, every_s, *_ in SCHEDULE if known is task)


def application(snapshot: Snapshot) -> WSGIApplication:
    """``/metrics`` and ``/healthz``; anything else is 404."""
    registry = CollectorRegistry()
    registry.register(snapshot)
    metrics: WSGIApplication = make_wsgi_app(registry)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                try:
                    return metrics(environ, start_response)
                except DeadlineExceeded as error:
                    return _plain(start_response, "503 Service Unavailable", str(error))
            case "/healthz":
                return _healthz(snapshot, start_response)
            case _:
                return _plain(start_response, "404 Not Found", "only /metrics and /healthz are here")

    return serve


def _plain(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]


def _healthz(snapshot: Snapshot, start_response: StartResponse) -> Iterable[bytes]:
    """Always 200: to end this process would bring no store and no broker back."""
    try:
        down = snapshot.down()
    except DeadlineExceeded:
        down = tuple(Part)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"status": "degraded" if down else "ok", "down": down}).encode() + b"\n"]


class _Handler(WSGIRequestHandler):
    """Logs no requests: a scrape every few seconds is no news."""

    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class SidecarServer(ThreadingMixIn, WSGIServer):
    """A thread per request. Raises StartFailed when the address is taken."""

    daemon_threads = True

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            text = f"cannot listen on {host}:{port} ({error.strerror}); end what listens there"
            raise StartFailed(f"{text}, or set another address at [metrics] listen") from error
        self.set_app(app)

    def server_bind(self) -> None:
        """As WSGIServer does, without asking a name server who we are."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - its signature
        """A client that went away or said nothing is no fault of ours."""
        log.info("request of %s ended: %s", client_address, sys.exc_info()[1])


def serve(server: SidecarServer) -> None:
    """Serves until SIGTERM or SIGINT. A scrape under way may be cut: a source that hangs must not keep us."""

    def stop(*_: object) -> None:
        # shutdown() waits for the loop that this very handler has interrupted, so not from here.
        threading.Thread(target=server.shutdown, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with server:
        server.serve_forever(poll_interval=0.1)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def run(inventory: Inventory, listen: str | None = None) -> None:
    """Serves this installation's metrics until SIGTERM. Raises StartFailed or InventoryError."""
    store, queues = Store(inventory.store_url(), limit_s=STORE_LIMIT_S), queues_at(inventory.broker_url())
    chosen = sources(inventory, store, queues)
    snapshot = Snapshot(MetricsCollector(chosen), chosen.clock)
    try:
        server = SidecarServer(*_address(listen or inventory.metrics_listen), application(snapshot))
        log.info("metrics at http://%s:%d/metrics", *server.server_address[:2])
        serve(server)
    finally:
        queues.close()
        store.dispose()


@click.command()
@click.option("--home", type=click.Path(file_okay=False), help="Directory of ha-tasks.toml.")
@click.option("--listen", help="HOST:PORT instead of [metrics] listen of the inventory.")
def main(home: str | None, listen: str | None) -> None:
    """Serve /metrics and /healthz until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        run(load_inventory(home), listen)
    except HaTasksError as error:
        click.echo(f"metrics sidecar: {error}", err=True)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
