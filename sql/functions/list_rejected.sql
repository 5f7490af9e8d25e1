-- A page of what was last received from `since` on and before `until`, behind the event `after`.
CREATE OR REPLACE FUNCTION vcc.list_rejected(
    since  timestamptz,
    until  timestamptz,
    after  uuid,
    most   integer
) RETURNS SETOF vcc.rejected_events
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM vcc.rejected_events r
     WHERE r.last_event_id > after AND r.last_received_at >= since AND r.last_received_at < until
     ORDER BY r.last_event_id LIMIT most
$$;
COMMENT ON FUNCTION vcc.list_rejected IS 'A page of vcc.rejected_events in the order of receipt, for `ticketd rejected`';
