"""The inventory: ha-tasks.toml, strict, with overrides from the environment and secrets from elsewhere."""

from ha_tasks.inventory.inventory import Inventory
from ha_tasks.inventory.loading import Reading, at_revision, filled, load, read
from ha_tasks.inventory.secret import Endpoint, Secret
from ha_tasks.inventory.template import SCHEMA_FILE, schema_hint, template
from ha_tasks.model.platform import ManagedBy

__all__ = [
    "SCHEMA_FILE",
    "Endpoint",
    "Inventory",
    "ManagedBy",
    "Reading",
    "Secret",
    "at_revision",
    "filled",
    "load",
    "read",
    "schema_hint",
    "template",
]
