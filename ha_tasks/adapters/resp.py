"""RESP, the language of Redis and Valkey: commands as bytes, and replies off a wire."""

from __future__ import annotations

from typing import BinaryIO

MOST_LINE_BYTES = 4096
MOST_BULK_BYTES = 1 << 20


class NotResp(OSError):
    """Something answered, and it was not (complete) RESP."""


class RespError(OSError):
    """The server said no: ``NOAUTH ...``, ``LOADING ...``, ``READONLY ...``."""


def command(*words: str) -> bytes:
    """In RESP: ``*1 $4 PING``."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        raw = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


def reply(reader: BinaryIO) -> str | None:
    """A simple string, a number as text, or a bulk string; None for a null. Raises RespError, NotResp."""
    line = reader.readline(MOST_LINE_BYTES)
    kind, text = line[:1], line[1:].decode(errors="replace").strip()
    if kind in (b"+", b":"):
        return text
    if kind == b"-":
        raise RespError(text)
    if kind == b"$" and text.lstrip("-").isdigit() and int(text) <= MOST_BULK_BYTES:
        return _bulk(reader, int(text))
    raise NotResp("it hung up before it had answered" if not line else "it does not speak RESP")


def _bulk(reader: BinaryIO, length: int) -> str | None:
    if length < 0:
        return None
    raw = reader.read(length + 2)
    if len(raw) < length + 2:
        raise NotResp("it hung up in the middle of its answer")
    return raw[:length].decode(errors="replace")
