"""Looking up a name within a deadline, which the system's own resolver does not keep."""

from __future__ import annotations

import queue
import socket
import threading

from ha_tasks.adapters.deadline import Deadline


def looked_up(name: str, deadline: Deadline) -> list[str]:
    """The addresses of a name, in the resolver's order. OSError: it has none; TimeoutError: not in time.

    A look-up that is not answered goes on in a thread of its own until the resolver gives it up.
    """
    answer: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that no name can have
            answer.put(OSError(f"{name} has no address: {getattr(error, 'strerror', None) or error}"))
        else:
            answer.put(list(dict.fromkeys(str(place[0]) for *_, place in found)))

    threading.Thread(target=ask, name=f"look-up {name}", daemon=True).start()
    try:
        found = answer.get(timeout=deadline.left_s())
    except queue.Empty:
        raise TimeoutError(f"no name server answered for {name} in time") from None
    if isinstance(found, OSError):
        raise found
    return found
