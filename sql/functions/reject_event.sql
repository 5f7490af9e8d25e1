-- Sets a body aside. Called again for the same receipt (the answer to its commit was lost, or its retry was refused)
-- it counts once.
CREATE OR REPLACE FUNCTION vcc.reject_event(
    event_id     uuid,
    received_at  timestamptz,
    project_id   bigint,
    body         bytea,
    reason       text
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO vcc.rejected_events AS r
           (body, reason, first_received_at, last_received_at, attempts, project_id, digest, last_event_id)
    VALUES (body, reason, received_at, received_at, 1, project_id, sha256(body), event_id)
    ON CONFLICT (project_id, digest) DO UPDATE SET
        reason            = excluded.reason,
        first_received_at = least(r.first_received_at, excluded.first_received_at),
        last_received_at  = greatest(r.last_received_at, excluded.last_received_at),
        attempts          = r.attempts + (excluded.last_event_id > r.last_event_id)::integer,
        last_event_id     = greatest(r.last_event_id, excluded.last_event_id)
     WHERE excluded.last_event_id > r.last_event_id OR excluded.reason <> r.reason
$$;
COMMENT ON FUNCTION vcc.reject_event IS 'Sets a refused body aside in vcc.rejected_events, once for each distinct body, with a count';
