-- Forgets a body whose retry succeeds, in the transaction that applies it: the journal has its event then. One that came again
-- meanwhile stays: that is another event.
CREATE OR REPLACE FUNCTION vcc.forget_rejected(event_id uuid, project_id bigint, ticket_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF EXISTS (SELECT FROM vcc.ticket_events j
                WHERE j.project_id = forget_rejected.project_id AND j.ticket_id = forget_rejected.ticket_id
                  AND j.event_id = forget_rejected.event_id) THEN
        DELETE FROM vcc.rejected_events r WHERE r.last_event_id = forget_rejected.event_id;
    END IF;
END
$$;

COMMENT ON FUNCTION vcc.forget_rejected IS 'Removes from vcc.rejected_events the body of an event that is applied now';
