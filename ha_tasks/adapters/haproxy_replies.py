"""What HAProxy's runtime API answers, parsed. Columns are found by name: 2.6 and 2.8 are both read."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping

from ha_tasks.errors import BalancerError
from ha_tasks.model.balancer import ServerState, ServerStatus

FORCED_MAINT = 0x01
FORCED_DRAIN = 0x08
STOPPED = 0
_STATE_HEADER = "# be_id "
_STAT_HEADER = "# pxname,"


def parse_servers(reply: str) -> tuple[ServerStatus, ...]:
    """The answer to ``show servers state; show stat -1 4 -1``. Raises BalancerError when it is another.

    ``admin`` is what a person or we forced (``srv_admin_state`` has bits for inherited states too, which
    no command can lift); ``up`` is ``srv_op_state`` and so False in maintenance of any origin.
    """
    lines = reply.splitlines()
    sessions = {(row["pxname"], row["svname"]): int(row["scur"] or 0) for row in _stats(lines)}
    return tuple(
        _status(row, sessions.get((row["be_name"], row["srv_name"]), 0)) for row in _states(lines, reply)
    )


def admin_state(bits: int) -> ServerState:
    """Maintenance outranks drain; a server ``disabled`` in the configuration keeps bit 0x04 for ever."""
    if bits & FORCED_MAINT:
        return ServerState.MAINT
    return ServerState.DRAIN if bits & FORCED_DRAIN else ServerState.READY


def complaint(reply: str) -> str | None:
    """The first line of what HAProxy complains about; None when the command was taken (an empty line)."""
    text = reply.strip()
    return text.splitlines()[0][:200] if text else None


def _states(lines: list[str], reply: str) -> Iterator[Mapping[str, str]]:
    start = next((no for no, line in enumerate(lines) if line.startswith(_STATE_HEADER)), None)
    if start is None:
        raise BalancerError(f"HAProxy did not list its servers: {complaint(reply)}")
    names = lines[start].removeprefix("# ").split()
    for line in _block(lines, start):
        yield dict(zip(names, line.split(), strict=False))


def _stats(lines: list[str]) -> Iterator[Mapping[str, str]]:
    start = next((no for no, line in enumerate(lines) if line.startswith(_STAT_HEADER)), None)
    if start is None:
        return iter(())
    names = lines[start].removeprefix("# ").split(",")
    return csv.DictReader(_block(lines, start), fieldnames=names, restval="")


def _block(lines: list[str], header: int) -> Iterable[str]:
    """The lines after a header up to the next empty one."""
    for line in lines[header + 1 :]:
        if not line.strip():
            return
        yield line


def _status(row: Mapping[str, str], sessions: int) -> ServerStatus:
    host = row["srv_addr"]
    return ServerStatus(
        backend=row["be_name"],
        server=row["srv_name"],
        address=f"[{host}]:{row['srv_port']}" if ":" in host else f"{host}:{row['srv_port']}",
        admin=admin_state(int(row["srv_admin_state"])),
        up=int(row["srv_op_state"]) != STOPPED,
        weight=int(row["srv_uweight"]),
        sessions=sessions,
    )
