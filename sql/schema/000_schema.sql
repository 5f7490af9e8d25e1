-- Runs at the start of every `ticketd migrate`, and does nothing where all is there: the schema, and the record of what was
-- applied to it. The owner of the schema need not be allowed to make one.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'vcc') THEN
        CREATE SCHEMA vcc;
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS vcc.migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS vcc.definitions (
    name        text PRIMARY KEY,
    digest      bytea NOT NULL,
    objects     text[] NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
