-- One ticket by its number (ticketNo) or, in digits, its ticketId: what it is, and what happened to it.
CREATE OR REPLACE FUNCTION vcc.report_ticket(number text, project bigint) RETURNS json
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off SET standard_conforming_strings = on
AS $$
DECLARE
    most     CONSTANT integer := 200;   -- events shown
    length   CONSTANT integer := 1000;  -- characters of a value shown
    id       bigint := CASE WHEN number ~ '^\d{1,18}$' THEN number::bigint END;
    found    record;
    matches  bigint;
    held     vcc.tickets;
    gone_at  timestamptz;
    ticket   json;
    events   json;
    seen     bigint;
BEGIN
    SELECT k.project_id, k.ticket_id, count(*) OVER () AS matches INTO found
      FROM (SELECT t.project_id, t.ticket_id, t.last_event_at AS at, t.ticket_no = number AS by_number
              FROM vcc.tickets t
             WHERE (t.ticket_no = number OR t.ticket_id = id) AND (project IS NULL OR t.project_id = project)
             UNION ALL
            SELECT d.project_id, d.ticket_id, d.deleted_at, false
              FROM vcc.deleted_tickets d
             WHERE d.ticket_id = id AND (project IS NULL OR d.project_id = project)) k
     ORDER BY k.by_number DESC NULLS LAST, k.at DESC
     LIMIT 1;
    matches := coalesce(found.matches, 0);

    SELECT t.* INTO held FROM vcc.tickets t WHERE t.project_id = found.project_id AND t.ticket_id = found.ticket_id;
    SELECT d.deleted_at INTO gone_at FROM vcc.deleted_tickets d
     WHERE d.project_id = found.project_id AND d.ticket_id = found.ticket_id;
    IF matches > 0 THEN
        ticket := json_build_object(
            'project_id', found.project_id::text, 'project_name', held.project_name, 'ticket_id', found.ticket_id::text,
            'ticket_no', held.ticket_no, 'title', left(held.title, length), 'status', held.status,
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

    RETURN json_build_object('at', now(), 'timeline', json_build_object(
        'number', number, 'matches', matches, 'ticket', ticket, 'events', coalesce(events, '[]'), 'more', seen > most));
END
$$;
COMMENT ON FUNCTION vcc.report_ticket IS 'One ticket by its number or identifier and what happened to it, as JSON for the dashboard';
