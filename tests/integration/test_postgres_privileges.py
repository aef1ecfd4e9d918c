"""The shipped roles on a real server: each can do what it is for, and is refused everything else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ha_tasks.embedded.founding import CLUSTER_ROLES, DATABASE_RIGHTS, PRIVILEGES, statements
from ha_tasks.store import Store
from tests.servers import QUICK, PostgresServer

REFUSED = (psycopg.errors.InsufficientPrivilege, psycopg.OperationalError)
STORE_ROLES = PRIVILEGES / "store-roles.sql"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A cluster with an application that has a table and a secret in it. Applied twice, as it may be."""
    made = PostgresServer(tmp_path_factory.mktemp("postgres"), {**QUICK, "wal_level": "replica"})
    made.initialise()
    made.start()
    try:
        made.execute("CREATE ROLE app LOGIN")
        made.execute("CREATE DATABASE app OWNER app")
        for _ in range(2):
            for statement in statements(CLUSTER_ROLES):
                made.execute(statement)
            for statement in statements(DATABASE_RIGHTS):
                made.execute(statement, "app")
        with as_role(made, "app", "app") as owner:
            owner.execute("CREATE TABLE customer (name text, card text)")
            owner.execute("INSERT INTO customer VALUES ('Anna', '4111')")
        yield made
    finally:
        made.stop()


def as_role(server: PostgresServer, role: str, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1", port=server.port, user=role, dbname=database, autocommit=True, connect_timeout=5
    )


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM pg_stat_replication",
        "SELECT * FROM pg_stat_wal_receiver",
        "SELECT pg_current_wal_flush_lsn(), pg_walfile_name(pg_current_wal_insert_lsn())",
        "SELECT * FROM pg_control_checkpoint(), pg_control_recovery()",
        "CHECKPOINT",
        "INSERT INTO ha.canary (service, token) VALUES ('db', 'x') ON CONFLICT (service, token) "
        "DO UPDATE SET written_at = now()",
        "SELECT token FROM ha.canary",
        "DELETE FROM ha.canary",
    ],
)
def test_the_control_plane_can_do_its_work(server: PostgresServer, statement: str) -> None:
    with as_role(server, "ha_control", "app") as control:
        control.execute(statement.encode())


READS_AND_RULES = [
    "SELECT * FROM customer",
    "INSERT INTO customer VALUES ('x', 'y')",
    "DROP TABLE customer",
    "TRUNCATE ha.canary",
    "DROP TABLE ha.canary",
    "CREATE TABLE mine (x int)",
    "CREATE TABLE ha.mine (x int)",
    "CREATE TEMPORARY TABLE mine (x int)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE ROLE mallory SUPERUSER",
    "ALTER ROLE app PASSWORD 'x'",
    "ALTER ROLE postgres PASSWORD 'x'",
    "SET ROLE postgres",
    "SET ROLE app",
    "SET ROLE ha_repl",
    "CREATE DATABASE mine",
    "DROP DATABASE app",
    "ALTER SYSTEM SET synchronous_standby_names = ''",
    "SELECT rolpassword FROM pg_authid",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/x'",
    "SELECT pg_read_file('pg_hba.conf')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_reload_conf()",
    "SELECT pg_promote()",
    "SELECT pg_create_physical_replication_slot('mine')",
    "SELECT pg_drop_replication_slot('ha_pg2')",
    "SELECT pg_switch_wal()",
    "SELECT current_setting('primary_conninfo')",
]


@pytest.mark.parametrize("statement", READS_AND_RULES)
def test_the_control_plane_can_do_nothing_else(server: PostgresServer, statement: str) -> None:
    with as_role(server, "ha_control", "app") as control, pytest.raises(REFUSED):
        control.execute(statement.encode())


def test_the_control_plane_ends_wal_senders_and_nobody_else(server: PostgresServer) -> None:
    """A WAL sender is a session of ha_repl, whose rights it has; an application's session it may not end."""
    with (
        as_role(server, "app", "app") as client,
        psycopg.connect(
            f"host=127.0.0.1 port={server.port} user=ha_repl replication=true", autocommit=True
        ) as sender,
        as_role(server, "ha_control", "app") as control,
    ):
        ends = sql.SQL("SELECT pg_terminate_backend({})")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            control.execute(ends.format(client.info.backend_pid))
        assert control.execute(ends.format(sender.info.backend_pid)).fetchone() == (True,)


