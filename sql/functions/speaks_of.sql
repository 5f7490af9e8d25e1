-- Whether a body that was set aside speaks of this ticket; NULL where it cannot be read.
CREATE OR REPLACE FUNCTION vcc.speaks_of(body bytea, project_id bigint, ticket_id bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
DECLARE
    ticket  json;
BEGIN
    -- Without a BOM, and without \u0000, which no text can hold (behind an even number of backslashes it is one).
    ticket := regexp_replace(ltrim(convert_from(body, 'UTF8'), E'\ufeff'),
                             '(?<!\\)((?:\\\\)*)\\u0000', '\1', 'g')::json -> 'ticket';
    RETURN (ticket ->> 'projectId')::numeric = project_id AND (ticket ->> 'ticketId')::numeric = ticket_id;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION vcc.speaks_of IS 'Whether a body that was set aside speaks of this ticket; NULL where it cannot be read';
