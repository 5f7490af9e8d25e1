-- Runs at the start of every `ticketd migrate`: the schema and the record of what was applied to it.
CREATE SCHEMA IF NOT EXISTS vcc;
COMMENT ON SCHEMA vcc IS 'Tickets of VCC Live, kept by ticketd';

CREATE TABLE IF NOT EXISTS vcc.migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE  vcc.migrations IS 'The numbered files that `ticketd migrate` applied';
COMMENT ON COLUMN vcc.migrations.version IS 'Number of the file';
COMMENT ON COLUMN vcc.migrations.name IS 'Name of the file';
COMMENT ON COLUMN vcc.migrations.applied_at IS 'When it was applied';

CREATE OR REPLACE FUNCTION vcc.schema_version() RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'SELECT coalesce(max(version), 0) FROM vcc.migrations';
COMMENT ON FUNCTION vcc.schema_version IS 'Number of the last migration applied: the handler looks whether it knows this schema';
