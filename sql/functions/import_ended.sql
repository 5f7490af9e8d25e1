CREATE OR REPLACE FUNCTION vcc.import_ended(digest bytea) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT i.finished_at FROM vcc.imports i WHERE i.digest = import_ended.digest
$$;
COMMENT ON FUNCTION vcc.import_ended IS 'When a file was imported to its end; NULL: it was not';
