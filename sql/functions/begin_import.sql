CREATE OR REPLACE FUNCTION vcc.begin_import(digest bytea, now timestamptz) RETURNS timestamptz
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO vcc.imports AS i (digest, started_at) VALUES (digest, now)
    ON CONFLICT ON CONSTRAINT imports_pkey DO UPDATE SET started_at = i.started_at
    RETURNING i.started_at
$$;
COMMENT ON FUNCTION vcc.begin_import IS 'Notes that a file is imported; returns when that was first begun';
