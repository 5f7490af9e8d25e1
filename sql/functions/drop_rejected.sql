-- Removes the body whose last receipt this is, and says whether there was one.
CREATE OR REPLACE FUNCTION vcc.drop_rejected(event_id uuid) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM vcc.rejected_events r WHERE r.last_event_id = drop_rejected.event_id RETURNING 1
    )
    SELECT EXISTS (SELECT FROM gone)
$$;
COMMENT ON FUNCTION vcc.drop_rejected IS 'Removes a body from vcc.rejected_events, for `ticketd rejected drop`';
