-- What the dashboard shows, in one answer.
--
-- Plans are made for the parameters given (plan_cache_mode), so that a project reaches the indexes. Days are those of the
-- session's time zone. Identifiers are strings, for JavaScript's numbers end at 2^53. What is read is the tickets once,
-- and of the journal the last hour, what came and went in the period, or was handed over; a statement_timeout is for the
-- caller to set.
--
-- days: the period, today included. project: of one project; NULL: of all; agent, type: of tickets that have these now, ''
-- those without. Whether it is alive does not depend on them.
CREATE OR REPLACE FUNCTION vcc.report(days integer, project bigint, agent text DEFAULT NULL, type text DEFAULT NULL) RETURNS json
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    zone        CONSTANT text := current_setting('TimeZone');  -- of the session: nodes of Citus have others
    today       CONSTANT date := current_date;
    tomorrow    CONSTANT timestamptz := today + 1;
    first       CONSTANT date := today - (days - 1);
    since       timestamptz := first;
    most        CONSTANT integer := 500;  -- rows of a table
    hour        timestamptz := date_trunc('minute', now()) - interval '59 minutes';
    quiet       interval;
    oldest_at   timestamptz;
    weeks       integer := 0;
    came        bigint;
    silent      boolean := false;
    projects    jsonb := '[]';
    id          bigint;
    minutes     json;
    newest      vcc.ticket_events;
    last_event  json;
    rejected    json;
    open        json;
    open_now    bigint;
    choices     json;
    today_net   json;
    flow        json;
    agents      json;
    agents_of   bigint;
    resolution  json;
