"""A small network on this machine: each host is a namespace on one bridge. Needs root and iproute2."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress


def possible() -> bool:
    """True where namespaces and bridges can be made."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


class Network:
    """``start`` -> ... -> ``stop``. The machine itself is the ``gateway``, with an address on the bridge."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._mark = f"ha{secrets.token_hex(3)}"
        self._subnet = f"10.{64 + secrets.randbelow(128)}.{secrets.randbelow(256)}"
        self._hosts = list(hosts)

    @property
    def gateway(self) -> str:
        """This machine's address there."""
        return f"{self._subnet}.254"

    def address(self, host: str) -> str:
        """A host's address."""
        return f"{self._subnet}.{self._hosts.index(host) + 1}"

    def way(self, host: str) -> tuple[str, ...]:
        """What a command on that host begins with; it replaces itself by the command."""
        return ("ip", "netns", "exec", self._space(host))

    def start(self) -> None:
        """Bridge, namespaces, links."""
        _ip("link", "add", self._mark, "type", "bridge")
        _ip("addr", "add", f"{self.gateway}/24", "dev", self._mark)
        _ip("link", "set", self._mark, "up")
        for host in self._hosts:
            space, outside = self._space(host), self._port(host)
            _ip("netns", "add", space)
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", outside, "master", self._mark, "up")
            _ip("-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            for inside in ("lo", "eth0"):
                _ip("-n", space, "link", "set", inside, "up")

    def cut(self, host: str) -> None:
        """Its link is down: nothing comes or goes, and nobody is told."""
        _ip("link", "set", self._port(host), "down")

    def mend(self, host: str) -> None:
        """Its link is up. Idempotent."""
        _ip("link", "set", self._port(host), "up")

    def stop(self) -> None:
        """Takes everything away again. Idempotent."""
        for host in self._hosts:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", self._space(host))
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._mark)

    def _space(self, host: str) -> str:
        return f"{self._mark}-{host}"

    def _port(self, host: str) -> str:
        return f"{self._mark}{host}"[:15]


def _ip(*words: str) -> None:
    subprocess.run([shutil.which("ip") or "/sbin/ip", *words], check=True, capture_output=True, timeout=10)
