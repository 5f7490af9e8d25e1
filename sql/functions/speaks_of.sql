-- Project and ticket that a body speaks of which was set aside; NULL where they cannot be read.
CREATE OR REPLACE FUNCTION vcc.speaks_of(body bytea) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    ticket  json;
    key     numeric[];
BEGIN
    -- Without a BOM, and without \u0000, which no text can hold (behind an even number of backslashes it is one).
    ticket := replace(replace(replace(ltrim(convert_from(body, 'UTF8'), E'\ufeff'), '\\', E'\x01'), '\u0000', ''),
                      E'\x01', '\\')::json -> 'ticket';  -- \x01 is in no JSON
    key := ARRAY[ticket ->> 'projectId', ticket ->> 'ticketId'];
    RETURN CASE WHEN key[1] = trunc(key[1]) AND key[2] = trunc(key[2]) THEN key END;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR feature_not_supported THEN  -- the last of NaN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION vcc.speaks_of IS 'Project and ticket that a body speaks of which was set aside; NULL where they cannot be read';
