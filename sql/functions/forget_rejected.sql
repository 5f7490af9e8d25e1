-- Forgets a body whose retry succeeds, in the transaction that applies it: the journal has its event then. One that came again
-- meanwhile stays: that is another event.
CREATE OR REPLACE FUNCTION vcc.forget_rejected(event_id uuid, project_id bigint, ticket_id bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM vcc.rejected_events r
     WHERE r.last_event_id = forget_rejected.event_id
       AND EXISTS (SELECT FROM vcc.ticket_events j
                    WHERE j.project_id = forget_rejected.project_id AND j.ticket_id = forget_rejected.ticket_id
                      AND j.event_id = forget_rejected.event_id)
$$;

COMMENT ON FUNCTION vcc.forget_rejected IS 'Removes from vcc.rejected_events the body of an event that is applied now';
