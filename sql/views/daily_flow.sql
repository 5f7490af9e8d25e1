-- The backlog is counted back from the tickets that are open now: rows that the journal no longer has do not matter.
-- A day with events stands also for those without that follow it, which unnest() makes: the planner expects 10 rows of it,
-- of generate_series() it would expect 1000, and compile the query for seconds (jit). Where Citus distributes the tables, its
-- nodes have time zones of their own: what is beside a row of a table that only the coordinator has is read there.
CREATE OR REPLACE VIEW vcc.daily_flow AS
WITH here AS MATERIALIZED (
    SELECT current_setting('TimeZone') AS zone, current_date AS today
      FROM (SELECT count(*) FROM vcc.migrations) m
), deletion AS (  -- the first of each ticket: what is added behind it was there before
    SELECT e.project_id, e.ticket_id, min(e.applied_no) AS applied_no
      FROM vcc.ticket_events e
     WHERE e.was_open IS DISTINCT FROM e.is_open AND e.is_open IS NULL
     GROUP BY 1, 2
), quarters AS (  -- of an hour: at their ends days begin, in whatever zone, and few are looked up in one
    SELECT e.project_id, date_bin('15 minutes', e.at, timestamptz 'epoch') AS at,
           count(*) FILTER (WHERE e.was_open IS NULL AND d.applied_no IS NULL) AS opened,
           count(*) FILTER (WHERE NOT e.is_open AND (e.was_open OR d.applied_no IS NULL)) AS closed,
           count(*) FILTER (WHERE NOT e.was_open AND e.is_open) AS reopened,
           count(*) FILTER (WHERE e.is_open IS NULL) AS deleted,
           count(*) FILTER (WHERE e.is_open IS NULL AND e.was_open) AS deleted_open,
           count(*) FILTER (WHERE e.was_open IS NULL AND d.applied_no IS NOT NULL) AS restored,
           count(*) FILTER (WHERE e.was_open IS NULL AND d.applied_no IS NOT NULL AND e.is_open) AS restored_open,
           count(*) FILTER (WHERE e.is_open) - count(*) FILTER (WHERE e.was_open) AS more
      FROM (SELECT e.project_id, e.ticket_id, e.was_open, e.is_open, e.applied_no,
                   max(e.received_at) OVER (PARTITION BY e.project_id, e.ticket_id ORDER BY e.applied_no) AS at
              FROM vcc.ticket_events e
             WHERE e.was_open IS DISTINCT FROM e.is_open) e
      LEFT JOIN deletion d ON d.project_id = e.project_id AND d.ticket_id = e.ticket_id AND d.applied_no < e.applied_no
     GROUP BY 1, 2
), moves AS (
    SELECT q.*, least((q.at AT TIME ZONE h.zone)::date, h.today) AS day, h.today  -- a host's clock may be fast
      FROM quarters q CROSS JOIN here h
), present AS (
    SELECT t.project_id, h.today, count(*) FILTER (WHERE t.status IS DISTINCT FROM 'closed') AS open_now,
           max(t.ticket_id) FILTER (WHERE t.project_name IS NOT NULL) AS named
      FROM vcc.tickets t CROSS JOIN here h
     GROUP BY 1, 2
), days AS (
    SELECT c.project_id, c.day, c.today, max(c.project_name) AS project_name, sum(c.opened)::bigint AS opened,
           sum(c.closed)::bigint AS closed, sum(c.reopened)::bigint AS reopened, sum(c.deleted)::bigint AS deleted,
           sum(c.deleted_open)::bigint AS deleted_open, sum(c.restored)::bigint AS restored, sum(c.restored_open)::bigint AS restored_open,
           sum(c.more) AS more, sum(c.open_now) AS open_now
      FROM (SELECT m.project_id, m.day, m.today, NULL AS project_name, m.opened, m.closed, m.reopened, m.deleted, m.deleted_open,
                   m.restored, m.restored_open, m.more, 0 AS open_now
              FROM moves m
             UNION ALL
            -- The name is that of the newest ticket that has one.
            SELECT p.project_id, p.today, p.today, n.project_name, 0, 0, 0, 0, 0, 0, 0, 0, p.open_now
              FROM present p
              LEFT JOIN vcc.tickets n ON n.project_id = p.project_id AND n.ticket_id = p.named) c
     GROUP BY 1, 2, 3
), flows AS (
    SELECT d.project_id, d.day AS since, d.opened, d.closed, d.reopened, d.deleted, d.deleted_open, d.restored, d.restored_open,
           min(d.day) OVER project AS first_day,
           max(d.project_name) OVER project AS project_name,
           (sum(d.open_now) OVER project - sum(d.more) OVER project + sum(d.more) OVER days)::bigint AS backlog,
           coalesce(lead(d.day) OVER days, d.today + 1) - d.day AS length
      FROM days d
    WINDOW project AS (PARTITION BY d.project_id),
           days AS (PARTITION BY d.project_id ORDER BY d.day)
), every_day AS (
    SELECT f.*, f.first_day + (row_number() OVER (PARTITION BY f.project_id ORDER BY f.since))::integer - 1 AS day
      FROM (SELECT f.*, unnest(array_fill(0, ARRAY[f.length])) FROM flows f) f
)
SELECT e.day, e.project_id, e.project_name,
       CASE e.day WHEN e.since THEN e.opened ELSE 0 END AS opened,
       CASE e.day WHEN e.since THEN e.closed ELSE 0 END AS closed,
       CASE e.day WHEN e.since THEN e.reopened ELSE 0 END AS reopened,
       CASE e.day WHEN e.since THEN e.deleted ELSE 0 END AS deleted,
       e.backlog,
       CASE e.day WHEN e.since THEN e.deleted_open ELSE 0 END AS deleted_open,
       CASE e.day WHEN e.since THEN e.restored ELSE 0 END AS restored,
       CASE e.day WHEN e.since THEN e.restored_open ELSE 0 END AS restored_open
  FROM every_day e;

COMMENT ON VIEW   vcc.daily_flow IS
    'Tickets that came and went: one row for each project and each day, from the first that the journal has to '
    'today. Each day''s backlog is that of the day before + opened + reopened + restored_open - closed - deleted_open. '
    'Ask for one project, all days or few; over all projects a materialized view is quicker (sql/README.md)';
COMMENT ON COLUMN vcc.daily_flow.day IS
    'The day, in the time zone of the session; an event counts when it was received, but never before one that took effect '
    'before it on its ticket';
COMMENT ON COLUMN vcc.daily_flow.project_id IS 'The project';
COMMENT ON COLUMN vcc.daily_flow.project_name IS 'Its name, as its newest ticket has it';
COMMENT ON COLUMN vcc.daily_flow.opened IS
    'Tickets that were first seen, closed ones among them';
COMMENT ON COLUMN vcc.daily_flow.closed IS 'How many times a ticket became closed, or was so when first seen';
COMMENT ON COLUMN vcc.daily_flow.reopened IS 'How many times a closed ticket was opened again';
COMMENT ON COLUMN vcc.daily_flow.deleted IS 'Tickets that were deleted, open or closed';
COMMENT ON COLUMN vcc.daily_flow.backlog IS
    'Tickets that were open at the end of the day; today''s are those that are open now';
COMMENT ON COLUMN vcc.daily_flow.deleted_open IS 'Those of the deleted that were open';
COMMENT ON COLUMN vcc.daily_flow.restored IS 'Tickets that were added again after their deletion, as far as the journal has it';
COMMENT ON COLUMN vcc.daily_flow.restored_open IS 'Those of the restored that were open';