BEGIN
    -- From one project to the next by the primary key, however many tickets each has. The name is that of the newest ticket
    -- that has one.
    LOOP
        SELECT t.project_id INTO id FROM vcc.tickets t WHERE id IS NULL OR t.project_id > id ORDER BY t.project_id LIMIT 1;
        EXIT WHEN NOT FOUND OR jsonb_array_length(projects) = 1000;
        projects := projects || jsonb_build_object('id', id::text, 'name', (
            SELECT t.project_name FROM vcc.tickets t WHERE t.project_id = id AND t.project_name IS NOT NULL
             ORDER BY t.ticket_id DESC LIMIT 1));
    END LOOP;

    SELECT json_agg(json_build_object('at', m.at, 'events', coalesce(c.events, 0)) ORDER BY m.at) INTO minutes
      FROM generate_series(hour, now(), '1 minute') m (at)
      LEFT JOIN (SELECT date_trunc('minute', e.received_at) AS at, count(*) AS events
                   FROM vcc.ticket_events e
                  WHERE e.received_at >= hour
                  GROUP BY 1) c ON c.at = m.at;

    -- The last event: of the last hour by its time, else that of the ticket that was changed last.
    SELECT e.* INTO newest FROM vcc.ticket_events e
     WHERE e.received_at >= hour
     ORDER BY e.received_at DESC LIMIT 1;
    IF NOT FOUND THEN
        SELECT e.* INTO newest
          FROM (SELECT t.project_id, t.ticket_id FROM vcc.tickets t
                 ORDER BY t.last_event_at DESC LIMIT 1) t
          JOIN vcc.ticket_events e ON e.project_id = t.project_id AND e.ticket_id = t.ticket_id
         ORDER BY e.received_at DESC LIMIT 1;
    END IF;
    IF FOUND THEN
        last_event := json_build_object('received_at', newest.received_at, 'action', newest.action, 'result', newest.result,
                                        'project_id', newest.project_id::text, 'ticket_id', newest.ticket_id::text);
    END IF;

    -- Nothing comes, where something comes usually: for a quarter of an hour at least, while at this time of the last four
    -- weeks (as many of them as the journal has) as long a time brought five events. Not outside of the default calendar's hours.
    quiet := least(now() - newest.received_at, interval '1 day');
    IF quiet >= interval '15 minutes' THEN
        SELECT min(e.received_at) INTO oldest_at FROM vcc.ticket_events e;
        silent := true;
        WHILE silent AND weeks < 4 AND oldest_at < now() - make_interval(weeks => weeks + 1) - quiet LOOP
            weeks := weeks + 1;
            SELECT count(*) INTO came
              FROM (SELECT e.event_id FROM vcc.ticket_events e
                     WHERE e.received_at >= now() - make_interval(weeks => weeks) - quiet
                       AND e.received_at < now() - make_interval(weeks => weeks) LIMIT 5) e;
            silent := came = 5;
        END LOOP;
        silent := silent AND weeks > 0;
        IF silent AND EXISTS (SELECT FROM vcc.calendars c WHERE c.is_default) THEN
            silent := EXISTS (SELECT FROM vcc.calendars c JOIN vcc.calendar_slots k ON k.calendar_id = c.calendar_id
                               WHERE c.is_default AND k.opens_at <= now() AND k.closes_at > now());
        END IF;
    END IF;

    SELECT json_build_object(
               'bodies', coalesce(sum(r.bodies), 0), 'attempts', coalesce(sum(r.attempts), 0),
               'since', now() - interval '1 day', 'of', count(*),
               'reasons', coalesce(json_agg(json_build_object('reason', left(r.reason, 1000), 'bodies', r.bodies,
                                                              'attempts', r.attempts, 'last_at', r.last_at)
                                            ORDER BY r.last_at DESC) FILTER (WHERE r.n <= most), '[]'))
      INTO rejected
      FROM (SELECT e.reason, count(*) AS bodies, sum(e.attempts) AS attempts, max(e.last_received_at) AS last_at,
                   row_number() OVER (ORDER BY max(e.last_received_at) DESC) AS n
              FROM vcc.rejected_events e
             WHERE e.last_received_at >= now() - interval '1 day'
             GROUP BY e.reason) r;

    SELECT json_build_object(
               'tickets', coalesce(sum(s.tickets), 0), 'overdue', coalesce(sum(s.overdue), 0), 'due', coalesce(sum(s.due), 0),
               'today', coalesce(sum(s.today), 0), 'unassigned', coalesce(sum(s.unassigned), 0), 'waiting', coalesce(sum(s.waiting), 0), 'oldest_at', min(s.oldest_at),
               'idle_at', min(s.idle_at), 'of', count(*),
               'by_status', coalesce(json_agg(json_build_object('status', s.status, 'sub_status', s.sub_status,
                                                                'tickets', s.tickets, 'overdue', s.overdue)
                                              ORDER BY s.n) FILTER (WHERE s.n <= most), '[]')),
           coalesce(sum(s.tickets), 0)
      INTO open, open_now
      FROM (SELECT o.status, o.sub_status, count(*) AS tickets, count(*) FILTER (WHERE o.soft_deadline < now()) AS overdue,
                   count(*) FILTER (WHERE o.soft_deadline >= now() AND o.soft_deadline < now() + interval '1 day') AS due,
                   count(*) FILTER (WHERE o.soft_deadline >= now() AND o.soft_deadline < tomorrow) AS today,
                   count(*) FILTER (WHERE o.agent_name IS NULL) AS unassigned,
                   count(*) FILTER (WHERE o.sub_status = 'waiting4agent') AS waiting, min(o.opened_at) AS oldest_at,
                   min(o.last_event_at) AS idle_at,
                   row_number() OVER (ORDER BY count(*) DESC, o.status, o.sub_status) AS n
              FROM (SELECT nullif(t.status, '') AS status, nullif(t.sub_status, '') AS sub_status, t.soft_deadline,
                           nullif(t.agent_name, '') AS agent_name, coalesce(t.first_open_time, t.first_event_at) AS opened_at,
                           t.last_event_at
                      FROM vcc.tickets t
                     WHERE t.status IS DISTINCT FROM 'closed' AND (project IS NULL OR t.project_id = project)
                       AND (agent IS NULL OR coalesce(t.agent_name, '') = agent)
                       AND (type IS NULL OR coalesce(t.type, '') = type)) o
             GROUP BY o.status, o.sub_status) s;

    -- What there is to choose from, whatever is chosen: what a question may have.
    SELECT json_build_object(
               'agents', coalesce(json_agg(DISTINCT c.agent_name) FILTER (WHERE c.agent_name <> ''), '[]'),
               'types', coalesce(json_agg(DISTINCT c.type) FILTER (WHERE c.type <> ''), '[]'))
      INTO choices
      FROM (SELECT CASE WHEN octet_length(t.agent_name) < 256 THEN t.agent_name END AS agent_name,
                   CASE WHEN octet_length(t.type) < 256 THEN t.type END AS type
              FROM vcc.tickets t
             WHERE t.status IS DISTINCT FROM 'closed' AND (project IS NULL OR t.project_id = project)
             GROUP BY 1, 2) c;

    -- The backlog is counted back from what is open now, and what is added again is not opened, as in vcc.daily_flow; that of an agent
    -- changes by what is handed over, too. Closed are tickets that became so in the period and still are, from their opening as in
    -- vcc.resolution_times; averages are of those whose add the journal has as their first event (complete, as in
    -- vcc.ticket_metrics). A bucket ends below its bound; the last one has none.
    WITH flows AS MATERIALIZED (
        SELECT f.*, least((f.at AT TIME ZONE zone)::date, today) AS day
          FROM vcc.report_flows(least(since, today - 1), project, agent, type, true) f
    ), days AS (
        SELECT d.day, c.opened, c.closed, c.reopened, c.deleted, c.came, c.went,
               coalesce(sum(c.came - c.went) OVER (ORDER BY d.day DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS later
          FROM (SELECT least(first, today - 1) + n AS day FROM generate_series(0, greatest(days - 1, 1)) n) d
          LEFT JOIN (SELECT f.day, count(*) FILTER (WHERE f.opened) AS opened, count(*) FILTER (WHERE f.closed) AS closed,
                            count(*) FILTER (WHERE f.reopened) AS reopened, count(*) FILTER (WHERE f.deleted) AS deleted,
                            count(*) FILTER (WHERE f.came) AS came, count(*) FILTER (WHERE f.went) AS went
                       FROM flows f
                      GROUP BY 1) c ON c.day = d.day
    ), closed AS (
        SELECT c.agent_user_name, c.agent_name, extract(epoch FROM c.at - least(coalesce(t.first_open_time, t.first_event_at), c.at)) AS seconds,
               EXISTS (SELECT FROM vcc.ticket_events e  -- not of the partitions before
                        WHERE e.project_id = t.project_id AND e.ticket_id = t.ticket_id AND e.result = 'inserted' AND e.action = 'add'
                          AND e.event_id >= vcc.first_event_id(t.first_event_at) AND e.received_at = t.first_event_at) AS complete
          FROM (SELECT f.project_id, f.ticket_id, max(f.at) AS at, (array_agg(f.counts ORDER BY f.applied_no DESC))[1] AS counts,
                       (array_agg(f.agent_name ORDER BY f.applied_no DESC))[1] AS agent_name,
                       (array_agg(f.agent_user_name ORDER BY f.applied_no DESC))[1] AS agent_user_name
                  FROM flows f
                 WHERE f.shut AND f.at >= since
                 GROUP BY f.project_id, f.ticket_id) c
          JOIN vcc.tickets t ON t.project_id = c.project_id AND t.ticket_id = c.ticket_id AND t.status = 'closed'
         WHERE c.counts
    ), busy AS (
        SELECT a.agent_name AS name, string_agg(DISTINCT a.login, ', ') AS login, sum(a.open) AS open, sum(a.overdue) AS overdue,
               sum(a.closed) AS closed,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY a.seconds) FILTER (WHERE a.complete) AS median
          FROM (SELECT nullif(o.agent_name, '') AS agent_name, nullif(o.agent_user_name, '') AS login, count(*) AS open,
                       count(*) FILTER (WHERE o.overdue) AS overdue, 0 AS closed, NULL AS seconds, false AS complete
                  FROM (SELECT t.agent_name, t.agent_user_name, t.soft_deadline < now() AS overdue
                          FROM vcc.tickets t
                         WHERE t.status IS DISTINCT FROM 'closed' AND (project IS NULL OR t.project_id = project)
                           AND (agent IS NULL OR coalesce(t.agent_name, '') = agent)
                           AND (type IS NULL OR coalesce(t.type, '') = type)) o
                 GROUP BY 1, 2
                 UNION ALL
                SELECT nullif(c.agent_name, ''), c.agent_user_name, 0, 0, 1, c.seconds, c.complete FROM closed c) a
         GROUP BY 1
    )
    SELECT (SELECT json_agg(json_build_object('day', d.day, 'opened', coalesce(d.opened, 0), 'closed', coalesce(d.closed, 0),
                                              'reopened', coalesce(d.reopened, 0), 'deleted', coalesce(d.deleted, 0),
                                              'backlog', open_now - d.later) ORDER BY d.day)
              FROM days d WHERE d.day >= first),
           (SELECT json_build_object('net', coalesce(sum(d.came - d.went) FILTER (WHERE d.day = today), 0),
                                     'came', coalesce(sum(d.came) FILTER (WHERE d.day = today), 0),
                                     'went', coalesce(sum(d.went) FILTER (WHERE d.day = today), 0),
                                     'yesterday', coalesce(sum(d.came - d.went) FILTER (WHERE d.day = today - 1), 0)) FROM days d),
           (SELECT json_agg(json_build_object('agent', a.name, 'login', a.login, 'open', a.open, 'overdue', a.overdue,
                                              'closed', a.closed, 'median_s', round(a.median)) ORDER BY a.open DESC, a.name)
              FROM (SELECT * FROM busy ORDER BY open DESC, name LIMIT most) a),
           (SELECT count(*) FROM busy),
           (SELECT json_build_object(
                       'tickets', count(*),
                       'complete', count(*) FILTER (WHERE c.complete),
                       'median_s', round(percentile_cont(0.5) WITHIN GROUP (ORDER BY c.seconds) FILTER (WHERE c.complete)),
                       'p90_s', round(percentile_cont(0.9) WITHIN GROUP (ORDER BY c.seconds) FILTER (WHERE c.complete)),
                       'buckets', (SELECT json_agg(json_build_object('below_s', b.below, 'tickets', (
                                              SELECT count(*) FROM closed c
                                               WHERE (b.below IS NULL OR c.seconds < b.below)
                                                 AND (b.from_ IS NULL OR c.seconds >= b.from_)))
                                              ORDER BY b.n)
                                     FROM (SELECT u.below, u.n, lag(u.below) OVER (ORDER BY u.n) AS from_
                                             FROM unnest(ARRAY[3600, 14400, 86400, 259200, 604800, 2592000, NULL])
                                                  WITH ORDINALITY u (below, n)) b))
              FROM closed c)
      INTO flow, today_net, agents, agents_of, resolution;

    RETURN json_build_object(
        'at', now(), 'period', days || 'd', 'project', project::text, 'agent', agent, 'type', type, 'time_zone', current_setting('TimeZone'),
        'projects', projects, 'last_event', last_event, 'silent', silent, 'minutes', minutes, 'rejected', rejected,
        'open', open, 'choices', choices, 'today', today_net, 'flow', flow, 'agents', coalesce(agents, '[]'),
        'agents_of', agents_of, 'resolution', resolution);
END
$$;
COMMENT ON FUNCTION vcc.report IS 'What the dashboard shows of a number of days, today included, and of one project or all, as JSON';
