"""The command line ``ha-tasks``. This file runs on any Python 3, to say which one is needed."""

from __future__ import annotations

import sys

NEEDED = (3, 11)


def complaint(version: tuple[int, ...]) -> str:
    """What to say to whoever runs this with a Python that is too old; '' when it is new enough."""
    if version[:2] >= NEEDED:
        return ""
    return (
        f"ha-tasks needs Python {NEEDED[0]}.{NEEDED[1]} or newer, this is {version[0]}.{version[1]} "
        f"({sys.executable}); make the environment anew with a newer one: python3.11 -m venv .venv"
    )


def main() -> None:
    """Runs the command that the arguments name, and ends the process with its exit status."""
    trouble = complaint(sys.version_info[:3])
    if trouble:
        sys.stderr.write(f"ha-tasks: {trouble}\n")
        sys.exit(2)
    # Only now: everything below is written for the Python that is needed.
    from ha_tasks.cli.root import run

    sys.exit(run(sys.argv[1:]))
