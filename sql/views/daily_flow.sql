-- The backlog is counted back from the tickets that are open now: rows that the journal no longer has do not matter.
-- A day with events stands also for those without that follow it. They are counted out by unnest(), of which the
-- planner expects 10 rows; of generate_series() it would expect 1000, and compile the query for seconds (jit).
CREATE OR REPLACE VIEW vcc.daily_flow AS
SELECT f.day + (n.n - 1)::integer AS day, f.project_id, f.project_name,
       CASE n.n WHEN 1 THEN f.opened ELSE 0 END AS opened,
       CASE n.n WHEN 1 THEN f.closed ELSE 0 END AS closed,
       CASE n.n WHEN 1 THEN f.reopened ELSE 0 END AS reopened,
       CASE n.n WHEN 1 THEN f.deleted ELSE 0 END AS deleted,
       f.backlog
  FROM (SELECT d.project_id, d.day, d.opened, d.closed, d.reopened, d.deleted,
               max(d.project_name) OVER project AS project_name,
               (sum(d.open_now) OVER project - sum(d.more) OVER project + sum(d.more) OVER days)::bigint AS backlog,
               coalesce(lead(d.day) OVER days, current_date + 1) - d.day AS length
          FROM (SELECT c.project_id, c.day, max(c.project_name) AS project_name, sum(c.opened)::bigint AS opened,
                       sum(c.closed)::bigint AS closed, sum(c.reopened)::bigint AS reopened,
                       sum(c.deleted)::bigint AS deleted, sum(c.more) AS more, sum(c.open_now) AS open_now
                  FROM (SELECT e.project_id,
                               least(e.received_at::date, current_date) AS day,  -- a host's clock may be fast
                               NULL AS project_name,
                               count(*) FILTER (WHERE e.was_open IS NULL) AS opened,
                               count(*) FILTER (WHERE NOT e.is_open) AS closed,
                               count(*) FILTER (WHERE NOT e.was_open AND e.is_open) AS reopened,
                               count(*) FILTER (WHERE e.is_open IS NULL) AS deleted,
                               count(*) FILTER (WHERE e.is_open) - count(*) FILTER (WHERE e.was_open) AS more,
                               0 AS open_now
                          FROM vcc.ticket_events e
                         WHERE e.was_open IS DISTINCT FROM e.is_open
                         GROUP BY 1, 2
                         UNION ALL
                        -- The name is that of the newest ticket that has one: the primary key leads there.
                        SELECT p.project_id, current_date,
                               (SELECT t.project_name FROM vcc.tickets t
                                 WHERE t.project_id = p.project_id AND t.project_name IS NOT NULL
                                 ORDER BY t.ticket_id DESC LIMIT 1),
                               0, 0, 0, 0, 0, p.open_now
                          FROM (SELECT t.project_id,
                                       count(*) FILTER (WHERE t.status IS DISTINCT FROM 'closed') AS open_now
                                  FROM vcc.tickets t
                                 GROUP BY 1) p) c
                 GROUP BY 1, 2) d
        WINDOW project AS (PARTITION BY d.project_id),
               days AS (PARTITION BY d.project_id ORDER BY d.day)) f
 CROSS JOIN LATERAL unnest(array_fill(0, ARRAY[f.length])) WITH ORDINALITY n (zero, n);

COMMENT ON VIEW   vcc.daily_flow IS
    'Tickets that came and went: one row for each project and each day, from the first that the journal has to '
    'today. Ask for one project, all days or few; over all projects a materialized view is quicker (sql/README.md)';
COMMENT ON COLUMN vcc.daily_flow.day IS
    'The day, in the time zone of the session; an event counts when it was received';
COMMENT ON COLUMN vcc.daily_flow.project_id IS 'The project';
COMMENT ON COLUMN vcc.daily_flow.project_name IS 'Its name, as its newest ticket has it';
COMMENT ON COLUMN vcc.daily_flow.opened IS
    'Tickets that were first seen, or seen again after their deletion, closed ones among them';
COMMENT ON COLUMN vcc.daily_flow.closed IS 'How many times a ticket became closed, or was so when first seen';
COMMENT ON COLUMN vcc.daily_flow.reopened IS 'How many times a closed ticket was opened again';
COMMENT ON COLUMN vcc.daily_flow.deleted IS 'Tickets that were deleted, open or closed';
COMMENT ON COLUMN vcc.daily_flow.backlog IS
    'Tickets that were open at the end of the day; today''s are those that are open now. An event that was applied late '
    'counts on the day of its receipt, so that others may have been counted before: below 0, even';
