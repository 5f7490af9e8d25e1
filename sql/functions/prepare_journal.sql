-- Makes the journal's partitions of this month (UTC) and of the twelve that follow, or that of an event received at that
-- time, where they are missing; returns how many it made. Every handler calls it when it connects and once a day; an import
-- for the months of its events.
--
-- It waits for nobody: what cannot be locked at once is left for another day. Until then the default partition takes
-- what comes; what it has of a month moves to that month's partition when there is one. Others wait where they use the
-- default partition, which is read once for each new month: it holds next to nothing, unless another application gives
-- its events identifiers without a time.
CREATE OR REPLACE FUNCTION vcc.prepare_journal(received_at timestamptz DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC' SET lock_timeout = '100ms'
AS $$
DECLARE
    month  timestamptz := date_trunc('month', coalesce(received_at, now()));
    name   text;
    first  uuid;
    next   uuid;
    made   integer := 0;
    -- A user may have added columns; one that is computed is not copied.
    names  CONSTANT text := (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                              WHERE a.attrelid = 'vcc.ticket_events'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '');
BEGIN
    FOR n IN 0..CASE WHEN received_at IS NULL THEN 12 ELSE 0 END LOOP
        name := to_char(month, '"ticket_events_"YYYY_MM');
        IF to_regclass('vcc.' || name) IS NULL THEN
            IF NOT pg_try_advisory_xact_lock(8243910058) THEN
                RETURN made;  -- another session is at it
            END IF;
            first := vcc.first_event_id(month);
            next := vcc.first_event_id(month + interval '1 month');
            BEGIN
                -- A new table is attached, for to create it as a partition would lock out everyone.
                -- Nothing but rows to come is there to vacuum: that is what index-only scans need.
                EXECUTE format(
                    'CREATE TABLE vcc.%I (LIKE vcc.ticket_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED)
                       WITH (autovacuum_vacuum_insert_scale_factor = 0.02)', name);
                EXECUTE format('COMMENT ON TABLE vcc.%I IS %L', name,
                    'Journal rows of ' || to_char(month, 'FMMonth YYYY'));
                LOCK TABLE vcc.ticket_events_default;
                EXECUTE format(
                    'INSERT INTO vcc.%I (%s) SELECT %s FROM vcc.ticket_events_default
                      WHERE event_id >= $1 AND event_id < $2', name, names, names) USING first, next;
                DELETE FROM vcc.ticket_events_default WHERE event_id >= first AND event_id < next;
                EXECUTE format('ALTER TABLE vcc.ticket_events ATTACH PARTITION vcc.%I FOR VALUES FROM (%L) TO (%L)',
                    name, first, next);
                -- A subscriber was told that the rows went, and not that they came, for it was no partition then.
                IF EXISTS (SELECT FROM pg_publication_tables WHERE schemaname = 'vcc' AND tablename = 'ticket_events') THEN
                    EXECUTE format(
                        'WITH moved AS (DELETE FROM vcc.%I RETURNING %s) INSERT INTO vcc.%I (%s) SELECT * FROM moved', name, names, name, names);
                END IF;
                -- Asked for the journal they are not looked at; pg_dump names each.
                IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcc_reader') THEN
                    EXECUTE format('GRANT SELECT ON vcc.%I TO vcc_reader', name);
                END IF;
                made := made + 1;
            EXCEPTION WHEN lock_not_available THEN
                RAISE WARNING 'partition % of the journal is not made now: %', name, SQLERRM;
            END;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END
$$;
COMMENT ON FUNCTION vcc.prepare_journal IS 'Makes the journal''s partitions of this month and of a year ahead, or that of an event received at that time; returns how many were missing';
