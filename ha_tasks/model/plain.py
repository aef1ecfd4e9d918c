"""Plain JSON, the only thing that crosses a process boundary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
"""A JSON object: str, int, float, bool, None, list and dict of these. Never a secret."""

Facts: TypeAlias = Mapping[str, Any]
"""A JSON object that is only read."""
