"""HAProxy, driven through its runtime API: one connection per command, no library, no subprocess.

HAProxy has no result codes: a command that was taken is answered with an empty line, anything else
is a complaint. An answer cut off before that line means nothing, and is reported as unreachable.
"""

from __future__ import annotations

import re

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.haproxy_replies import complaint, parse_servers
from ha_tasks.adapters.wire import Wire
from ha_tasks.errors import BalancerError, BalancerUnreachable
from ha_tasks.model.balancer import ServerState, ServerStatus
from ha_tasks.ports.clock import Clock

_NAME = re.compile(r"[A-Za-z0-9_.:-]+")


class HaproxyControl:
    """See ports/balancer.py. ``socket``: ``tcp://host:port`` or ``unix:///path``, at level admin.

    Every call ends within ``timeout_s``, connecting included.
    """

    def __init__(self, socket: str, clock: Clock = SYSTEM_CLOCK, *, timeout_s: float = 2.0) -> None:
        self._socket = socket
        self._clock = clock
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"HaproxyControl({self._socket!r})"

    def servers(self) -> tuple[ServerStatus, ...]:
        """Every server of every backend; reads only."""
        return parse_servers(self._ask("show servers state; show stat -1 4 -1"))

    def set_state(self, backend: str, server: str, state: ServerState) -> None:
        """Idempotent. Raises BalancerError when HAProxy does not know the server."""
        self._do(f"set server {_path(backend, server)} state {state}")

    def shut_sessions(self, backend: str, server: str) -> None:
        """Idempotent. Sessions that an old process kept over a reload are out of its reach."""
        self._do(f"shutdown sessions server {_path(backend, server)}")

    def _do(self, command: str) -> None:
        problem = complaint(self._ask(command))
        if problem is not None:
            raise BalancerError(f"{self._socket}: {command}: {problem}")

    def _ask(self, command: str) -> str:
        try:
            reply = self._exchange(command)
        except OSError as error:
            raise BalancerUnreachable(f"{self._socket}: {error}") from error
        if not reply.endswith("\n"):
            raise BalancerUnreachable(f"{self._socket}: it hung up before it had answered")
        return reply

    def _exchange(self, command: str) -> str:
        """HAProxy answers and closes; the write half stays open, or it would drop the command."""
        with Wire(self._socket, Deadline(self._clock, self._timeout_s)) as wire:
            wire.send(f"{command}\n".encode())
            return wire.reader().read().decode(errors="replace")


def _path(backend: str, server: str) -> str:
    """``backend/server``; a name that could smuggle in another command is refused."""
    for name in (backend, server):
        if not _NAME.fullmatch(name):
            raise BalancerError(f"not a name in HAProxy: {name!r}")
    return f"{backend}/{server}"
