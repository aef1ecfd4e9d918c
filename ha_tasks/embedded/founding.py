"""The first data of a cluster: ``initdb``, then the roles, by a single-user server nobody can connect to.

So no superuser ever needs a password, and no session over the network is one. The rights are the SQL
files that are shipped for everybody.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.embedded.unprivileged import Way
from ha_tasks.errors import StartFailed

PRIVILEGES = Path(__file__).parents[1] / "privileges"
"""Where the shipped files are."""
CLUSTER_ROLES = PRIVILEGES / "cluster-roles.sql"
DATABASE_RIGHTS = PRIVILEGES / "database-rights.sql"
SUPERUSER = "postgres"
INITDB_TIMEOUT_S = 60.0
SINGLE_USER_TIMEOUT_S = 30.0
SCRAM_ITERATIONS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """A new cluster. ``passwords``: role -> password; ``owner`` owns ``database``; ``bin_dir``: programs."""

    bin_dir: Path
    way: Way
    passwords: Mapping[str, str]
    database: str
    owner: str
    log: Path

    def lay(self, data_dir: Path) -> None:
        """Makes the cluster; it appears whole or not at all. Raises StartFailed.

        It is not synced (``-N``): what the cluster is founded on is synced by the first checkpoint.
        """
        fresh = data_dir.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        settings = ("-U", SUPERUSER, "-A", "reject", "-E", "UTF8", "--locale=C", "-N", "--no-instructions")
        self._run("initdb", "-D", str(fresh), *settings, timeout_s=INITDB_TIMEOUT_S)
        self.apply(fresh, "postgres", [*statements(CLUSTER_ROLES), *self._logins(), *self._database()])
        self.apply(fresh, self.database, statements(DATABASE_RIGHTS))
        fresh.rename(data_dir)

    def apply(self, data_dir: Path, database: str, sql: Iterable[str]) -> None:
        """Runs statements as superuser on a cluster that does not run. Raises StartFailed at an error.

        A single-user server goes on after an error and ends with status 0, so its words decide. They
        never repeat a statement: it may bear a password's verifier.
        """
        quiet = ("-c", "log_min_messages=error", "-c", "log_min_error_statement=panic")
        text = "".join(f"{statement};\n\n" for statement in sql)
        said = self._run(
            "postgres", "--single", "-j", "-D", str(data_dir), *quiet, database, text=text,
            timeout_s=SINGLE_USER_TIMEOUT_S,
        )  # fmt: skip
        wrong = [line for line in said.splitlines() if "ERROR:" in line or "FATAL:" in line]
        if wrong:
            raise StartFailed(f"the roles could not be made in {database}: {wrong[0].strip()}")

    def _logins(self) -> Iterable[str]:
        for role, password in self.passwords.items():
            if role == self.owner:
                yield f"CREATE ROLE {role}"
            yield f"ALTER ROLE {role} LOGIN PASSWORD '{scram_verifier(password)}'"

    def _database(self) -> Iterable[str]:
        yield f"CREATE DATABASE {self.database} OWNER {self.owner}"

    def _run(self, program: str, *arguments: str, timeout_s: float, text: str = "") -> str:
        """What it said on stderr."""
        command: Sequence[str] = [*self.way.prefix, str(self.bin_dir / program), *arguments]
        try:
            done = subprocess.run(
                command,
                input=text,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                cwd=self.log.parent,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired as error:
            raise StartFailed(f"{program} was not done within {timeout_s:g} s") from error
        with self.log.open("a") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            last_lines = "\n".join(f"    {line}" for line in done.stderr.splitlines()[-5:])
            raise StartFailed(f"{program} failed with status {done.returncode}:\n{last_lines}")
        return done.stderr


def statements(path: Path) -> list[str]:
    """The statements of a shipped SQL file: each ends with a semicolon and an empty line."""
    parts = path.read_text("utf-8").split(";\n\n")
    return [part.strip() for part in parts if part.strip()]


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores of an ASCII password (RFC 5803), so that the password itself is never sent.

    A statement with a password in it stays readable in pg_stat_statements and, when it fails, in the log.
    """
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, SCRAM_ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
