-- The tickets behind a figure of the dashboard, a page of them: exactly those that vcc.report counts.
--
-- What is open: open, overdue, due (within a day), today (due before the local day ends), unassigned, oldest, idle, waiting (for
-- the desk, since `at`), and backlog (open at the end of a day, however it is now), each beginning with what has waited longest.
-- What happened in the period, or on one day of it, newest first: opened, closed, reopened, deleted, came (became open, or was
-- handed to the agent) and went (no longer is), where a ticket stands as often as it happened to it, those that were deleted since
-- among them; and resolved: became closed in it and still is. A row of deleted says what the ticket was then.
--
-- agent, type, status, sub_status: '' asks for tickets without; the last two are of what is open, but not of backlog. within: of
-- resolved, 'from-below' in seconds. after: what the page before gave; of the first page 'total' says how many rows there are on all.
CREATE OR REPLACE FUNCTION vcc.report_list(
    list        text,
    days        integer DEFAULT 30,
    project     bigint  DEFAULT NULL,
    agent       text    DEFAULT NULL,
    type        text    DEFAULT NULL,
    customer    bigint  DEFAULT NULL,
    status      text    DEFAULT NULL,
    sub_status  text    DEFAULT NULL,
    day         date    DEFAULT NULL,
    within      text    DEFAULT NULL,
    after       text    DEFAULT NULL,
    most        integer DEFAULT NULL
) RETURNS json
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    today    CONSTANT date := current_date;
    since    CONSTANT timestamptz := coalesce(day, today - (days - 1));
    tomorrow CONSTANT timestamptz := today + 1;
    until    CONSTANT timestamptz := CASE WHEN day < today THEN (day + 1)::timestamptz ELSE 'infinity' END;
    are_open CONSTANT text[] := '{open,overdue,due,today,unassigned,oldest,idle,waiting,backlog}';
    happened CONSTANT text[] := '{opened,closed,reopened,deleted,came,went,resolved}';
    length   CONSTANT integer := 1000;  -- characters of a value shown
    least_s  CONSTANT float8 := nullif(split_part(within, '-', 1), '');
    below_s  CONSTANT float8 := nullif(split_part(within, '-', 2), '');
    behind   bigint[] := string_to_array(nullif(after, ''), ',');
    total    bigint;
    keys     bigint[];
    projects bigint[];
    tickets  bigint[];
    numbers  bigint[];
    places   bigint[];
    details  json[];
    rows     json;
    page     CONSTANT integer := least(greatest(coalesce(most, 200), 1), 5000);
