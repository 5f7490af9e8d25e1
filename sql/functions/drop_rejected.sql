-- Removes the body whose last receipt this is, and says whether there was one.
CREATE OR REPLACE FUNCTION vcc.drop_rejected(event_id uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM vcc.rejected_events r WHERE r.last_event_id = event_id;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION vcc.drop_rejected IS 'Removes a body from vcc.rejected_events, for `ticketd rejected drop`';
