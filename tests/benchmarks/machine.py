"""What every published figure says beside itself: how often, on which machine."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

_CPU = Path("/proc/cpuinfo")


def machine() -> str:
    """Processor, cores, system, Python."""
    named = re.search(r"^model name\s*: (.+)$", _CPU.read_text(), re.MULTILINE)
    model = named.group(1) if named else platform.machine()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}, {python}"


def figures(name: str, seconds: Sequence[float]) -> str:
    """One line: median, extremes, n."""
    low, middle, high = (1000 * s for s in (min(seconds), median(seconds), max(seconds)))
    return f"{name:40} median {middle:7.1f} ms   {low:.1f} to {high:.1f}   n {len(seconds)}"
