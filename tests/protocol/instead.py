"""Other attributes than it has, for a while: how a fault is planted, and how time and disks are simulated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def instead(owner: Any, **attributes: Any) -> Iterator[None]:
    """As long as this lasts ``owner``, a module or a class, has these."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in attributes.items():
            patch.setattr(owner, name, value)
        yield
