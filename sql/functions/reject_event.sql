-- Sets a body aside: one row for each distinct body, whatever its byte order mark, and attempts counts its receipts. Each
-- call is a receipt of its own, in whatever order they come, but for the last one again (the answer to its commit was
-- lost). An event that waited may be here for an older one again: it counts only if it is newer than all that were. Of an
-- erased ticket nothing is kept.
CREATE OR REPLACE FUNCTION vcc.reject_event(
    event_id     uuid,
    received_at  timestamptz,
    project_id   bigint,
    body         bytea,
    reason       text,
    waited       boolean DEFAULT NULL,
    iv           text DEFAULT NULL,
    coding       text DEFAULT NULL,
    ticket_id    bigint DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- Who erases the ticket just now has this lock until the end: see vcc.erase_rows.
    IF NOT pg_try_advisory_xact_lock_shared(824391005, (hashint8extended(ticket_id, project_id) & 63)::integer) THEN
        RAISE lock_not_available USING MESSAGE = 'the ticket is being deleted or erased';
    END IF;
    IF EXISTS (SELECT FROM vcc.deleted_tickets d
                WHERE d.project_id = reject_event.project_id AND d.ticket_id = reject_event.ticket_id AND d.erased) THEN
        RETURN;
    END IF;
    IF current_setting('synchronous_commit') = 'off' THEN  -- what is said to be kept is on disk
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO vcc.rejected_events AS r
           (body, reason, first_received_at, last_received_at, attempts, project_id, digest, last_event_id, iv, coding, ticket_id)
    VALUES (body, reason, received_at, received_at, 1, project_id,
            sha256(CASE substr(body, 1, 3) WHEN '\xefbbbf' THEN substr(body, 4) ELSE body END), event_id, iv, coding, ticket_id)
    ON CONFLICT (project_id, digest) DO UPDATE SET
        reason            = excluded.reason,
        first_received_at = least(r.first_received_at, excluded.first_received_at),
        last_received_at  = greatest(r.last_received_at, excluded.last_received_at),
        attempts          = r.attempts + (excluded.last_event_id > r.last_event_id OR
                                          reject_event.waited IS NOT TRUE AND excluded.last_event_id <> r.last_event_id)::integer,
        last_event_id     = greatest(r.last_event_id, excluded.last_event_id),
        iv                = coalesce(r.iv, excluded.iv),
        coding            = coalesce(r.coding, excluded.coding),
        ticket_id         = coalesce(r.ticket_id, excluded.ticket_id)
     WHERE excluded.last_event_id <> r.last_event_id OR excluded.reason <> r.reason
        OR r.iv IS NULL AND excluded.iv IS NOT NULL OR r.coding IS NULL AND excluded.coding IS NOT NULL;
END
$$;
COMMENT ON FUNCTION vcc.reject_event IS 'Sets a refused body aside in vcc.rejected_events, once for each distinct body, with a count';
