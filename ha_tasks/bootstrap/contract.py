"""The parts of the contract with other services, put together."""

from __future__ import annotations

from ha_tasks.adapters.webhooks import WebhookSink
from ha_tasks.bootstrap.system import System
from ha_tasks.model.event import EXCHANGE
from ha_tasks.ports.events import EventSink
from ha_tasks.workflows.events import Destination, EventPublisher
from ha_tasks.workflows.requests import RecoveryDesk


def recovery_desk(system: System) -> RecoveryDesk:
    """Where other services ask for recoveries. Keeps nothing: it may be made for each request."""
    return RecoveryDesk(
        platform=system.platform,
        detection=system.detection,
        planner=system.planner,
        guards=system.guards,
        starter=system.starter,
        book=system.store.requests,
        incidents=system.store.incidents,
        journal=system.store.journal,
        ledger=system.store.ledger,
        clock=system.clock,
        actor=system.actor,
        held=system.store_watch.held,
    )


def event_publisher(system: System, exchange: EventSink) -> EventPublisher:
    """Tells every webhook of the inventory, and the exchange that is handed in."""
    destinations = [Destination(name=EXCHANGE, events=("*",), sink=exchange)]
    destinations += [
        Destination(name=name, events=webhook.events, sink=_webhook_sink(system, name))
        for name, webhook in system.platform.webhooks.items()
    ]
    return EventPublisher(
        destinations=destinations,
        audit=system.store.audit,
        cursors=system.store.cursors,
        ledger=system.store.ledger,
        clock=system.clock,
    )


def _webhook_sink(system: System, name: str) -> WebhookSink:
    return WebhookSink(
        system.platform.webhooks[name],
        secret=lambda: system.inventory.webhook_secret(name),
        clock=system.clock,
    )
