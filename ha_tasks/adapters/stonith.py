"""Switching a machine off by the command that the inventory names for it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ha_tasks.errors import PassingFailure

_SAID = 300
_SECRET_OPTION = re.compile(r"^(-[pP]|--?[\w-]*(pass|secret|token|key|community)[\w-]*)$", re.IGNORECASE)
"""Options of ipmitool, fence agents and the like, of which the next word is a secret."""


class StonithCommands:
    """Implements ports.power.Power. ``commands``: host -> argv; its exit status 0 means: it is off.

    The command gets no input and no terminal. One that does not end in time is killed with all its children.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]]) -> None:
        self._commands = {host: tuple(argv) for host, argv in commands.items() if argv}

    def off(self, host: str, *, timeout_s: float) -> bool:
        """See the port."""
        argv = self._commands.get(host)
        if argv is None:
            return False
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise PassingFailure(f"{host} was not switched off: {argv[0]}: {error.strerror}") from error
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            if process.stdout is not None:
                process.stdout.close()
            process.wait()
            text = f"{host} was not switched off: {argv[0]} took over {timeout_s:.0f} s"
            raise PassingFailure(text) from error
        if process.returncode:
            words = _without_secrets(argv, said.decode(errors="replace").strip())[-_SAID:]
            why = f"{argv[0]} exited {process.returncode}: {words}"
            raise PassingFailure(f"{host} was not switched off: {why}")
        return True


def _without_secrets(argv: Sequence[str], said: str) -> str:
    """What the command said, without the passwords that it was given: a usage line likes to repeat them."""
    for option, word in pairwise(argv):
        if word and _SECRET_OPTION.search(option):
            said = said.replace(word, "***")
    return said
