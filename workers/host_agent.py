"""The host agent's process: ``python -m workers.host_agent --config agent.toml``.

It imports nothing heavy, starts no PostgreSQL by itself, and leaves everything running when it ends.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from ha_tasks.errors import HaTasksError
from workers.agent.assembly import Agent
from workers.agent.config import load_config


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after SIGTERM or SIGINT, otherwise that of the error."""
    parser = argparse.ArgumentParser(prog="host-agent", description="The agent of one host.")
    parser.add_argument("--config", type=Path, required=True, help="agent.toml")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        agent = Agent(load_config(options.config))
    except HaTasksError as error:
        sys.stderr.write(f"host-agent: {error}\n")
        return error.exit_status
    _end_on_signals(agent)
    agent.serve()
    return 0


def _end_on_signals(agent: Agent) -> None:
    def end(_number: int, _frame: FrameType | None) -> None:
        # A thread of its own: shutting down waits for the loop that this signal has interrupted.
        threading.Thread(target=agent.stop, name="stop").start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


if __name__ == "__main__":
    sys.exit(main())
