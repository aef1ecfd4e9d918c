"""A virtual environment with celery and what it needs, and without this package; made without a network.

Its site-packages are links to those distributions of the environment that the tests run in.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def closure(*wanted: str) -> dict[str, Distribution]:
    """The distributions, and everything that they need on this machine, by name."""
    found: dict[str, Distribution] = {}
    open_ = [Requirement(each) for each in wanted]
    while open_:
        requirement = open_.pop()
        known = requirement.name.lower().replace("_", "-")
        if known in found and not requirement.extras:
            continue
        found[known] = distribution(requirement.name)
        for text in found[known].requires or ():
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                open_.append(needed)
    return found


def _tops(dist: Distribution) -> Iterator[Path]:
    """What it has put directly into site-packages."""
    base = Path(str(dist.locate_file("")))
    names = {file.parts[0] for file in dist.files or () if file.parts[0] not in ("..", "__pycache__")}
    return (base / name for name in sorted(names))


def make(home: Path) -> Path:
    """The environment's Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=60)
    (site,) = home.glob("lib/python*/site-packages")
    for dist in closure("celery[redis]").values():
        for top in _tops(dist):
            link = site / top.name
            if not link.exists():
                link.symlink_to(top)
    return home / "bin" / "python"
