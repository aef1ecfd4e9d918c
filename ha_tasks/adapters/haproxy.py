"""HAProxy, driven through its runtime API: one connection per command, no library, no subprocess.

HAProxy has no result codes: a command that was taken is answered with an empty line, anything else
is a complaint. An answer cut off before that line means nothing, and is reported as unreachable.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.deadline import Deadline
from ha_tasks.adapters.haproxy_replies import complaint, parse_servers
from ha_tasks.adapters.wire import Wire
from ha_tasks.errors import BalancerError, BalancerUnreachable
from ha_tasks.model.balancer import ServerState, ServerStatus
from ha_tasks.model.haproxy_config import OBSERVED, TIGHT
from ha_tasks.ports.clock import Clock

ADDED = f"{TIGHT} {OBSERVED}"
ADDED_REPLIES = ("New server registered", "Already exists a server with the same name")
MOVED_REPLIES = ("IP changed from", "no need to change the addr")
DELETED_REPLIES = ("Server deleted", "No such server")
"""HAProxy has no result codes: what was done is told apart from complaints by these words (2.6 to 3.0)."""
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

    def add_server(self, backend: str, server: str, address: str) -> None:
        """Idempotent. Settings of ``default-server`` do not reach it, so it is given its own."""
        host, port = _ip_and_port(address)
        path = _path(backend, server)
        self._do(f"add server {path} {_bracketed(host)}:{port} {ADDED}", ADDED_REPLIES)
        self._do(f"enable health {path}")

    def move_server(self, backend: str, server: str, address: str) -> None:
        """Idempotent. Connections that are open stay where they are."""
        host, port = _ip_and_port(address)
        self._do(f"set server {_path(backend, server)} addr {host} port {port}", MOVED_REPLIES)

    def delete_server(self, backend: str, server: str) -> None:
        """Idempotent."""
        self._do(f"del server {_path(backend, server)}", DELETED_REPLIES)

    def shut_sessions(self, backend: str, server: str) -> None:
        """Idempotent. Sessions that an old process kept over a reload are out of its reach."""
        self._do(f"shutdown sessions server {_path(backend, server)}")

    def _do(self, command: str, taken: tuple[str, ...] = ()) -> None:
        """``taken``: beginnings of replies that say so in words."""
        problem = complaint(self._ask(command))
        if problem is not None and not problem.startswith(taken):
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


def _ip_and_port(address: str) -> tuple[str, int]:
    """HAProxy looks no name up for a server that comes later."""
    host, _, port = address.rpartition(":")
    try:
        return str(ip_address(host.strip("[]"))), int(port)
    except ValueError:
        raise BalancerError(
            f"{address!r} is no ip:port, and HAProxy takes nothing else at run time"
        ) from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _path(backend: str, server: str) -> str:
    """``backend/server``; a name that could smuggle in another command is refused."""
    for name in (backend, server):
        if not _NAME.fullmatch(name):
            raise BalancerError(f"not a name in HAProxy: {name!r}")
    return f"{backend}/{server}"
