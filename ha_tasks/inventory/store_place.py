"""Where the state store stands, and whether that is a database which it recovers."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias
from urllib.parse import parse_qs

from ha_tasks.inventory import forms
from ha_tasks.inventory.schema import InventoryFile

Resolve: TypeAlias = Callable[[str], frozenset[str]]
"""A host's name -> its addresses; empty when it has none, or when nobody says so in time."""

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 5432
RESOLVE_WITHIN_S = 1.0


def as_written(host: str) -> frozenset[str]:
    """Names stand for themselves: nobody is asked."""
    return frozenset({host})


def looked_up(host: str) -> frozenset[str]:
    """By the resolver of this machine, within RESOLVE_WITHIN_S."""
    found: set[str] = set()

    def ask() -> None:
        try:
            found.update(
                str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError):
            return  # a name that nobody knows is no place of anything

    # getaddrinfo has no deadline of its own, and a thread that waits for it can only be left behind.
    thread = threading.Thread(target=ask, name=f"look up {host}", daemon=True)
    thread.start()
    thread.join(RESOLVE_WITHIN_S)
    return frozenset(found)


def owner_of_store_place(file: InventoryFile, resolve: Resolve = as_written) -> str | None:
    """Dotted key of the protected database on which the store would stand; None: on none."""
    wanted = list(_store_places(file.store.url))
    for key, address in _protected(file):
        host, port = forms.host_of(address), _port_of(address)
        if any(port == its_port and _same(host, its_host, resolve) for its_host, its_port in wanted):
            return key
    return None


def _store_places(url: str) -> Iterator[tuple[str, int]]:
    """(host, port) of each server that the URL names, also where libpq's own settings name it."""
    parts = forms.split(url)
    if parts is None or not url.startswith(forms.POSTGRESQL):
        return
    yield parts.hostname or "", parts.port or DEFAULT_PORT
    asked = parse_qs(parts.query)
    ports = [p for text in asked.get("port", []) for p in text.split(",")]
    for text in (*asked.get("host", []), *asked.get("hostaddr", [])):
        for each in text.split(","):
            host, _, port = each.partition(":") if each.count(":") == 1 else (each, "", "")
            for candidate in (port,) if port else (ports or (str(parts.port or DEFAULT_PORT),)):
                if candidate.isdigit():
                    yield host, int(candidate)


def _protected(file: InventoryFile) -> Iterator[tuple[str, str]]:
    """(dotted key, address) of every node of a protected database, and of the balancer before it."""
    for name, service in file.services.items():
        if service.kind != "postgres":
            continue
        for instance in service.instances:
            yield f"services.{name}.instances.{instance.name}", instance.address
        if service.routing is not None:
            for entry in filter(None, (service.routing.entry, service.routing.read_entry)):
                yield f"services.{name}.routing", entry


def _port_of(address: str) -> int:
    parts = forms.split(f"tcp://{address}")
    return (parts.port if parts else None) or DEFAULT_PORT


def _same(one: str, other: str, resolve: Resolve) -> bool:
    """True for two words for one host. Names are looked up only where the words differ."""
    one, other = _canonical(one), _canonical(other)
    if one == other or (_is_address(one) and _is_address(other)):
        return one == other
    return bool(_addresses(one, resolve) & _addresses(other, resolve))


def _addresses(host: str, resolve: Resolve) -> frozenset[str]:
    return frozenset({host}) if _is_address(host) else frozenset(map(_canonical, resolve(host)))


def _canonical(host: str) -> str:
    host = host.lower().rstrip(".").strip("[]")
    return LOOPBACK if forms.is_loopback(host) else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
