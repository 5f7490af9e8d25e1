-- Erases all that is known of one ticket: for data-protection requests. Where something was, its deletion is remembered,
-- by its two numbers alone, so that no event brings it back: what still comes of it leaves its identifier in the journal,
-- or nothing where it is refused. Returns what went. Bodies of which nobody knows the ticket stay: not JSON, encrypted with
-- another key, or compressed and set aside before migration 012. So does what waits in a spool: `ticketd spool status`.
-- Waits for others at most five seconds; then nothing has gone.
CREATE OR REPLACE FUNCTION vcc.erase_ticket(project_id bigint, ticket_id bigint) RETURNS TABLE (what text, rows bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
#variable_conflict use_variable
DECLARE
    bodies  bigint;
BEGIN
    -- First, for it may take a while.
    DELETE FROM vcc.rejected_events r
     WHERE r.project_id IN (project_id, 0)
       AND (r.project_id = project_id AND r.ticket_id = ticket_id OR vcc.speaks_of(r.body) = ARRAY[project_id, ticket_id]);
    GET DIAGNOSTICS bodies = ROW_COUNT;
    PERFORM pg_advisory_xact_lock(824391007);  -- vcc.refresh_reports may be keeping what it has read of the ticket
    RETURN QUERY SELECT e.what, e.rows FROM vcc.erase_rows(project_id, ticket_id, bodies > 0) e;
    DELETE FROM vcc.rejected_events r WHERE r.project_id = project_id AND r.ticket_id = ticket_id;  -- what came meanwhile
    GET DIAGNOSTICS rows = ROW_COUNT;
    bodies := bodies + rows;
    what := 'bodies that were set aside';
    rows := bodies;
    RETURN NEXT;
    what := 'left: bodies of this project, or of none, that cannot be read';
    rows := (SELECT count(*) FROM vcc.rejected_events r
              WHERE r.project_id IN (project_id, 0) AND r.ticket_id IS NULL AND vcc.speaks_of(r.body) IS NULL);
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION vcc.erase_ticket IS 'Erases all that is known of one ticket but that it is deleted; returns what went';

-- Another session may be making the ticket's row, which nobody sees before the commit: the lock is that of vcc.apply_events.
CREATE OR REPLACE FUNCTION vcc.erase_rows(project bigint, ticket bigint, known boolean) RETURNS TABLE (what text, rows bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(824391005, (hashint8extended(ticket, project) & 63)::integer);
    what := 'ticket';
    DELETE FROM vcc.ticket_metrics_kept k WHERE k.project_id = project AND k.ticket_id = ticket;
    DELETE FROM vcc.deadline_cycles_kept k WHERE k.project_id = project AND k.ticket_id = ticket;
    DELETE FROM vcc.tickets t WHERE t.project_id = project AND t.ticket_id = ticket;
    GET DIAGNOSTICS rows = ROW_COUNT;
    known := known OR rows > 0;
    RETURN NEXT;
    what := 'digests of its adds';
    DELETE FROM vcc.ticket_adds a WHERE a.project_id = project AND a.ticket_id = ticket;
    GET DIAGNOSTICS rows = ROW_COUNT;
    known := known OR rows > 0;
    RETURN NEXT;
    what := 'journal';
    DELETE FROM vcc.ticket_events e WHERE e.project_id = project AND e.ticket_id = ticket;
    GET DIAGNOSTICS rows = ROW_COUNT;
    known := known OR rows > 0;
    RETURN NEXT;
    IF known OR EXISTS (SELECT FROM vcc.deleted_tickets d WHERE d.project_id = project AND d.ticket_id = ticket) THEN
        INSERT INTO vcc.deleted_tickets (project_id, ticket_id, deleted_at, erased) VALUES (project, ticket, now(), true)
            ON CONFLICT (project_id, ticket_id) DO UPDATE SET erased = true;
    END IF;
END
$$;
COMMENT ON FUNCTION vcc.erase_rows IS 'Erases the rows of one ticket; a part of vcc.erase_ticket';
