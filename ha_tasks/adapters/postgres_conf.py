"""The text of a PostgreSQL node's configuration: postgresql.conf, pg_hba.conf.

Per-node settings live outside PGDATA, because pg_rewind and pg_basebackup copy what lies inside.
What changes while a node lives (upstream, slot, synchronous set) is in ``dynamic.conf`` beside
``postgresql.conf``; only the host agent writes it. Everything here is a pure function except
``available_preload``, which looks at the installed libraries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

DYNAMIC_CONF = "dynamic.conf"
"""Name of the file, relative to postgresql.conf, that the host agent writes."""

STANDING: Mapping[str, str] = {
    "unix_socket_directories": "",
    "max_connections": "100",
    "password_encryption": "scram-sha-256",
    # Durability: a commit is acknowledged when this node and its synchronous set have it on disk.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "wal_log_hints": "on",
    # Before recovery everything is synced: one call for the file system, not one for each of 1000 files.
    "recovery_init_sync_method": "syncfs",
    # A standby can be promoted only with the same room as its primary, so all nodes have the same.
    "hot_standby": "on",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_slot_wal_keep_size": "1GB",
    # Survivors and rejoining nodes find the WAL around a fork, also where no slot reserved it.
    "wal_keep_size": "256MB",
    # Silence is noticed within seconds, and a standby looks for its upstream again at once.
    "wal_receiver_status_interval": "1s",
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
    "wal_retrieve_retry_interval": "200ms",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    # One crashed backend is PostgreSQL's own affair: it recovers in place, sooner than a failover.
    "restart_after_crash": "on",
    # The agent gives the server a log file as its standard error.
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] %q%a ",
    "log_checkpoints": "on",
    "log_lock_waits": "on",
    "log_replication_commands": "on",
    "log_min_messages": "warning",
}
"""Settings that every node of a protected cluster shares."""


def render_postgresql_conf(
    *,
    node: str,
    port: int,
    data_dir: Path,
    conf_dir: Path,
    listen: str = "127.0.0.1",
    shared_buffers: str = "32MB",
    preload: Iterable[str] = (),
    extra: Mapping[str, str] | None = None,
) -> str:
    """The text of ``conf_dir/postgresql.conf``; ``extra`` overrides what stands here.

    ``cluster_name`` is the node's name, so that a session can tell which node it has reached.
    ``preload`` are names for ``shared_preload_libraries``; see ``available_preload``.
    """
    settings = {
        "data_directory": str(data_dir.absolute()),
        "hba_file": str((conf_dir / "pg_hba.conf").absolute()),
        "ident_file": str((conf_dir / "pg_ident.conf").absolute()),
        "listen_addresses": listen,
        "port": str(port),
        "cluster_name": node,
        "shared_buffers": shared_buffers,
        "shared_preload_libraries": ",".join(preload),
        **STANDING,
        **(extra or {}),
    }
    lines = [render_setting(name, value) for name, value in settings.items()]
    # Last, so that what the agent writes wins over everything above.
    lines.append(f"include_if_exists {quote(DYNAMIC_CONF)}")
    return "\n".join(lines) + "\n"


def reserved_for_agents(major: int) -> Mapping[str, str]:
    """Connections that clients cannot take from the agents; PostgreSQL 15 reserves for superusers only."""
    return {"reserved_connections": "5"} if major >= 16 else {}


def render_pg_hba(*, networks: Iterable[str] = ("127.0.0.1/32",), replication_user: str = "ha_repl") -> str:
    """The text of pg_hba.conf: passwords (SCRAM) for everybody, from ``networks`` only."""
    lines = ["# TYPE  DATABASE  USER  ADDRESS  METHOD"]
    for network in networks:
        lines.append(f"host  replication  {_hba_name(replication_user)}  {network}  scram-sha-256")
        lines.append(f"host  all  all  {network}  scram-sha-256")
    return "\n".join(lines) + "\n"


def render_setting(name: str, value: str) -> str:
    """One line ``name = 'value'``; ValueError when ``value`` would break out of its line."""
    return f"{name} = {quote(value)}"


def quote(value: str) -> str:
    """A value as postgresql.conf wants it; ValueError for line breaks and NUL."""
    if re.search(r"[\n\r\0]", value):
        raise ValueError(f"a setting cannot hold a line break: {value!r}")
    doubled = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"


def available_preload(bin_dir: Path, wanted: Iterable[str] = ("pg_stat_statements",)) -> tuple[str, ...]:
    """Those of ``wanted`` that the server installed in ``bin_dir`` can load at start."""
    library_dirs = (bin_dir.parent / "lib", bin_dir.parent / "lib" / "postgresql")
    return tuple(name for name in wanted if any((d / f"{name}.so").exists() for d in library_dirs))


def _hba_name(name: str) -> str:
    """A role name for pg_hba.conf, quoted so that no keyword and no blank in it is understood."""
    if not re.fullmatch(r"[^\s\"\0]+", name):
        raise ValueError(f"not a role name: {name!r}")
    return f'"{name}"'
