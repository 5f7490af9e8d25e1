-- Of the journal only what its index finds at once is read; before that the tickets tell.
CREATE OR REPLACE FUNCTION vcc.last_received() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT max(e.received_at) FROM vcc.ticket_events e WHERE e.received_at > now() - interval '1 minute'),
                    (SELECT max(e.received_at) FROM vcc.ticket_events e WHERE e.received_at > now() - interval '1 hour'),
                    (SELECT max(e.received_at) FROM vcc.ticket_events e WHERE e.received_at > now() - interval '1 day'),
                    (SELECT max(t.last_event_at) FROM vcc.tickets t))
$$;
COMMENT ON FUNCTION vcc.last_received IS 'When the last event was received, or, where that was over a day ago, the last that changed a ticket there is';