BEGIN
    IF list <> ALL (are_open || happened) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'there is no list of that name';
    ELSIF (status IS NOT NULL OR sub_status IS NOT NULL) AND list = ANY (happened || '{backlog}') THEN
        RAISE invalid_parameter_value USING MESSAGE = 'which status a ticket had then is not known: ask for one of what is open';
    END IF;

    WITH wait AS MATERIALIZED (  -- since when it is with the desk, as in vcc.ticket_metrics; NULL: since its opening
        SELECT e.project_id, e.ticket_id, (extract(epoch FROM (
                   array_agg(CASE e.result WHEN 'updated' THEN e.at END ORDER BY e.applied_no DESC) FILTER (WHERE e.begins))[1])
                   * 1000000)::bigint AS key
          FROM (SELECT e.project_id, e.ticket_id, e.applied_no, e.result,
                       e.is_open AND (e.was_open IS NOT TRUE OR e.changes ? 'sub_status') AS begins,
                       max(e.received_at) OVER (PARTITION BY e.project_id, e.ticket_id ORDER BY e.applied_no) AS at
                  FROM vcc.tickets t
                  JOIN vcc.ticket_events e ON e.project_id = t.project_id AND e.ticket_id = t.ticket_id
                       AND (e.result IN ('inserted', 'deleted') OR e.changes ?| '{status, sub_status, agent_name, agent_user_name, type, soft_deadline, first_open_time}')
                 WHERE list = 'waiting' AND t.status IS DISTINCT FROM 'closed' AND t.sub_status = 'waiting4agent'
                   AND (project IS NULL OR t.project_id = project)) e
         GROUP BY e.project_id, e.ticket_id
    ), flows AS MATERIALIZED (
        SELECT f.* FROM vcc.report_flows(since, project, agent, type, false) f
         WHERE list = ANY (happened)
    ), theirs AS MATERIALIZED (  -- the customer's, those that were deleted among them
        SELECT t.project_id, t.ticket_id FROM vcc.tickets t WHERE t.entity_id = customer
         UNION ALL
        SELECT e.project_id, e.ticket_id FROM vcc.ticket_events e
         WHERE e.was_open IS DISTINCT FROM e.is_open AND e.is_open IS NULL AND e.changes -> 'entity_id' ->> 0 = customer::text
    ), later AS MATERIALIZED (  -- open now less open at the end of the day
        SELECT f.project_id, f.ticket_id, count(*) FILTER (WHERE f.came) - count(*) FILTER (WHERE f.went) AS more
          FROM vcc.report_flows(until, project, agent, type, false) f
         WHERE list = 'backlog'
         GROUP BY f.project_id, f.ticket_id
    ), listed AS MATERIALIZED (
        SELECT t.project_id, t.ticket_id, 0::bigint AS number,
               (extract(epoch FROM CASE WHEN list IN ('overdue', 'due', 'today') THEN t.soft_deadline
                                        WHEN list = 'idle' THEN t.last_event_at
                                        ELSE coalesce(t.first_open_time, t.first_event_at) END) * 1000000)::bigint AS key
          FROM vcc.tickets t
          LEFT JOIN later l ON l.project_id = t.project_id AND l.ticket_id = t.ticket_id
         WHERE list = ANY (are_open)
           AND t.status IS DISTINCT FROM 'closed' AND coalesce(l.more, 0) <= 0
           AND (list <> 'overdue' OR t.soft_deadline < now())
           AND (list <> 'due' OR t.soft_deadline >= now() AND t.soft_deadline < now() + interval '1 day')
           AND (list <> 'today' OR t.soft_deadline >= now() AND t.soft_deadline < tomorrow)
           AND (list <> 'unassigned' OR coalesce(t.agent_name, '') = '')
           AND (list <> 'waiting' OR t.sub_status = 'waiting4agent')
           AND (project IS NULL OR t.project_id = project)
           AND (agent IS NULL OR coalesce(t.agent_name, '') = agent)
           AND (type IS NULL OR coalesce(t.type, '') = type)
           AND (customer IS NULL OR t.entity_id = customer)
           AND (status IS NULL OR coalesce(t.status, '') = status)
           AND (sub_status IS NULL OR coalesce(t.sub_status, '') = sub_status)
         UNION ALL
        SELECT l.project_id, l.ticket_id, 0, coalesce(extract(epoch FROM coalesce(t.first_open_time, t.first_event_at)) * 1000000, 0)::bigint
          FROM later l
          LEFT JOIN vcc.tickets t ON t.project_id = l.project_id AND t.ticket_id = l.ticket_id
         WHERE l.more < 0 AND (customer IS NULL OR (l.project_id, l.ticket_id) IN (SELECT t.project_id, t.ticket_id FROM theirs t))
         UNION ALL
        SELECT f.project_id, f.ticket_id, f.applied_no, -(extract(epoch FROM f.at) * 1000000)::bigint
          FROM flows f
         WHERE CASE list WHEN 'opened' THEN f.opened WHEN 'closed' THEN f.closed WHEN 'reopened' THEN f.reopened
                         WHEN 'deleted' THEN f.deleted WHEN 'came' THEN f.came WHEN 'went' THEN f.went END
           AND f.at < until
           AND (customer IS NULL OR (f.project_id, f.ticket_id) IN (SELECT t.project_id, t.ticket_id FROM theirs t))
         UNION ALL
        SELECT r.project_id, r.ticket_id, 0, -(extract(epoch FROM r.at) * 1000000)::bigint
          FROM (SELECT t.project_id, t.ticket_id, c.at, extract(epoch FROM c.at - least(coalesce(t.first_open_time, t.first_event_at), c.at))::float8 AS seconds
                  FROM (SELECT f.project_id, f.ticket_id, max(f.at) AS at, (array_agg(f.counts ORDER BY f.applied_no DESC))[1] AS counts
                          FROM flows f
                         WHERE list = 'resolved' AND f.shut
                         GROUP BY f.project_id, f.ticket_id) c
                  JOIN vcc.tickets t ON t.project_id = c.project_id AND t.ticket_id = c.ticket_id AND t.status = 'closed'
                 WHERE c.counts AND c.at < until
                   AND (customer IS NULL OR t.entity_id = customer)) r
         WHERE (least_s IS NULL OR r.seconds >= least_s) AND (below_s IS NULL OR r.seconds < below_s)
    )
    SELECT (SELECT count(*) FROM listed), array_agg(p.key), array_agg(p.project_id), array_agg(p.ticket_id), array_agg(p.number)
      INTO total, keys, projects, tickets, numbers
      FROM (SELECT l.*
              FROM (SELECT l.project_id, l.ticket_id, l.number, greatest(l.key, w.key) AS key
                      FROM listed l LEFT JOIN wait w ON w.project_id = l.project_id AND w.ticket_id = l.ticket_id) l
             WHERE behind IS NULL OR (l.key, l.project_id, l.ticket_id, l.number) > (behind[1], behind[2], behind[3], behind[4])
             ORDER BY l.key, l.project_id, l.ticket_id, l.number LIMIT page + 1) p;

    SELECT array_agg(k.place), array_agg(json_build_object(
               'ticket_no', left(t.ticket_no, length), 'title', left(t.title, length), 'project_name', left(t.project_name, length),
               'type', left(t.type, length), 'status', left(t.status, length), 'sub_status', left(t.sub_status, length),
               'agent_name', left(t.agent_name, length), 'customer', t.customer,
               'opened_at', t.opened_at, 'soft_deadline', t.soft_deadline, 'last_event_at', t.last_event_at))
      INTO places, details
      FROM unnest(projects, tickets, numbers) WITH ORDINALITY k (project_id, ticket_id, number, place)
      JOIN (SELECT t.project_id, t.ticket_id, 0::bigint AS number, t.ticket_no, t.title, t.project_name, t.type, t.status, t.sub_status,
                   t.agent_name, t.entity_id::text AS customer, coalesce(t.first_open_time, t.first_event_at) AS opened_at, t.soft_deadline, t.last_event_at
              FROM vcc.tickets t
             WHERE list <> 'deleted'
             UNION ALL
            SELECT e.project_id, e.ticket_id, e.applied_no, e.changes -> 'ticket_no' ->> 0, e.changes -> 'title' ->> 0,
                   e.changes -> 'project_name' ->> 0, e.changes -> 'type' ->> 0, e.changes -> 'status' ->> 0, e.changes -> 'sub_status' ->> 0,
                   e.changes -> 'agent_name' ->> 0, e.changes -> 'entity_id' ->> 0, (e.changes -> 'first_open_time' ->> 0)::timestamptz,
                   (e.changes -> 'soft_deadline' ->> 0)::timestamptz, e.received_at
              FROM vcc.ticket_events e
             WHERE list = 'deleted' AND e.was_open IS DISTINCT FROM e.is_open AND e.is_open IS NULL) t
        ON t.project_id = k.project_id AND t.ticket_id = k.ticket_id AND (list <> 'deleted' OR t.number = k.number);

    SELECT json_agg(json_build_object('at', CASE WHEN list = ANY (happened) THEN to_timestamp(-k.key / 1000000.0)
                                            WHEN list = 'waiting' THEN to_timestamp(k.key / 1000000.0) END,
                                      'project_id', k.project_id::text, 'ticket_id', k.ticket_id::text, 'ticket', d.detail)
                    ORDER BY k.place)
      INTO rows
      FROM unnest(keys, projects, tickets) WITH ORDINALITY k (key, project_id, ticket_id, place)
      LEFT JOIN unnest(places, details) d (place, detail) ON d.place = k.place
     WHERE k.place <= page;

    RETURN json_build_object(
        'at', now(), 'time_zone', current_setting('TimeZone'), 'list', list, 'total', total, 'rows', coalesce(rows, '[]'),
        'after', CASE WHEN cardinality(keys) > page
                      THEN concat_ws(',', keys[page], projects[page], tickets[page], numbers[page]) END);
END
$$;
COMMENT ON FUNCTION vcc.report_list IS 'The tickets behind a figure of the dashboard, page by page, as JSON';
