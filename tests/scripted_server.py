"""A TCP server whose answer is scripted, for what a real one does only when it is broken."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Script = Callable[[socket.socket, threading.Event], None]
"""Given the client and an event that is set when the test is over."""


def say(*parts: bytes, every_s: float = 0.0) -> Script:
    """Sends the parts, a pause after each, and hangs up."""

    def script(client: socket.socket, over: threading.Event) -> None:
        client.recv(4096)
        for part in parts:
            client.sendall(part)
            over.wait(every_s)

    return script


def hang(client: socket.socket, over: threading.Event) -> None:
    """Takes the connection and says nothing."""
    over.wait(10)


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """Its address. Every client gets a thread of its own."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):  # a client that has left early is no failure of the script
            script(client, over)

    def accept() -> None:
        with suppress(OSError):  # the listener was shut down: the test is over
            while True:
                client, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(client,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()
