-- 003: what keeps the journal in partitions, and what forgets.

-- The least identifier (UUIDv7, RFC 9562 section 5.7) of an event received at that time: its first 48 bits are Unix
-- milliseconds.
CREATE FUNCTION vcc.first_event_id(received_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT rpad(lpad(to_hex(floor(extract(epoch FROM received_at) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

COMMENT ON FUNCTION vcc.first_event_id IS 'The least identifier that an event received at that time can have: a bound for event_id, of which the journal''s partitions are made';

-- Makes the journal's partitions of this month (UTC) and of the twelve that follow, where they are missing; returns how
-- many it made. Every handler calls it when it connects and once a day.
--
-- It waits for nobody: what cannot be locked at once is left for another day. Until then the default partition takes
-- what comes; what it has of a month moves to that month's partition when there is one. Others wait where they use the
-- default partition, which is read once for each new month: it holds next to nothing, unless another application gives
-- its events identifiers without a time.
CREATE FUNCTION vcc.prepare_journal() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC' SET lock_timeout = '100ms'
AS $$
DECLARE
    month  timestamptz := date_trunc('month', now());
    name   text;
    first  uuid;
    next   uuid;
    made   integer := 0;
BEGIN
    FOR n IN 0..12 LOOP
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
                    'CREATE TABLE vcc.%I (LIKE vcc.ticket_events INCLUDING DEFAULTS)
                       WITH (autovacuum_vacuum_insert_scale_factor = 0.02)', name);
                EXECUTE format('COMMENT ON TABLE vcc.%I IS %L', name,
                    'Journal rows of ' || to_char(month, 'FMMonth YYYY'));
                LOCK TABLE vcc.ticket_events_default;
                EXECUTE format(
                    'INSERT INTO vcc.%I SELECT * FROM vcc.ticket_events_default
                      WHERE event_id >= $1 AND event_id < $2', name) USING first, next;
                DELETE FROM vcc.ticket_events_default WHERE event_id >= first AND event_id < next;
                EXECUTE format('ALTER TABLE vcc.ticket_events ATTACH PARTITION vcc.%I FOR VALUES FROM (%L) TO (%L)',
                    name, first, next);
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

COMMENT ON FUNCTION vcc.prepare_journal IS 'Makes the journal''s partitions of this month and of a year ahead; returns how many were missing';

SELECT vcc.prepare_journal();

-- Forgets what was received before that day (in the time zone of the session): journal rows, whole partitions where
-- that is possible, and bodies that were set aside. Tickets, and the memory of deletions and adds, stay. Returns what
-- went. Waits for others at most five seconds; then nothing has gone.
CREATE FUNCTION vcc.drop_events_before(before date) RETURNS TABLE (what text, events bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    until      timestamptz := before;
    partition  text;
    later      bigint;
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

    DELETE FROM vcc.ticket_events WHERE received_at < until
       AND NOT tableoid = ANY (SELECT format('vcc.%I', w)::regclass FROM unnest(whole) w);
    GET DIAGNOSTICS events = ROW_COUNT;
    what := 'journal, other rows';
    RETURN NEXT;

    DELETE FROM vcc.rejected_events WHERE last_received_at < until;
    GET DIAGNOSTICS events = ROW_COUNT;
    what := 'bodies that were set aside';
    RETURN NEXT;

    -- Last, for now everyone has to wait for us.
    FOREACH partition IN ARRAY whole LOOP
        EXECUTE format('DROP TABLE vcc.%I', partition);
    END LOOP;
END
$$;

COMMENT ON FUNCTION vcc.drop_events_before IS 'Forgets journal rows, and bodies that were set aside, received before that day in the time zone of the session; returns what went';

-- Whether a body that was set aside speaks of this ticket; NULL where it cannot be read.
CREATE FUNCTION vcc.speaks_of(body bytea, project_id bigint, ticket_id bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
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

-- Erases all that is known of one ticket: for data-protection requests. Where something was, its deletion is remembered,
-- by its two numbers alone, so that no late event brings it back. Returns what went. Bodies that nobody can read (not
-- JSON, or encrypted with another key) stay; so does what waits in a spool: `ticketd spool status`. Waits for others at
-- most five seconds; then nothing has gone.
CREATE FUNCTION vcc.erase_ticket(project_id bigint, ticket_id bigint) RETURNS TABLE (what text, rows bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
#variable_conflict use_variable
DECLARE
    found   bigint;
    bodies  bigint;
    unread  bigint;
BEGIN
    -- First, for it may take a while.
    DELETE FROM vcc.rejected_events r
     WHERE r.project_id IN (project_id, 0) AND vcc.speaks_of(r.body, project_id, ticket_id);
    GET DIAGNOSTICS bodies = ROW_COUNT;
    found := bodies;
    SELECT count(*) INTO unread FROM vcc.rejected_events r
     WHERE r.project_id IN (project_id, 0) AND vcc.speaks_of(r.body, project_id, ticket_id) IS NULL;

    -- Another session may be making the ticket's row, which nobody sees before the commit: we wait for all who write.
    LOCK TABLE vcc.tickets IN SHARE ROW EXCLUSIVE MODE;
    what := 'ticket';
    DELETE FROM vcc.tickets t WHERE t.project_id = project_id AND t.ticket_id = ticket_id;
    GET DIAGNOSTICS rows = ROW_COUNT;
    found := found + rows;
    RETURN NEXT;

    what := 'digests of its adds';
    DELETE FROM vcc.ticket_adds a WHERE a.project_id = project_id AND a.ticket_id = ticket_id;
    GET DIAGNOSTICS rows = ROW_COUNT;
    found := found + rows;
    RETURN NEXT;

    what := 'journal';
    DELETE FROM vcc.ticket_events e WHERE e.project_id = project_id AND e.ticket_id = ticket_id;
    GET DIAGNOSTICS rows = ROW_COUNT;
    found := found + rows;
    RETURN NEXT;

    what := 'bodies that were set aside';
    rows := bodies;
    RETURN NEXT;

    IF found > 0 THEN
        INSERT INTO vcc.deleted_tickets (project_id, ticket_id, deleted_at) VALUES (project_id, ticket_id, now())
            ON CONFLICT ON CONSTRAINT deleted_tickets_pkey DO NOTHING;
    END IF;

    what := 'left: bodies of this project, or of none, that cannot be read';
    rows := unread;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION vcc.erase_ticket IS 'Erases all that is known of one ticket but that it is deleted; returns what went';
