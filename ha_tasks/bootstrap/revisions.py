"""Applied revisions of the inventory: making one of a file, and a file's inventory of one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime

from ha_tasks.errors import InventoryError
from ha_tasks.inventory import Inventory, at_revision, filled
from ha_tasks.model.revision import Change, Revision, difference
from ha_tasks.ports.revisions import Revisions

log = logging.getLogger(__name__)


def changes_of(inventory: Inventory, newest: Revision | None) -> tuple[Change, ...]:
    """What the inventory says differently than the applied revision, defaults filled in."""
    return difference(filled(newest.body) if newest else {}, filled(inventory.content))


def apply(inventory: Inventory, revisions: Revisions, *, actor: str, reason: str, now: datetime) -> Revision:
    """Makes the inventory the applied one, without a question. Idempotent. Raises RevisionConflict."""
    newest = revisions.newest()
    return revisions.apply(
        inventory.content,
        changes_of(inventory, newest),
        actor=actor,
        reason=reason,
        now=now,
        onto=newest.no if newest else None,
    )


def inventory_at(
    inventory: Inventory, revisions: Revisions, no: int, environ: Mapping[str, str]
) -> Inventory | None:
    """The inventory as of that revision, with the secrets of this machine; None where it cannot be read."""
    try:
        return at_revision(inventory, revisions.get(no).body, environ)
    except (KeyError, InventoryError) as error:
        log.warning(
            "revision %s cannot be read here, its runs go on under the one that is loaded: %s", no, error
        )
        return None
