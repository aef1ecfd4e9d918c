"""A node of the stack that nobody hears: its packets are dropped by iptables, in a chain of our own.

By port on the loopback device, so that a running node needs neither another address nor a network of its
own. The chain bears the home's name: whoever comes next can lift it, also when the drill was killed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from ha_tasks.embedded.home import Home
from ha_tasks.embedded.ports import BALANCER
from ha_tasks.errors import ServiceUnreachable

RUN_TIMEOUT_S = 10.0
WAIT_FOR_LOCK_S = 5


class Silence:
    """Drops the TCP packets of ports of the loopback device. Every verb is idempotent."""

    def __init__(self, home: Home) -> None:
        self._chain = f"ha-tasks-{hashlib.sha256(str(home.root).encode()).hexdigest()[:12]}"

    def missing(self) -> str | None:
        """What stands in the way, and what to do about it; None: it works here."""
        if os.geteuid() != 0:
            return (
                "only root can drop packets: run the demo and the drill as root, in a container for instance"
            )
        if shutil.which("iptables") is None:
            return "there is no iptables here: `apt-get install iptables`"
        done = _iptables("-n", "-L", "INPUT")
        if done.returncode:
            return f"iptables does not work here (a container needs NET_ADMIN): {_said(done)}"
        return None

    def fall(self, ports: Iterable[int], *, reached_by_balancer: Iterable[int] = ()) -> datetime:
        """From now on, also in connections that stand. The second ports' only friend is the balancer.

        Answers the moment just before. Raises ServiceUnreachable when iptables refuses.
        """
        self.lift()
        self._do("-N", self._chain)
        for rule in (*_rules(ports), *_rules(reached_by_balancer, but=BALANCER)):
            self._do("-A", self._chain, *rule, "-j", "DROP")
        moment = datetime.now(UTC)
        self._do("-I", "INPUT", "-i", "lo", "-j", self._chain)
        return moment

    def lift(self) -> None:
        """Everybody is heard again. Without effect where nothing can have been dropped."""
        if os.geteuid() != 0 or shutil.which("iptables") is None:
            return
        if _iptables("-n", "-L", self._chain).returncode:
            return
        while _iptables("-D", "INPUT", "-i", "lo", "-j", self._chain).returncode == 0:
            pass
        self._do("-F", self._chain)
        self._do("-X", self._chain)

    def _do(self, *arguments: str) -> None:
        done = _iptables(*arguments)
        if done.returncode:
            raise ServiceUnreachable(f"iptables {' '.join(arguments)}: {_said(done)}")


def _rules(ports: Iterable[int], but: str = "") -> Iterator[tuple[str, ...]]:
    for port in ports:
        yield ("-p", "tcp", "--dport", str(port), *(("!", "-s", but) if but else ()))
        yield ("-p", "tcp", "--sport", str(port), *(("!", "-d", but) if but else ()))


def _iptables(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("iptables") or "iptables", "-w", str(WAIT_FOR_LOCK_S), *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().partition("\n")[0] or f"status {done.returncode}"
