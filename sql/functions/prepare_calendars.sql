-- Makes vcc.calendar_slots of the calendars: hours become instants by their local day, at the zone. Triggers call it after each
-- change, for what was changed, but on Citus, which allows none: there call it by hand, and everywhere when the rules of a time
-- zone have changed.
--
-- A local time that a day does not have, or has twice, is what PostgreSQL makes of it. What an earlier piece covers is cut
-- off, so that nothing counts twice; pieces end with their day in UTC, so that a look at one such day finds all that matters.
CREATE OR REPLACE FUNCTION vcc.prepare_calendars(only_these bigint[] DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET jit = off
AS $$
DECLARE
    since  CONSTANT timestamp := '2000-01-01';
    until  CONSTANT timestamp := '2040-01-01';
BEGIN
    PERFORM pg_advisory_xact_lock(824391006);  -- another's change is there, or sees ours
    DELETE FROM vcc.calendar_slots s WHERE only_these IS NULL OR s.calendar_id = ANY (only_these);
    INSERT INTO vcc.calendar_slots (calendar_id, opens_at, closes_at, clock)
    WITH day AS (
        SELECT c.calendar_id, c.time_zone, d::date AS day, extract(isodow FROM d) AS weekday
          FROM vcc.calendars c CROSS JOIN generate_series(since - interval '1 day', until, '1 day') d
         WHERE only_these IS NULL OR c.calendar_id = ANY (only_these)
    ), hours AS (
        SELECT d.calendar_id, d.time_zone, d.day + h.opens AS opens, d.day + h.closes AS closes
          FROM day d
          JOIN vcc.calendar_hours h ON h.calendar_id = d.calendar_id AND h.weekday = d.weekday
           AND d.day BETWEEN h.valid_from AND h.valid_until
          LEFT JOIN vcc.calendar_exceptions x ON x.calendar_id = d.calendar_id AND x.day = d.day
         WHERE x.day IS NULL
         UNION ALL
        SELECT d.calendar_id, d.time_zone, x.day + x.opens, x.day + x.closes
          FROM day d
          JOIN vcc.calendar_exceptions x ON x.calendar_id = d.calendar_id AND x.day = d.day
    ), piece AS (
        SELECT h.calendar_id, h.opens AT TIME ZONE h.time_zone AS opens_at, h.closes AT TIME ZONE h.time_zone AS closes_at
          FROM hours h
    ), part AS (  -- of one day in UTC
        SELECT p.calendar_id, greatest(p.opens_at, d) AS opens_at, least(p.closes_at, d + interval '1 day') AS closes_at, false AS empty
          FROM piece p
         CROSS JOIN LATERAL generate_series(date_trunc('day', p.opens_at), p.closes_at, '1 day') d
         WHERE d >= since AND d < until
         UNION ALL
        SELECT d.calendar_id, d.day, d.day, true FROM day d WHERE d.day >= since AND d.day < until
    ), cut AS (
        SELECT p.calendar_id, greatest(p.opens_at, max(p.closes_at) OVER earlier) AS opens_at, p.closes_at, p.empty
          FROM part p
        WINDOW earlier AS (PARTITION BY p.calendar_id ORDER BY p.opens_at, p.closes_at DESC
                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
    SELECT c.calendar_id, c.opens_at, c.closes_at,
           since + coalesce(sum(c.closes_at - c.opens_at) OVER (PARTITION BY c.calendar_id ORDER BY c.opens_at
                            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), interval '0')
      FROM cut c
     WHERE c.closes_at > c.opens_at OR c.empty AND c.closes_at = c.opens_at;
END
$$;
COMMENT ON FUNCTION vcc.prepare_calendars IS 'Makes vcc.calendar_slots of the calendars; triggers call it after each change of one, on Citus you do';

CREATE OR REPLACE FUNCTION vcc.calendars_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM vcc.prepare_calendars();
    ELSE
        PERFORM vcc.prepare_calendars(ARRAY(SELECT DISTINCT c.calendar_id FROM changed c));
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION vcc.calendars_changed IS 'Trigger of the calendars: calls vcc.prepare_calendars';
