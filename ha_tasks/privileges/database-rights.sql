-- What ha_control may do in the protected database: one table of its own, nothing of the application's.
-- Run it as superuser in that database of the primary, after cluster-roles.sql; again is harmless.

CREATE SCHEMA IF NOT EXISTS ha;

-- The row that proves after a recovery that writes arrive and are read back.
CREATE TABLE IF NOT EXISTS ha.canary (
    service text NOT NULL,
    token text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, token)
);

GRANT USAGE ON SCHEMA ha TO ha_control;

GRANT SELECT, INSERT, UPDATE, DELETE ON ha.canary TO ha_control;

-- Everybody may connect and make temporary tables by default; the owner and its grants stay as they are.
DO $$ BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO ha_control', current_database());
END $$;

