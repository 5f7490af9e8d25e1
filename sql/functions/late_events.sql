-- What the journal knows of events that waited, for vcc.apply_events, which has locked their tickets: arrays with an
-- element for each event, NULL where it did not wait.
--   earlier  what it did when it was here before; 'refused': it was set aside, and is not `retried`
--   later    the names that events received later carried
--   behind   whether it is older than the journal, which then does not tell of all that is later
--   over     whether it is not to have an effect: an event received later deleted the ticket; or, of a delete, added it
--            again, or may have
CREATE OR REPLACE FUNCTION vcc.late_events(
    event_id     uuid[],
    received_at  timestamptz[],
    action       text[],
    project_id   bigint[],
    ticket_id    bigint[],
    payload      text[],
    digest       bytea[],
    waited       boolean[],
    retried      boolean[],
    OUT earlier  text[],
    OUT later    text[],
    OUT behind   boolean[],
    OUT over     boolean[]
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    SELECT array_agg(w.earlier), array_agg(w.later::text), array_agg(w.behind), array_agg(w.over)
      INTO earlier, later, behind, over
      FROM (SELECT CASE WHEN e.waited THEN coalesce(
                       (SELECT j.result FROM vcc.ticket_events j
                         WHERE j.project_id = e.project_id AND j.ticket_id = e.ticket_id AND j.event_id = e.event_id),
                       (SELECT 'refused' FROM vcc.rejected_events r
                         WHERE r.project_id = e.project_id AND r.digest = coalesce(e.digest, sha256(convert_to(e.payload, 'UTF8')))
                           AND r.first_received_at <= e.received_at AND r.last_event_id >= e.event_id AND e.retried IS NOT TRUE
                           AND substr(e.event_id::text, 15, 1) = '7'))  -- others are in no order
                   END AS earlier,
                   CASE WHEN e.waited AND e.action <> 'delete' THEN ARRAY(
                       SELECT DISTINCT k.name
                         FROM vcc.ticket_events j,
                              jsonb_object_keys(CASE jsonb_typeof(j.payload -> 'ticket')
                                                WHEN 'object' THEN j.payload -> 'ticket' END) k (name)
                        WHERE j.project_id = e.project_id AND j.ticket_id = e.ticket_id AND j.event_id > e.event_id)
                   END AS later,
                   e.behind,
                   CASE WHEN e.action = 'delete' THEN e.behind OR
                       (SELECT count(*) > 0 FROM vcc.ticket_events j
                         WHERE j.project_id = e.project_id AND j.ticket_id = e.ticket_id AND j.event_id > e.event_id
                           AND j.action = 'add' AND j.result IN ('inserted', 'updated'))
                       AND (SELECT count(*) > 1 FROM vcc.ticket_adds a  -- not its first
                             WHERE a.project_id = e.project_id AND a.ticket_id = e.ticket_id)
                   ELSE
                       (SELECT count(*) > 0 FROM vcc.ticket_events j
                         WHERE j.project_id = e.project_id AND j.ticket_id = e.ticket_id AND j.event_id > e.event_id
                           AND j.action = 'delete')
                   END AND e.waited AS over
              FROM (SELECT u.*, u.waited AND coalesce(u.received_at < (SELECT h.before FROM vcc.journal_horizon h), false) AS behind
                      FROM unnest(project_id, ticket_id, action, event_id, received_at, payload, digest, waited, retried)
                           u (project_id, ticket_id, action, event_id, received_at, payload, digest, waited, retried)) e) w;
END
$$;

COMMENT ON FUNCTION vcc.late_events IS 'What the journal knows of events that waited; a part of vcc.apply_events';
