-- Forgets what was received before that day (in the time zone of the session): journal rows, whole partitions where
-- that is possible, and bodies that were set aside. Tickets, and the memory of deletions and adds, stay. Returns what
-- went. Waits for others at most five seconds; then nothing has gone.
CREATE OR REPLACE FUNCTION vcc.drop_events_before(before date) RETURNS TABLE (what text, events bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    until      timestamptz := before;
    partition  text;
    later      bigint;
    others     bigint;
    whole      text[] := '{}';
BEGIN
    FOR partition IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'vcc.ticket_events'::regclass
           AND c.relname < to_char(until AT TIME ZONE 'UTC', '"ticket_events_"YYYY_MM')
         ORDER BY c.relname
    LOOP
        EXECUTE format('LOCK TABLE vcc.%I IN SHARE MODE', partition);
        EXECUTE format('SELECT count(*), count(*) FILTER (WHERE received_at >= $1) FROM vcc.%I', partition)
           INTO events, later USING until;
        CONTINUE WHEN later > 0;  -- another application gave them identifiers of its own
        what := 'journal, ' || partition;
        whole := whole || partition;
        RETURN NEXT;
    END LOOP;

    -- By partition, for Citus knows nothing of tableoid.
    others := 0;
    FOR partition IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'vcc.ticket_events'::regclass AND c.relname <> ALL (whole)
    LOOP
        EXECUTE format('DELETE FROM vcc.%I WHERE received_at < $1', partition) USING until;
        GET DIAGNOSTICS events = ROW_COUNT;
        others := others + events;
    END LOOP;
    what := 'journal, other rows';
    events := others;
    RETURN NEXT;

    DELETE FROM vcc.rejected_events WHERE last_received_at < until;
    GET DIAGNOSTICS events = ROW_COUNT;
    what := 'bodies that were set aside';
    RETURN NEXT;

    -- An event that waited since before then only fills what is still unknown: see vcc.apply_events.
    INSERT INTO vcc.journal_horizon AS h (single, before) VALUES (true, until)
        ON CONFLICT (single) DO UPDATE SET before = greatest(h.before, excluded.before);

    -- Last, for now everyone has to wait for us.
    FOREACH partition IN ARRAY whole LOOP
        EXECUTE format('DROP TABLE vcc.%I', partition);
    END LOOP;
END
$$;

COMMENT ON FUNCTION vcc.drop_events_before IS 'Forgets journal rows, and bodies that were set aside, received before that day in the time zone of the session; returns what went';
