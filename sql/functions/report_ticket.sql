-- One ticket by its number (ticketNo) or, in digits, its ticketId: what it is, and what happened to it. Where that is none
-- or several: which tickets to choose from, those among them that have the text in number or title, or have that customer.
-- Deleted ones too: the journal has the number that they had.
CREATE OR REPLACE FUNCTION vcc.report_ticket(number text, project bigint) RETURNS json
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off SET standard_conforming_strings = on
AS $$
DECLARE
    most     CONSTANT integer := 200;   -- events shown
    length   CONSTANT integer := 1000;  -- characters of a value shown
    id       bigint := CASE WHEN number ~ '^-?\d{1,19}$' THEN
                 CASE WHEN number::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN number::bigint END END;
    offered  CONSTANT integer := 50;    -- tickets to choose from
    part     CONSTANT text := lower(number);
    found    vcc.tickets;
    exact    bigint;
    choice   json;
    matches  bigint;
    held     vcc.tickets;
    gone_at  timestamptz;
    ticket   json;
    events   json;
    seen     bigint;
BEGIN
    WITH hit AS MATERIALIZED (
        SELECT t.project_id, t.ticket_id, t.project_name, t.ticket_no, t.title, t.status, t.agent_name, t.last_event_at AS at,
               NULL::timestamptz AS gone_at,
               CASE WHEN t.ticket_no = number THEN 1 WHEN t.ticket_id = id THEN 2 ELSE 3 END AS rank
          FROM vcc.tickets t
         WHERE (project IS NULL OR t.project_id = project)
           AND (t.ticket_no = number OR t.ticket_id = id OR t.entity_id = id OR strpos(lower(t.ticket_no), part) > 0
                OR strpos(lower(t.title), part) > 0)
         UNION ALL
        SELECT d.project_id, d.ticket_id, d.was ->> 'project_name', d.was ->> 'ticket_no', d.was ->> 'title', 'deleted',
               d.was ->> 'agent_name', d.deleted_at, d.deleted_at,
               CASE WHEN d.was ->> 'ticket_no' = number THEN 1 WHEN d.ticket_id = id THEN 2 ELSE 3 END
          FROM (SELECT d.project_id, d.ticket_id, d.deleted_at,
                       (array_agg(jsonb_build_object('project_name', e.changes -> 'project_name' -> 0, 'title', e.changes -> 'title' -> 0,
                            'ticket_no', e.changes -> 'ticket_no' -> 0, 'agent_name', e.changes -> 'agent_name' -> 0,
                            'entity_id', e.changes -> 'entity_id' -> 0) ORDER BY e.applied_no DESC))[1] AS was
                  FROM vcc.deleted_tickets d
                  LEFT JOIN vcc.ticket_events e ON e.project_id = d.project_id AND e.ticket_id = d.ticket_id
                       AND e.was_open IS DISTINCT FROM e.is_open AND e.is_open IS NULL
                 WHERE project IS NULL OR d.project_id = project
                 GROUP BY d.project_id, d.ticket_id, d.deleted_at) d
         WHERE d.ticket_id = id OR d.was ->> 'entity_id' = id::text OR strpos(lower(d.was ->> 'ticket_no'), part) > 0
            OR strpos(lower(d.was ->> 'title'), part) > 0
    ), few AS (
        SELECT h.*, row_number() OVER (ORDER BY h.rank, h.at DESC, h.project_id, h.ticket_id) AS n FROM hit h
    )
    SELECT (SELECT count(*) FROM few), (SELECT count(*) FROM few f WHERE f.rank < 3),
           (SELECT json_agg(json_build_object(
                       'project_id', f.project_id::text, 'project_name', left(f.project_name, length), 'ticket_id', f.ticket_id::text,
                       'ticket_no', left(f.ticket_no, length), 'title', left(f.title, length), 'status', left(f.status, length),
                       'agent_name', left(f.agent_name, length), 'deleted_at', f.gone_at) ORDER BY f.n)
              FROM few f WHERE f.n <= offered)
      INTO matches, exact, choice;

    -- One has that number or identifier: it is meant. Else the only one that has the text.
    IF exact = 1 OR matches = 1 THEN
        found := json_populate_record(NULL::vcc.tickets, choice -> 0);
        gone_at := choice -> 0 ->> 'deleted_at';
        SELECT t.* INTO held FROM vcc.tickets t WHERE t.project_id = found.project_id AND t.ticket_id = found.ticket_id;
        ticket := json_build_object(
            'project_id', found.project_id::text, 'project_name', found.project_name, 'ticket_id', found.ticket_id::text,
            'ticket_no', found.ticket_no, 'title', found.title, 'status', held.status,
            'sub_status', held.sub_status, 'agent_name', held.agent_name, 'first_open_time', held.first_open_time,
            'soft_deadline', held.soft_deadline, 'deleted_at', gone_at);
    END IF;

    SELECT json_agg(json_build_object('received_at', e.received_at, 'action', e.action, 'result', e.result, 'changes',
               (SELECT coalesce(json_agg(json_build_object('attribute', c.attribute, 'old', left(c.change ->> 0, length),
                                                           'new', left(c.change ->> 1, length)) ORDER BY c.attribute), '[]')
                  FROM (SELECT a.key, a.value FROM jsonb_each(e.changes - 'extra') a
                         UNION ALL
                        SELECT 'extra.' || x.key, x.value FROM jsonb_each(e.changes -> 'extra') x) c (attribute, change)))
               ORDER BY e.applied_no) FILTER (WHERE e.n <= most),
           count(*)
      INTO events, seen
      FROM (SELECT j.received_at, j.action, j.result, j.changes, j.applied_no,
                   row_number() OVER (ORDER BY j.applied_no DESC) AS n
              FROM vcc.ticket_events j
             WHERE j.project_id = found.project_id AND j.ticket_id = found.ticket_id
             ORDER BY j.applied_no DESC LIMIT most + 1) e;

    RETURN json_build_object('at', now(), 'time_zone', current_setting('TimeZone'), 'timeline', json_build_object(
        'number', number, 'matches', matches, 'choice', coalesce(choice, '[]'), 'ticket', ticket, 'events', coalesce(events, '[]'), 'more', seen > most));
END
$$;
COMMENT ON FUNCTION vcc.report_ticket IS 'One ticket by its number or identifier and what happened to it, as JSON for the dashboard';
