"""A stream connection on which everything together ends by one deadline.

A timeout per socket operation is not enough: a server that sends a byte now and then could hold a
probe for ever.
"""

from __future__ import annotations

import io
import socket
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ha_tasks.adapters.deadline import Deadline

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Endpoint = tuple[str, int]


def parse_address(address: str) -> Endpoint:
    """``127.0.0.1:80``, ``[::1]:80`` or ``tcp://...`` -> host and port; ValueError otherwise."""
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"not an address of the form host:port: {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


class Wire:
    """An open connection; raises OSError (TimeoutError after the deadline). Name look-ups are not bounded."""

    def __init__(self, address: str, deadline: Deadline) -> None:
        self._deadline = deadline
        self._socket = _connected(address, deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, payload: bytes) -> None:
        """Sends all of it."""
        self._socket.settimeout(self._deadline.left_s())
        self._socket.sendall(payload)

    def receive_into(self, buffer: WriteableBuffer) -> int:
        """What has come, at most a buffer full; 0 at the end of the stream."""
        self._socket.settimeout(self._deadline.left_s())
        return self._socket.recv_into(buffer)

    def reader(self) -> io.BufferedReader:
        """The incoming stream as a file."""
        return io.BufferedReader(_Incoming(self))

    def makefile(self, mode: str = "rb") -> io.BufferedReader:  # noqa: ARG002 - as a socket's
        """As ``socket.makefile``, for ``http.client.HTTPResponse``."""
        return self.reader()


class _Incoming(io.RawIOBase):
    """The incoming half of a wire."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As ``io.RawIOBase.readinto``."""
        return self._wire.receive_into(buffer)


def _connected(address: str, deadline: Deadline) -> socket.socket:
    if address.startswith("unix://"):
        return _opened(socket.AF_UNIX, address.removeprefix("unix://"), deadline)
    host, port = parse_address(address)
    failure: OSError = OSError(f"{host} has no address")
    for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            return _opened(family, place, deadline)
        except OSError as error:
            failure = error
    raise failure


def _opened(family: int, place: tuple[object, ...] | str, deadline: Deadline) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.settimeout(deadline.left_s())
        opened.connect(place)
    except BaseException:
        opened.close()
        raise
    return opened
