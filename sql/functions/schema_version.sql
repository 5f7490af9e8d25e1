CREATE OR REPLACE FUNCTION vcc.schema_version() RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(max(version), 0) FROM vcc.migrations
$$;
COMMENT ON FUNCTION vcc.schema_version IS 'Number of the last migration applied: the handler looks whether it knows this schema';
