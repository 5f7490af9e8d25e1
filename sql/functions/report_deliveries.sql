-- What arrived, newest first, a page of it: events, and bodies that were set aside.
--
-- Each of the two is cut to a page before they come together, so that its index is read and no more.
--
-- result: that of an event; 'rejected': bodies that were set aside; 'stored': all events. reason: the whole, or at least 200 bytes of its beginning. after: what the
-- page before gave.
CREATE OR REPLACE FUNCTION vcc.report_deliveries(
    result   text        DEFAULT NULL,
    reason   text        DEFAULT NULL,
    project  bigint      DEFAULT NULL,
    since    timestamptz DEFAULT NULL,
    until    timestamptz DEFAULT NULL,
    after    text        DEFAULT NULL,
    most     integer     DEFAULT NULL
) RETURNS json
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    page      CONSTANT integer := least(greatest(coalesce(most, 100), 1), 5000);
    before_at CONSTANT timestamptz := split_part(nullif(after, ''), ',', 1);
    before_id CONSTANT uuid := split_part(nullif(after, ''), ',', 2);
    rows      json;
    behind    text;
BEGIN
    SELECT json_agg(json_build_object(
               'received_at', p.received_at, 'result', p.result, 'action', p.action, 'project_id', p.project_id::text,
               'ticket_id', p.ticket_id::text, 'reason', left(p.reason, 1000), 'attempts', p.attempts, 'event_id', p.event_id,
               'next', p.received_at + interval '1 microsecond') ORDER BY p.n) FILTER (WHERE p.n <= page),
           max(CASE WHEN p.n = page AND p.of > page THEN concat_ws(',', p.received_at AT TIME ZONE 'UTC' || 'Z', p.event_id) END)
      INTO rows, behind
      FROM (SELECT d.*, row_number() OVER (ORDER BY d.received_at DESC, d.event_id DESC) AS n, count(*) OVER () AS of
              FROM (SELECT d.*
                      FROM ((SELECT e.project_id, e.received_at, e.result, e.action, e.ticket_id, NULL::text AS reason, 1 AS attempts,
                                    e.event_id
                               FROM vcc.ticket_events e
                              WHERE result IS DISTINCT FROM 'rejected' AND reason IS NULL
                                AND (result IS NULL OR result = 'stored' OR e.result = result)
                                AND (since IS NULL OR e.received_at >= since) AND (until IS NULL OR e.received_at < until)
                                AND (project IS NULL OR e.project_id = project)
                                AND (before_at IS NULL OR (e.received_at, e.event_id) < (before_at, before_id))
                              ORDER BY e.received_at DESC, e.event_id DESC LIMIT page + 1)
                             UNION ALL
                            (SELECT r.project_id, r.last_received_at, 'rejected', NULL, NULL, r.reason, r.attempts, r.last_event_id
                               FROM vcc.rejected_events r
                              WHERE coalesce(result, 'rejected') = 'rejected'
                                AND (reason IS NULL OR r.reason = reason
                                     OR octet_length(reason) >= 200 AND left(r.reason, length(reason)) = reason)
                                AND (since IS NULL OR r.last_received_at >= since) AND (until IS NULL OR r.last_received_at < until)
                                AND (project IS NULL OR r.project_id = project)
                                AND (before_at IS NULL OR (r.last_received_at, r.last_event_id) < (before_at, before_id))
                              ORDER BY r.last_received_at DESC, r.last_event_id DESC LIMIT page + 1)) d
                     ORDER BY d.received_at DESC, d.event_id DESC LIMIT page + 1) d) p;

    RETURN json_build_object('at', now(), 'time_zone', current_setting('TimeZone'), 'deliveries', coalesce(rows, '[]'),
                             'after', behind);
END
$$;
COMMENT ON FUNCTION vcc.report_deliveries IS 'What arrived and what came of it, newest first and page by page, as JSON for the dashboard';
