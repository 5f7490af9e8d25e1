-- Which calendar a project has; NULL: none, it works 24 hours on 7 days.
CREATE OR REPLACE FUNCTION vcc.calendar_of(project_id bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN coalesce((SELECT p.calendar_id FROM vcc.project_calendars p WHERE p.project_id = calendar_of.project_id),
                    (SELECT c.calendar_id FROM vcc.calendars c WHERE c.is_default));
END
$$;
COMMENT ON FUNCTION vcc.calendar_of IS 'Calendar of a project: its own or the default; NULL: it has none';

-- What a clock shows that runs only while somebody works, so that two of its times differ by the time worked between them.
CREATE OR REPLACE FUNCTION vcc.business_clock(at timestamptz, calendar bigint) RETURNS timestamp
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    clock  timestamp;
BEGIN
    IF calendar IS NULL THEN
        RETURN at AT TIME ZONE 'UTC';
    END IF;
    -- The last slot counts, and shows most.
    SELECT max(s.clock + (least(at, s.closes_at) - s.opens_at)) INTO clock
      FROM vcc.calendar_slots s
     WHERE s.calendar_id = calendar AND s.opens_at BETWEEN date_trunc('day', at, 'UTC') AND at;
    IF clock IS NULL AND at IS NOT NULL THEN
        RAISE datetime_field_overflow USING MESSAGE = format('calendar %s does not tell of %s', calendar, at AT TIME ZONE 'UTC'),
            HINT = 'calendars reach from 2000 to 2039; on Citus call vcc.prepare_calendars() after a change';
    END IF;
    RETURN clock;
END
$$;
COMMENT ON FUNCTION vcc.business_clock IS 'What a clock shows that runs only while a calendar is open; a part of vcc.business_seconds';

CREATE OR REPLACE FUNCTION vcc.business_seconds("from" timestamptz, "to" timestamptz, project_id bigint) RETURNS numeric
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    calendar  CONSTANT bigint := vcc.calendar_of(project_id);
BEGIN
    RETURN extract(epoch FROM vcc.business_clock("to", calendar) - vcc.business_clock("from", calendar));
END
$$;
COMMENT ON FUNCTION vcc.business_seconds IS 'Seconds between two times in which the calendar of the project is open, below 0 where the second is earlier; without a calendar all. An error outside the years 2000 to 2039, unless there is none';

CREATE OR REPLACE FUNCTION vcc.add_business_seconds("from" timestamptz, seconds numeric, project_id bigint) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    calendar  CONSTANT bigint := vcc.calendar_of(project_id);
    begun     CONSTANT timestamp := vcc.business_clock("from", calendar);
    wanted    CONSTANT timestamp := begun + make_interval(secs => seconds::float8);
    slot      vcc.calendar_slots;
BEGIN
    IF seconds < 0 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'seconds are below 0';
    ELSIF wanted = begun THEN  -- less than a microsecond
        RETURN "from";
    ELSIF calendar IS NULL THEN
        RETURN wanted AT TIME ZONE 'UTC';
    END IF;
    SELECT s.* INTO slot FROM vcc.calendar_slots s
     WHERE s.calendar_id = calendar AND s.clock < wanted ORDER BY s.clock DESC, s.opens_at DESC LIMIT 1;
    -- The last one is as many hours too short.
    IF slot.clock + (slot.closes_at - slot.opens_at) < wanted THEN
        RAISE datetime_field_overflow USING MESSAGE = format('calendar %s has no more than that until 2039', calendar);
    END IF;
    RETURN (slot.opens_at AT TIME ZONE 'UTC' + (wanted - slot.clock)) AT TIME ZONE 'UTC';
END
$$;
COMMENT ON FUNCTION vcc.add_business_seconds IS 'The earliest time by which the calendar of the project was open for so many seconds; the inverse of vcc.business_seconds';
