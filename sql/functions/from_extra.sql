-- What a column of that type would hold had the event been decoded with it: handler/event/event.c and timestamp.c say the same
-- in C. fits: whether it may be moved there, as NULL where the sender means none; where it may not, result is NULL too.
CREATE OR REPLACE FUNCTION vcc.from_extra(value jsonb, type text, zone text, OUT result text, OUT fits boolean)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
DECLARE
    sent    CONSTANT text := value #>> '{}';
    number  numeric;
    part    text[];
    moment  timestamp;
    at      timestamptz;
BEGIN
    fits := false;
    IF jsonb_typeof(value) NOT IN ('string', 'number') THEN
        RETURN;
    ELSIF type = 'text' THEN
        result := sent;
    ELSIF sent = '' OR type = 'timestamptz' AND sent ~ '^(0000-00-00|-0001-11-30|-001-11-30)' THEN
        NULL;  -- none
    ELSIF type = 'bigint' THEN
        IF jsonb_typeof(value) = 'string' AND sent !~ '^-?\d+$' OR sent::numeric <> trunc(sent::numeric) THEN
            RETURN;
        END IF;
        result := trunc(sent::numeric)::bigint;
    ELSIF jsonb_typeof(value) = 'number' THEN
        number := sent::numeric * CASE WHEN abs(sent::numeric) < 100000000000 THEN 1000 ELSE 1 END;
        IF sent::numeric <> trunc(sent::numeric) OR number NOT BETWEEN -62135596800000 AND 253402300799999 THEN
            RETURN;
        END IF;
        -- In days and the rest of a day: as one number of seconds it would not be exact.
        at := timestamptz 'epoch' + make_interval(days => div(number, 86400000)::integer, secs => mod(number, 86400000) / 1000.0);
        result := at;
    ELSE
        part := regexp_match(sent, '^(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?([Zz]|[+-]\d\d(?::?\d\d)?)?)?$');
        IF part IS NULL OR part[4] > '23' OR part[5] > '59' OR part[6] > '60' OR substr(part[8], 2, 2) > '15'
           OR right(part[8], 2) > '59' AND length(part[8]) > 3 THEN
            RETURN;
        END IF;
        moment := make_date(part[1]::integer, part[2]::integer, part[3]::integer)
                  + make_interval(hours => coalesce(part[4], '0')::integer, mins => coalesce(part[5], '0')::integer,
                                  secs => concat(coalesce(part[6], '0'), '.', left(part[7], 6), '0')::double precision);
        at := CASE WHEN part[8] IS NULL THEN moment AT TIME ZONE zone
                   WHEN upper(part[8]) = 'Z' THEN moment AT TIME ZONE 'UTC'
                   ELSE (moment - (concat(left(part[8], 1), substr(part[8], 2, 2), ':', CASE WHEN length(part[8]) > 3
                                          THEN right(part[8], 2) ELSE '00' END))::interval) AT TIME ZONE 'UTC' END;
        IF at < timestamptz '0001-01-01 00:00:00+00' OR at >= timestamptz '9999-12-31 24:00:00+00' THEN
            RETURN;
        END IF;
        result := at;
    END IF;
    fits := true;
EXCEPTION WHEN data_exception THEN
    result := NULL;
END
$$;
COMMENT ON FUNCTION vcc.from_extra IS 'What a column of that type holds of a value of extra, and whether it fits there';
