-- Erases all that is known of one ticket: for data-protection requests. Where something was, its deletion is remembered,
-- by its two numbers alone, so that no event brings it back: what still comes
-- of it leaves its identifier in the journal, or nothing where it is refused. Returns what went. Bodies that nobody can read (not
-- JSON, or encrypted with another key) stay; so does what waits in a spool: `ticketd spool status`. Waits for others at
-- most five seconds; then nothing has gone.
CREATE OR REPLACE FUNCTION vcc.erase_ticket(project_id bigint, ticket_id bigint) RETURNS TABLE (what text, rows bigint)
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
     WHERE r.project_id IN (project_id, 0) AND vcc.speaks_of(r.body) = ARRAY[project_id, ticket_id];
    GET DIAGNOSTICS bodies = ROW_COUNT;
    found := bodies;
    SELECT count(*) INTO unread FROM vcc.rejected_events r
     WHERE r.project_id IN (project_id, 0) AND vcc.speaks_of(r.body) IS NULL;

    -- Another session may be making the ticket's row, which nobody sees before the commit: as in vcc.apply_events.
    PERFORM pg_advisory_xact_lock(824391005, (hashint8extended(ticket_id, project_id) & 63)::integer);
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

    IF found > 0 OR EXISTS (SELECT FROM vcc.deleted_tickets d WHERE d.project_id = project_id AND d.ticket_id = ticket_id) THEN
        INSERT INTO vcc.deleted_tickets (project_id, ticket_id, deleted_at, erased)
        VALUES (project_id, ticket_id, now(), true)
            ON CONFLICT ON CONSTRAINT deleted_tickets_pkey DO UPDATE SET erased = true;
    END IF;

    what := 'left: bodies of this project, or of none, that cannot be read';
    rows := unread;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION vcc.erase_ticket IS 'Erases all that is known of one ticket but that it is deleted; returns what went';