AGENT = [
    "CHECKPOINT",
    "SELECT current_setting('primary_conninfo'), pg_conf_load_time()",
    "SELECT * FROM pg_stat_wal_receiver",
    "SELECT backend_type, wait_event FROM pg_stat_activity",
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_create_physical_replication_slot('ha_pg9')",
    "SELECT name FROM pg_ls_waldir()",
    "SELECT pg_read_file('pg_wal/00000002.history', 0, 1000000, true)",
    "SELECT pg_read_binary_file('pg_wal/x', 0, 10, true)",
    "SELECT pg_ls_dir('pg_wal', true, false), pg_stat_file('postgresql.conf', true)",
    "SELECT system_identifier FROM pg_control_system()",
]


@pytest.mark.parametrize("statement", AGENT)
def test_an_agent_can_do_its_work(server: PostgresServer, statement: str) -> None:
    with as_role(server, "ha_agent", "postgres") as agent:
        agent.execute(statement.encode())


@pytest.mark.parametrize("function", ["pg_promote(boolean, integer)", "pg_wal_replay_resume()"])
def test_an_agent_may_promote_and_resume(server: PostgresServer, function: str) -> None:
    with as_role(server, "ha_agent", "postgres") as agent:
        asked = "SELECT has_function_privilege(%s, 'EXECUTE')"
        assert agent.execute(asked, [function]).fetchone() == (True,)


@pytest.mark.parametrize(
    "statement",
    [
        *(
            s
            for s in READS_AND_RULES
            if s.startswith(("CREATE ", "ALTER ", "SET R", "COPY", "DROP D")) and "ha.m" not in s
        ),
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_reload_conf()",
        "SELECT pg_read_file('/etc/passwd', 0, 10, false)",
    ],
)
def test_an_agent_is_no_superuser(server: PostgresServer, statement: str) -> None:
    with as_role(server, "ha_agent", "postgres") as agent, pytest.raises(REFUSED):
        agent.execute(statement.encode())


@pytest.mark.parametrize(
    ("role", "database"),
    [("ha_agent", "app"), ("ha_repl", "app"), ("ha_repl", "postgres"), ("ha_control", "postgres")],
)
def test_a_role_gets_into_no_database_that_it_does_not_need(
    server: PostgresServer, role: str, database: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        as_role(server, role, database)


def test_clients_cannot_take_the_last_connections_from_an_agent(tmp_path: Path) -> None:
    """A node that is full must still obey: reserved_connections, and the role that may use them."""
    few = {"max_connections": "6", "superuser_reserved_connections": "1", "reserved_connections": "2"}
    server = PostgresServer(tmp_path, {**QUICK, **few})
    server.initialise()
    server.start()
    opened: list[psycopg.Connection] = []
    try:
        for statement in statements(CLUSTER_ROLES):
            server.execute(statement)
        server.execute("CREATE ROLE app LOGIN")
        server.execute("GRANT CONNECT ON DATABASE postgres TO app")
        opened += [as_role(server, "app", "postgres") for _ in range(3)]
        with pytest.raises(psycopg.OperationalError, match="reserved"):
            as_role(server, "app", "postgres")
        with as_role(server, "ha_agent", "postgres") as agent:
            assert agent.execute("SELECT 1").fetchone() == (1,)
    finally:
        for client in opened:
            client.close()
        server.stop()


def test_the_store_is_migrated_by_its_owner_and_used_by_a_role_that_owns_nothing(
    server: PostgresServer,
) -> None:
    server.execute("CREATE DATABASE ha_store")
    for statement in statements(STORE_ROLES):
        server.execute(statement, "ha_store")
    url = f"postgresql+psycopg://{{}}@127.0.0.1:{server.port}/ha_store"
    owner, user = Store(url.format("ha_owner")), Store(url.format("ha_tasks"))
    try:
        owner.migrate()
        user.journal.next_fence(datetime.now(UTC))
        user.journal.raise_fence(7)
        assert user.limits.switch("stop") is None
    finally:
        owner.dispose()
        user.dispose()

    with as_role(server, "ha_tasks", "ha_store") as used:
        for statement in (
            "DROP TABLE run",
            "CREATE TABLE mine (x int)",
            "TRUNCATE run",
            "DROP SCHEMA public",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                used.execute(statement.encode())
