-- The roles of the state store, on a PostgreSQL server of its own (never the cluster that is recovered).
-- Run it as superuser in the database of the store; again is harmless.
--     CREATE DATABASE ha_tasks;  psql -d ha_tasks -f store-roles.sql, then \password ha_owner, ha_tasks

-- Owns the tables and migrates them: only `ha-tasks migrate` logs in as this role.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ha_owner') THEN CREATE ROLE ha_owner; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ha_tasks') THEN CREATE ROLE ha_tasks; END IF;
END $$;

ALTER ROLE ha_owner LOGIN NOREPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

-- Every process of the control plane: reads and writes rows, makes and drops nothing.
ALTER ROLE ha_tasks LOGIN NOREPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;

DO $$ BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO ha_owner, ha_tasks', current_database());
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;

GRANT USAGE, CREATE ON SCHEMA public TO ha_owner;

GRANT USAGE ON SCHEMA public TO ha_tasks;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ha_tasks;

GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ha_tasks;

ALTER DEFAULT PRIVILEGES FOR ROLE ha_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ha_tasks;

ALTER DEFAULT PRIVILEGES FOR ROLE ha_owner IN SCHEMA public GRANT USAGE ON SEQUENCES TO ha_tasks;

-- What has been told stays told. Run this file once more after `ha-tasks migrate`: only then are the tables there.
DO $$ BEGIN
    IF to_regclass('public.audit_entry') IS NOT NULL THEN
        REVOKE UPDATE, DELETE ON audit_entry, inventory_revision FROM ha_tasks;
    END IF;
END $$;
