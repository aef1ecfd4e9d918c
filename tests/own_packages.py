"""Installs packages that offer actions or checks, for tests: metadata as pip leaves it, no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    site: Path,
    name: str,
    actions: Mapping[str, str],
    *,
    version: str = "1.0",
    code: str = "",
    group: str = "ha_tasks.actions",
) -> None:
    """A package ``name`` in ``site``: ``actions`` are its entry points, ``code`` its module (if any)."""
    module = name.replace("-", "_")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = "".join(f"{action} = {target}\n" for action, target in actions.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{points}")
    if code:
        (site / f"{module}.py").write_text(code)
