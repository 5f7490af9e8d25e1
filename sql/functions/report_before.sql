-- What vcc.report says of a period, of the period before it: of equal length, so that its end is as many days ago.
--
-- How tickets were then is how they are now, without what was changed since: the journal has the old values. For an agent or
-- a type: of tickets that had these then.
CREATE OR REPLACE FUNCTION vcc.report_before(days integer, project bigint, agent text DEFAULT NULL, type text DEFAULT NULL) RETURNS json
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    until    CONSTANT timestamptz := now() - make_interval(days => days);
    since    CONSTANT timestamptz := (current_date - (2 * days - 1))::timestamptz;
    were     jsonb;
    went     json;
    oldest   timestamptz;
    projects bigint[];
    tickets  bigint[];
BEGIN
    WITH later AS (
        SELECT e.project_id, e.ticket_id, (array_agg(e.was_open ORDER BY e.applied_no))[1] AS open,
               min(concat(lpad(e.applied_no::text, 19, '0'), '=' || (e.changes -> 'sub_status' ->> 0)) COLLATE "C")
                   FILTER (WHERE e.result = 'deleted' OR e.changes ? 'sub_status') AS sub_status,
               min(concat(lpad(e.applied_no::text, 19, '0'), '=' || (e.changes -> 'agent_name' ->> 0)) COLLATE "C")
                   FILTER (WHERE e.result = 'deleted' OR e.changes ? 'agent_name') AS agent_name,
               min(concat(lpad(e.applied_no::text, 19, '0'), '=' || (e.changes -> 'type' ->> 0)) COLLATE "C")
                   FILTER (WHERE e.result = 'deleted' OR e.changes ? 'type') AS type,
               min(concat(lpad(e.applied_no::text, 19, '0'), '=' || (e.changes -> 'soft_deadline' ->> 0)) COLLATE "C")
                   FILTER (WHERE e.result = 'deleted' OR e.changes ? 'soft_deadline') AS soft_deadline,
               min(concat(lpad(e.applied_no::text, 19, '0'), '=' || (e.changes -> 'first_open_time' ->> 0)) COLLATE "C")
                   FILTER (WHERE e.result = 'deleted' OR e.changes ? 'first_open_time') AS first_open_time,
               bool_or(e.result = 'deleted') AS deleted
          FROM vcc.ticket_events e
         WHERE e.received_at >= until AND e.result IN ('inserted', 'updated', 'deleted')
           AND (project IS NULL OR e.project_id = project)
         GROUP BY e.project_id, e.ticket_id
    ), were AS (
        SELECT t.project_id, t.ticket_id, t.sub_status, t.agent_name, t.type, t.soft_deadline, coalesce(t.first_open_time, t.first_event_at) AS opened_at
          FROM vcc.tickets t
          LEFT JOIN later l ON l.project_id = t.project_id AND l.ticket_id = t.ticket_id
         WHERE t.status IS DISTINCT FROM 'closed' AND l.ticket_id IS NULL AND (project IS NULL OR t.project_id = project)
         UNION ALL
        SELECT l.project_id, l.ticket_id, CASE WHEN l.sub_status IS NULL THEN t.sub_status ELSE substr(l.sub_status, 21) END,
               CASE WHEN l.agent_name IS NULL THEN t.agent_name ELSE substr(l.agent_name, 21) END,
               CASE WHEN l.type IS NULL THEN t.type ELSE substr(l.type, 21) END,
               CASE WHEN l.soft_deadline IS NULL THEN t.soft_deadline ELSE nullif(substr(l.soft_deadline, 21), '')::timestamptz END,
               coalesce(CASE WHEN l.first_open_time IS NULL THEN t.first_open_time ELSE nullif(substr(l.first_open_time, 21), '')::timestamptz END,
                        CASE WHEN NOT l.deleted THEN t.first_event_at END)
          FROM later l
          LEFT JOIN vcc.tickets t ON t.project_id = l.project_id AND t.ticket_id = l.ticket_id
         WHERE l.open
    )
    SELECT jsonb_build_object(
               'tickets', count(*), 'overdue', count(*) FILTER (WHERE w.soft_deadline < until),
               'due', count(*) FILTER (WHERE w.soft_deadline >= until AND w.soft_deadline < until + interval '1 day'),
               'today', count(*) FILTER (WHERE w.soft_deadline >= until AND w.soft_deadline < (current_date - days + 1)::timestamptz),
               'unassigned', count(*) FILTER (WHERE coalesce(w.agent_name, '') = ''),
               'waiting', count(*) FILTER (WHERE w.sub_status = 'waiting4agent')),
           min(w.opened_at), array_agg(w.project_id) FILTER (WHERE w.opened_at IS NULL), array_agg(w.ticket_id) FILTER (WHERE w.opened_at IS NULL)
      INTO were, oldest, projects, tickets
      FROM were w
     WHERE (agent IS NULL OR coalesce(w.agent_name, '') = agent) AND (type IS NULL OR coalesce(w.type, '') = type);

    -- Since when there were those that are deleted by now and had no first_open_time.
    SELECT least(oldest, min(g.at)) INTO oldest
      FROM (SELECT max(e.received_at) AS at
              FROM unnest(projects, tickets) k (project_id, ticket_id)
              JOIN vcc.ticket_events e ON e.project_id = k.project_id AND e.ticket_id = k.ticket_id
             WHERE e.result = 'inserted' AND e.received_at < until
             GROUP BY k.project_id, k.ticket_id) g;
    were := were || jsonb_build_object('oldest_s', round(extract(epoch FROM until - CASE WHEN oldest > until THEN until ELSE oldest END)));

    WITH flows AS MATERIALIZED (
        SELECT f.* FROM vcc.report_flows(since, project, agent, type, false) f WHERE f.at < until
    ), closed AS (
        SELECT c.project_id, c.ticket_id, c.at
          FROM (SELECT f.project_id, f.ticket_id, max(f.at) FILTER (WHERE f.shut) AS at,
                       (array_agg(f.shut ORDER BY f.applied_no DESC))[1] AS shut,
                       (array_agg(f.counts ORDER BY f.applied_no DESC))[1] AS counts
                  FROM flows f
                 WHERE f.shut IS NOT NULL
                 GROUP BY f.project_id, f.ticket_id) c
         WHERE c.shut AND c.counts
    ), measured AS (  -- as in vcc.report; one that was deleted since took with it when it was opened
        SELECT extract(epoch FROM c.at - least(coalesce(t.first_open_time, t.first_event_at), c.at)) AS seconds,
               EXISTS (SELECT FROM vcc.ticket_events e
                        WHERE e.project_id = t.project_id AND e.ticket_id = t.ticket_id AND e.result = 'inserted' AND e.action = 'add'
                          AND e.event_id >= vcc.first_event_id(t.first_event_at) AND e.received_at = t.first_event_at) AS complete
          FROM closed c
          JOIN vcc.tickets t ON t.project_id = c.project_id AND t.ticket_id = c.ticket_id AND t.first_event_at <= c.at
    )
    SELECT json_build_object(
               'tickets', (SELECT count(*) FROM closed),
               'median_s', (SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY m.seconds)) FROM measured m WHERE m.complete))
      INTO went;

    RETURN json_build_object('at', now(), 'since', since, 'until', until, 'before', json_build_object('open', were, 'resolution', went));
END
$$;
COMMENT ON FUNCTION vcc.report_before IS 'What the dashboard shows beside its figures: those of the period before, as JSON';
