#!/usr/bin/env python3
"""The servers that tests use when they are there, and the Debian packages that bring them.

`debian_servers.py install` installs what is missing when it runs as root on Debian, without letting any
service start; otherwise it says what will not be tested. tests/conftest.py takes the remedies from here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SERVERS: dict[str, tuple[str, str]] = {
    "promtool": ("prometheus", "promtool"),
    "openssl": ("openssl", "openssl"),
    "postgresql": ("postgresql", "/usr/bin/pg_lsclusters"),
    "redis-server": ("redis-server", "redis-server"),
    "pgbouncer": ("pgbouncer", "/usr/sbin/pgbouncer"),
    "rabbitmq": ("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server"),
    "etcd": ("etcd-server", "etcd"),
}
"""Name that a test needs -> (Debian package, program by which its presence is told: a name or a path)."""

POLICY = Path("/usr/sbin/policy-rc.d")
SAVED = POLICY.with_name("policy-rc.d.saved-by-ha-tasks")
REFUSE = "#!/bin/sh\n# Written by ha_tasks for the time of one apt-get: no service may start.\nexit 101\n"


def remedy(name: str) -> str | None:
    """How to get the server ``name``; None when it is there. KeyError for a name that is not in the table."""
    package, program = SERVERS[name]
    if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return None
    return f"apt-get install {package}"


@contextlib.contextmanager
def no_service_starts(policy: Path = POLICY, saved: Path = SAVED) -> Iterator[None]:
    """While it lasts invoke-rc.d refuses every start; a policy that was there is put back afterwards.

    What a killed run left behind is tidied up too.
    """
    if policy.exists() and not saved.exists() and policy.read_text() != REFUSE:
        policy.rename(saved)
    try:
        policy.write_text(REFUSE)
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink(missing_ok=True)
        if saved.exists():
            saved.rename(policy)


def apt_get(*arguments: str) -> bool:
    """Runs apt-get without questions; False when it failed or took over 15 minutes."""
    command = ["apt-get", "-q=2", "-o", "DPkg::Lock::Timeout=120", *arguments]
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=quiet, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=900, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def install(missing: dict[str, str]) -> int:
    """Installs the packages of ``missing`` (name -> package); 1 when it could not be done."""
    packages = sorted(set(missing.values()))
    print(f"installing for the tests, without starting any service: {', '.join(packages)}", flush=True)
    with no_service_starts():
        if apt_get("update") and apt_get("install", "--yes", "--no-install-recommends", *packages):
            print("installed; services among them would start at the next boot, as Debian does it")
            return 0
    print("apt-get failed, so nothing is tested of: " + ", ".join(missing), file=sys.stderr)
    return 1


def main(arguments: list[str]) -> int:
    """Exit status 0: everything is there or has been said; 1: apt-get failed; 2: usage."""
    if arguments != ["install"]:
        print("usage: debian_servers.py install", file=sys.stderr)
        return 2
    # An exception instead of sudden death, so that the policy is put back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    missing = {name: SERVERS[name][0] for name in SERVERS if remedy(name)}
    if not missing:
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return install(missing)
    for name in missing:
        print(f"not tested here: {name} ({remedy(name)})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
