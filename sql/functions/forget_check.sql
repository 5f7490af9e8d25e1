-- Takes back what `ticketd check --url` has sent: all of the made-up ticket of project 0. Returns whether the journal had that
-- event. No ticket of VCC Live has such a number.
CREATE OR REPLACE FUNCTION vcc.forget_check(event_id uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made_up CONSTANT bigint := -9223372036854775808;
    was_there boolean := EXISTS (SELECT FROM vcc.ticket_events e WHERE e.project_id = 0 AND e.ticket_id = made_up
                                    AND e.event_id = forget_check.event_id);
BEGIN
    DELETE FROM vcc.tickets t WHERE t.project_id = 0 AND t.ticket_id = made_up;
    DELETE FROM vcc.ticket_adds a WHERE a.project_id = 0 AND a.ticket_id = made_up;
    DELETE FROM vcc.ticket_events e WHERE e.project_id = 0 AND e.ticket_id = made_up;
    DELETE FROM vcc.rejected_events r WHERE r.project_id = 0 AND r.last_event_id = forget_check.event_id;
    RETURN was_there;
END
$$;

COMMENT ON FUNCTION vcc.forget_check IS 'Takes back the event that `ticketd check --url` has sent; returns whether it was there';
