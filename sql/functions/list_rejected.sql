-- A page of what was last received from `since` on and before `until`, behind the event `after`: at most so many rows,
-- and none behind `bytes` of bodies.
CREATE OR REPLACE FUNCTION vcc.list_rejected(
    since  timestamptz,
    until  timestamptz,
    after  uuid,
    most   integer,
    bytes  bigint DEFAULT NULL
) RETURNS SETOF vcc.rejected_events
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT r.*
      FROM (SELECT p.project_id, p.digest,
                   sum(p.size) OVER (ORDER BY p.last_event_id RANGE UNBOUNDED PRECEDING EXCLUDE GROUP) AS size_before
              FROM (SELECT q.project_id, q.digest, q.last_event_id, octet_length(q.body) AS size
                      FROM vcc.rejected_events q
                     WHERE q.last_event_id > after AND q.last_received_at >= since AND q.last_received_at < until
                     ORDER BY q.last_event_id LIMIT most) p) p
      JOIN vcc.rejected_events r ON r.project_id = p.project_id AND r.digest = p.digest
     WHERE coalesce(p.size_before < bytes, true)
     ORDER BY r.last_event_id;
END
$$;
COMMENT ON FUNCTION vcc.list_rejected IS 'A page of vcc.rejected_events in the order of receipt, for `ticketd rejected`';
