-- Every line of the file has been applied, or set aside.
CREATE OR REPLACE FUNCTION vcc.end_import(digest bytea, now timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE vcc.imports i SET finished_at = end_import.now WHERE i.digest = end_import.digest AND i.finished_at IS NULL
$$;
COMMENT ON FUNCTION vcc.end_import IS 'Notes that a file was imported to its end';
