-- The roles of ha_tasks on a protected cluster: what each needs, and nothing more.
-- Run it as superuser in the database `postgres` of the primary; again is harmless.
--     psql -d postgres -f cluster-roles.sql, then \password ha_control, ha_agent, ha_repl
-- Statements end with a semicolon and an empty line, so that `postgres --single -j` can read them, too.

-- Streams and makes base backups. It owns nothing and may connect to no database.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ha_repl') THEN CREATE ROLE ha_repl; END IF;
END $$;

ALTER ROLE ha_repl LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

-- The control plane: looks, makes a checkpoint, ends WAL senders, writes a canary row.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ha_control') THEN CREATE ROLE ha_control; END IF;
END $$;

ALTER ROLE ha_control LOGIN NOREPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

-- pg_stat_replication and pg_stat_wal_receiver hide their columns from others.
GRANT pg_read_all_stats TO ha_control;

GRANT pg_checkpoint TO ha_control;

-- Whoever has a role's rights may end its sessions: WAL senders are ha_repl's, and nobody else's sessions
-- can be ended. It may not become ha_repl, which could drop slots (PostgreSQL 15 cannot forbid that).
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        EXECUTE 'GRANT ha_repl TO ha_control WITH INHERIT TRUE, SET FALSE';
    ELSE
        EXECUTE 'GRANT ha_repl TO ha_control';
    END IF;
END $$;

-- The host agent: slots, promotion, following, and what pg_rewind reads from a primary.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ha_agent') THEN CREATE ROLE ha_agent; END IF;
END $$;

ALTER ROLE ha_agent LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

-- primary_conninfo is shown to superusers and pg_read_all_settings only.
GRANT pg_read_all_stats, pg_read_all_settings, pg_checkpoint TO ha_agent;

-- When clients have taken every connection a node must still obey. From PostgreSQL 16 on that is
-- reserved_connections (set it to 5); PostgreSQL 15 reserves connections for superusers alone.
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        EXECUTE 'GRANT pg_use_reserved_connections TO ha_agent';
        EXECUTE 'GRANT ha_repl TO ha_agent WITH INHERIT TRUE, SET FALSE';
    ELSE
        EXECUTE 'ALTER ROLE ha_agent SUPERUSER';
    END IF;
END $$;

GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer), pg_wal_replay_resume() TO ha_agent;

-- Kinship of timelines is read off the primary's WAL and history files.
GRANT EXECUTE ON FUNCTION pg_ls_waldir(), pg_read_file(text, bigint, bigint, boolean) TO ha_agent;

-- As the manual of pg_rewind lists them.
GRANT EXECUTE ON FUNCTION
    pg_ls_dir(text, boolean, boolean),
    pg_stat_file(text, boolean),
    pg_read_binary_file(text),
    pg_read_binary_file(text, bigint, bigint, boolean)
TO ha_agent;

-- Only who needs a database may connect to it.
REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC;

GRANT CONNECT ON DATABASE postgres TO ha_agent;

