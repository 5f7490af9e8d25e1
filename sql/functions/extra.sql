-- What vcc.apply_events does with attributes that have no column. Functions of their own, for most events have none. Each
-- jsonb that is made takes a hundred times what a short number takes in it: none is made needlessly.

-- extra with the values that the body has for these names, but for those that events received later carried. null
-- removes a name. Only what is still unknown, where the event `fills`. NULL: it would be larger than 1 MB, and larger than
-- it was.
CREATE OR REPLACE FUNCTION vcc.merge_extra(extra jsonb, body jsonb, names text[], later text[], fills boolean) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most    CONSTANT integer := 1048576;
    ticket  jsonb := body -> 'ticket';  -- once: a copy
    sent    jsonb;
    merged  jsonb;
BEGIN
    IF later IS NOT NULL THEN
        names := ARRAY(SELECT unnest(names) EXCEPT SELECT unnest(later));
    END IF;
    IF pg_column_size(ticket) > most / 100 AND (SELECT sum(octet_length((ticket -> n)::text)) FROM unnest(names) n)
                                               > greatest(most, octet_length(extra::text)) THEN
        RETURN NULL;
    END IF;
    sent := coalesce((SELECT jsonb_object_agg(n, ticket -> n) FROM unnest(names) n), '{}');
    merged := CASE WHEN fills THEN sent || extra ELSE extra || sent END;
    IF EXISTS (SELECT FROM unnest(names) n WHERE ticket -> n = 'null') THEN
        merged := (SELECT coalesce(jsonb_object_agg(a.key, a.value), '{}') FROM jsonb_each(merged) a WHERE a.value <> 'null');
    END IF;
    RETURN CASE WHEN octet_length(merged::text) <= greatest(most, octet_length(extra::text)) THEN merged END;
END
$$;

COMMENT ON FUNCTION vcc.merge_extra IS 'Merges what an event says of attributes without a column into extra; a part of vcc.apply_events';

-- A JSON object: each name that differs, with its old and its new value.
CREATE OR REPLACE FUNCTION vcc.changed_extra(old jsonb, new jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT concat('{', string_agg(concat(to_json(key), ':', json_build_array(o.value, n.value)), ','), '}')
              FROM jsonb_each(old) o FULL JOIN jsonb_each(new) n USING (key)
             WHERE o.value IS DISTINCT FROM n.value);
END
$$;

COMMENT ON FUNCTION vcc.changed_extra IS 'The names in extra that an event changed, with both values; a part of vcc.apply_events';
