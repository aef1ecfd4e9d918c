"""Where the home is, what the inventory says there, and who this process is."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from ha_tasks.inventory import Inventory, load

DEFAULT_HOME = ".ha"
INVENTORY_FILE = "ha-tasks.toml"
SERVED_STORE = Path("run", "store-id")
"""Where a home remembers which store it served."""


def home_of(home: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The home directory: what was asked for, else HA_TASKS_HOME, else ``./.ha``."""
    return Path(home or environ.get("HA_TASKS_HOME") or DEFAULT_HOME).absolute()


def inventory_path(home: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the inventory is: HA_TASKS_CONFIG, else ``ha-tasks.toml`` in the home."""
    configured = environ.get("HA_TASKS_CONFIG")
    return Path(configured).absolute() if configured else home / INVENTORY_FILE


def home_for(inventory: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The home of a process that was handed that inventory: HA_TASKS_HOME, else where the file is."""
    return Path(environ.get("HA_TASKS_HOME") or inventory.parent).absolute()


def load_inventory(home: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Inventory:
    """The inventory of that home; InventoryError says every fault."""
    return load(inventory_path(home_of(home, environ), environ), environ)


def actor_of(environ: Mapping[str, str] = os.environ) -> str:
    """``<host>/<process>``: who this process is, in timelines, leases and vantages."""
    return f"{socket.gethostname()}/{environ.get('HA_TASKS_PROCESS') or f'pid-{os.getpid()}'}"
