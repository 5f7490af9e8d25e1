-- 004: views for reports. Days are those of the session's time zone.
--
-- A filter on project_id, and on ticket_id, reaches the indexes: whatever groups or numbers rows here does so by
-- project (and ticket). A ticket's events took effect in the order of applied_no. One that came late was received before
-- those that it follows there: it then counts as received with the last of them, so that nothing ends before it begins.

CREATE VIEW vcc.open_tickets AS
SELECT t.project_id, t.ticket_id, t.ticket_no, t.title, t.status, t.sub_status, t.agent_name,
       now() - coalesce(t.first_open_time, t.first_event_at) AS age,
       coalesce(t.soft_deadline < now(), false) AS overdue,
       t.soft_deadline, t.project_name, t.agent_user_name
  FROM vcc.tickets t
 WHERE t.status IS DISTINCT FROM 'closed';

COMMENT ON VIEW   vcc.open_tickets IS
    'Tickets that are not closed, those without a status among them: one row for each';
COMMENT ON COLUMN vcc.open_tickets.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.open_tickets.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.open_tickets.ticket_no IS 'Ticket number that people quote';
COMMENT ON COLUMN vcc.open_tickets.title IS 'Title';
COMMENT ON COLUMN vcc.open_tickets.status IS 'Status; NULL: not known';
COMMENT ON COLUMN vcc.open_tickets.sub_status IS 'Sub-status';
COMMENT ON COLUMN vcc.open_tickets.agent_name IS 'Full name of the agent in charge';
COMMENT ON COLUMN vcc.open_tickets.age IS 'Since it was first opened; where that is not known, since its first event';
COMMENT ON COLUMN vcc.open_tickets.overdue IS 'Whether soft_deadline has passed; false where there is none';
COMMENT ON COLUMN vcc.open_tickets.soft_deadline IS 'When the ticket should be done';
COMMENT ON COLUMN vcc.open_tickets.project_name IS 'Name of the project';
COMMENT ON COLUMN vcc.open_tickets.agent_user_name IS 'Login of the agent in charge';

CREATE VIEW vcc.overdue_tickets AS
SELECT o.project_id, o.ticket_id, o.ticket_no, o.title, o.status, o.sub_status, o.agent_name, o.age, o.soft_deadline,
       now() - o.soft_deadline AS overdue_by, o.project_name, o.agent_user_name
  FROM vcc.open_tickets o
 WHERE o.overdue;

COMMENT ON VIEW   vcc.overdue_tickets IS 'Tickets that are not closed and should be by now: one row for each';
COMMENT ON COLUMN vcc.overdue_tickets.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.overdue_tickets.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.overdue_tickets.ticket_no IS 'Ticket number that people quote';
COMMENT ON COLUMN vcc.overdue_tickets.title IS 'Title';
COMMENT ON COLUMN vcc.overdue_tickets.status IS 'Status; NULL: not known';
COMMENT ON COLUMN vcc.overdue_tickets.sub_status IS 'Sub-status';
COMMENT ON COLUMN vcc.overdue_tickets.agent_name IS 'Full name of the agent in charge';
COMMENT ON COLUMN vcc.overdue_tickets.age IS
    'Since it was first opened; where that is not known, since its first event';
COMMENT ON COLUMN vcc.overdue_tickets.soft_deadline IS 'When the ticket should have been done';
COMMENT ON COLUMN vcc.overdue_tickets.overdue_by IS 'How long ago that was';
COMMENT ON COLUMN vcc.overdue_tickets.project_name IS 'Name of the project';
COMMENT ON COLUMN vcc.overdue_tickets.agent_user_name IS 'Login of the agent in charge';

CREATE VIEW vcc.ticket_history AS
SELECT e.project_id, e.ticket_id, e.received_at, e.action, c.attribute, c.change ->> 0 AS old_value,
       c.change ->> 1 AS new_value, e.event_id, e.result, e.applied_no
  FROM vcc.ticket_events e
 CROSS JOIN LATERAL (SELECT a.key, a.value FROM jsonb_each(e.changes - 'extra') a
                      UNION ALL
                     SELECT 'extra.' || x.key, x.value FROM jsonb_each(e.changes -> 'extra') x) c (attribute, change);

COMMENT ON VIEW   vcc.ticket_history IS
    'What events changed: one row for each attribute that an event gave another value. Ask for one ticket, and order '
    'by applied_no';
COMMENT ON COLUMN vcc.ticket_history.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.ticket_history.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.ticket_history.received_at IS 'When the event was received';
COMMENT ON COLUMN vcc.ticket_history.action IS 'What the sender said happened: add, update or delete';
COMMENT ON COLUMN vcc.ticket_history.attribute IS
    'Column of vcc.tickets, or extra. and the name of an attribute without a column';
COMMENT ON COLUMN vcc.ticket_history.old_value IS 'Value before the event; NULL: none';
COMMENT ON COLUMN vcc.ticket_history.new_value IS 'Value after the event; NULL: none';
COMMENT ON COLUMN vcc.ticket_history.event_id IS 'The event';
COMMENT ON COLUMN vcc.ticket_history.result IS 'What it did to the ticket: inserted, updated or deleted';
COMMENT ON COLUMN vcc.ticket_history.applied_no IS 'Order in which the events of a ticket took effect';

-- Each period is made from what ended it: a change, a deletion, or the present. That knows the old values, so the last
-- period is right also where the journal's oldest rows were dropped. A change of one of the two says nothing of the
-- other, which is then as the next one found it.
CREATE VIEW vcc.status_periods AS
SELECT p.project_id, p.ticket_id, p.status, p.sub_status, p.started_at, p.ended_at,
       coalesce(p.ended_at, now()) - p.started_at AS duration, p.applied_no
  FROM (SELECT n.project_id, n.ticket_id, n.result, n.started_at, n.ended_at, n.applied_no,
               max(n.status) OVER (PARTITION BY n.project_id, n.ticket_id, n.status_told) AS status,
               max(n.sub_status) OVER (PARTITION BY n.project_id, n.ticket_id, n.sub_status_told) AS sub_status
          FROM (SELECT m.project_id, m.ticket_id, m.result, m.status, m.sub_status, m.applied_no,
                       max(m.received_at) OVER (before ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS started_at,
                       CASE WHEN m.result <> 'present' THEN max(m.received_at) OVER before END AS ended_at,
                       count(*) FILTER (WHERE m.tells_status) OVER after AS status_told,
                       count(*) FILTER (WHERE m.tells_sub_status) OVER after AS sub_status_told
                  FROM (SELECT e.project_id, e.ticket_id, e.applied_no, e.received_at, e.result,
                               e.result <> 'updated' OR e.changes ? 'status' AS tells_status,
                               e.changes -> 'status' ->> 0 AS status,
                               e.result <> 'updated' OR e.changes ? 'sub_status' AS tells_sub_status,
                               e.changes -> 'sub_status' ->> 0 AS sub_status
                          FROM vcc.ticket_events e
                         WHERE e.result IN ('inserted', 'deleted') OR e.changes ?| '{status, sub_status}'
                         UNION ALL
                        SELECT t.project_id, t.ticket_id, NULL, NULL, 'present', true, t.status, true, t.sub_status
                          FROM vcc.tickets t) m
                WINDOW before AS (PARTITION BY m.project_id, m.ticket_id ORDER BY m.applied_no NULLS LAST),
                       after AS (PARTITION BY m.project_id, m.ticket_id ORDER BY m.applied_no DESC NULLS FIRST)) n) p
 WHERE p.result <> 'inserted';  -- before which there is nothing

COMMENT ON VIEW   vcc.status_periods IS
    'How long tickets were in which status: one row for each time that status and sub-status stayed as they were. '
    'Ask for one ticket; over all it reads the whole journal, and a materialized view is quicker (sql/README.md)';
COMMENT ON COLUMN vcc.status_periods.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.status_periods.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.status_periods.status IS 'Status; NULL: not known, hence open';
COMMENT ON COLUMN vcc.status_periods.sub_status IS 'Sub-status; NULL: not known';
COMMENT ON COLUMN vcc.status_periods.started_at IS
    'When it began; NULL: before the oldest row that the journal has of the ticket';
COMMENT ON COLUMN vcc.status_periods.ended_at IS
    'When it ended, by a change or the deletion of the ticket; NULL: it lasts';
COMMENT ON COLUMN vcc.status_periods.duration IS 'From started_at to ended_at, or until now';
COMMENT ON COLUMN vcc.status_periods.applied_no IS
    'Of the event that ended it: gives a ticket''s periods their order; NULL: it lasts, the last';

-- The backlog is counted back from the tickets that are open now: rows that the journal no longer has do not matter.
-- A day with events stands also for those without that follow it. They are counted out by unnest(), of which the
-- planner expects 10 rows; of generate_series() it would expect 1000, and compile the query for seconds (jit).
CREATE VIEW vcc.daily_flow AS
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

-- Lives of tickets, from being inserted to being deleted, of which closed is the end, or the state now. They are made
-- of comings and goings alone, which an index has; tickets are read only for the lives that are asked for.
CREATE VIEW vcc.resolution_times AS
SELECT r.project_id, r.ticket_id, r.type, o.opened_at, r.closed_at, r.closed_at - o.opened_at AS resolution, r.reopened,
       CASE r.sub_status WHEN 'successful' THEN true WHEN 'unsuccessful' THEN false END AS successful,
       r.closed_at <= r.soft_deadline AS deadline_met, r.agent_user_name, r.agent_name, r.applied_no
  FROM (SELECT l.project_id, l.ticket_id, l.closed_at, l.reopened, l.applied_no,
               coalesce(t.type, d.changes -> 'type' ->> 0) AS type,
               coalesce(t.sub_status, d.changes -> 'sub_status' ->> 0) AS sub_status,
               coalesce(t.soft_deadline, (d.changes -> 'soft_deadline' ->> 0)::timestamptz) AS soft_deadline,
               coalesce(t.agent_user_name, d.changes -> 'agent_user_name' ->> 0) AS agent_user_name,
               coalesce(t.agent_name, d.changes -> 'agent_name' ->> 0) AS agent_name,
               coalesce(t.first_open_time, (d.changes -> 'first_open_time' ->> 0)::timestamptz) AS first_open_time,
               coalesce(l.inserted_at, t.first_event_at) AS inserted_at
          FROM (SELECT f.project_id, f.ticket_id,
                       min(f.at) FILTER (WHERE f.was_open IS NULL) AS inserted_at,
                       max(f.at) FILTER (WHERE NOT f.is_open) AS closed_at,
                       max(f.applied_no) FILTER (WHERE NOT f.is_open) AS applied_no,
                       (count(*) FILTER (WHERE NOT f.was_open AND f.is_open))::integer AS reopened,
                       max(f.received_at) FILTER (WHERE f.is_open IS NULL) AS deleted_at,
                       max(f.applied_no) FILTER (WHERE f.is_open IS NULL) AS deleted_no
                  FROM (SELECT e.project_id, e.ticket_id, e.received_at, e.was_open, e.is_open, e.applied_no,
                               max(e.received_at) OVER life AS at,
                               count(*) FILTER (WHERE e.was_open IS NULL) OVER life AS life_no
                          FROM vcc.ticket_events e
                         WHERE e.was_open IS DISTINCT FROM e.is_open
                        WINDOW life AS (PARTITION BY e.project_id, e.ticket_id ORDER BY e.applied_no)) f
                 GROUP BY f.project_id, f.ticket_id, f.life_no
                -- Never closed: NULL. Deleted while open: opened or reopened later than closed.
                HAVING max(f.applied_no) FILTER (WHERE NOT f.is_open)
                       > coalesce(max(f.applied_no) FILTER (WHERE f.is_open), 0)) l
          LEFT JOIN vcc.tickets t ON t.project_id = l.project_id AND t.ticket_id = l.ticket_id AND l.deleted_no IS NULL
         CROSS JOIN LATERAL (SELECT CASE WHEN l.deleted_no IS NOT NULL THEN
                                        (SELECT e.changes FROM vcc.ticket_events e
                                          WHERE e.project_id = l.project_id AND e.received_at = l.deleted_at
                                            AND e.ticket_id = l.ticket_id AND e.applied_no = l.deleted_no
                                            AND e.was_open IS DISTINCT FROM e.is_open) END AS changes
                             OFFSET 0) d) r  -- looked up once a row
 CROSS JOIN LATERAL (SELECT CASE WHEN r.first_open_time <= r.closed_at THEN r.first_open_time
                                 ELSE r.inserted_at END AS opened_at) o;

COMMENT ON VIEW   vcc.resolution_times IS
    'How long tickets took: one row for each that is closed, or was when it was deleted; added again after that, it '
    'has another. Ask for one project; over all a materialized view is quicker (sql/README.md)';
COMMENT ON COLUMN vcc.resolution_times.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.resolution_times.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.resolution_times.type IS
    'Ticket type. Type, sub-status, deadline and agent are those of now, or when the ticket was deleted';
COMMENT ON COLUMN vcc.resolution_times.opened_at IS
    'first_open_time of the ticket, unless that is unknown or after closed_at; then when its first event was '
    'received; NULL: the journal no longer has that of a deleted ticket';
COMMENT ON COLUMN vcc.resolution_times.closed_at IS 'When it became closed the last time';
COMMENT ON COLUMN vcc.resolution_times.resolution IS 'From opened_at to closed_at';
COMMENT ON COLUMN vcc.resolution_times.reopened IS 'How many times it was closed and opened again before';
COMMENT ON COLUMN vcc.resolution_times.successful IS
    'Whether its sub-status is successful (true) or unsuccessful (false); NULL: another';
COMMENT ON COLUMN vcc.resolution_times.deadline_met IS 'Whether it was closed by its soft_deadline; NULL: it has none';
COMMENT ON COLUMN vcc.resolution_times.agent_user_name IS 'Login of the agent in charge';
COMMENT ON COLUMN vcc.resolution_times.agent_name IS 'Full name of the agent in charge';
COMMENT ON COLUMN vcc.resolution_times.applied_no IS 'Of the event that closed it: tells the rows apart';

CREATE VIEW vcc.agent_workload AS
SELECT w.project_id, w.agent_user_name,
       (array_agg(w.agent_name ORDER BY w.at DESC) FILTER (WHERE w.agent_name IS NOT NULL))[1] AS agent_name,
       count(*) FILTER (WHERE w.open) AS open,
       count(*) FILTER (WHERE w.overdue) AS overdue,
       count(*) FILTER (WHERE w.closed_at >= now() - interval '7 days') AS closed_last_7_days,
       justify_hours(percentile_cont(0.5) WITHIN GROUP (ORDER BY w.resolution)) AS median_resolution
  FROM (SELECT t.project_id, t.agent_user_name, t.agent_name, t.last_event_at AS at,
               t.status IS DISTINCT FROM 'closed' AS open,
               t.status IS DISTINCT FROM 'closed' AND t.soft_deadline < now() AS overdue,
               NULL::timestamptz AS closed_at, NULL::interval AS resolution
          FROM vcc.tickets t
         UNION ALL
        SELECT r.project_id, r.agent_user_name, r.agent_name, r.closed_at, false, false, r.closed_at, r.resolution
          FROM vcc.resolution_times r
         WHERE r.closed_at >= now() - interval '30 days') w
 GROUP BY w.project_id, w.agent_user_name;

COMMENT ON VIEW   vcc.agent_workload IS
    'What agents have to do and have done: one row for each project and login in its tickets, and one for tickets of '
    'nobody. Ask for one project';
COMMENT ON COLUMN vcc.agent_workload.project_id IS 'The project';
COMMENT ON COLUMN vcc.agent_workload.agent_user_name IS 'Login of the agent in charge; NULL: nobody is';
COMMENT ON COLUMN vcc.agent_workload.agent_name IS 'Full name, as the ticket that was changed last has it';
COMMENT ON COLUMN vcc.agent_workload.open IS 'Tickets that are not closed';
COMMENT ON COLUMN vcc.agent_workload.overdue IS 'Those of them whose soft_deadline has passed';
COMMENT ON COLUMN vcc.agent_workload.closed_last_7_days IS
    'Tickets that became closed within seven days and still are, or were when they were deleted';
COMMENT ON COLUMN vcc.agent_workload.median_resolution IS
    'Median of their resolution (vcc.resolution_times), of those closed within 30 days; NULL: none was';

CREATE VIEW vcc.deliveries AS
SELECT e.received_at, e.result, e.action, e.project_id, e.ticket_id, NULL::text AS reason, 1 AS attempts, e.event_id
  FROM vcc.ticket_events e
 UNION ALL
SELECT r.last_received_at, 'rejected', NULL, nullif(r.project_id, 0), NULL, r.reason, r.attempts, r.last_event_id
  FROM vcc.rejected_events r;

COMMENT ON VIEW   vcc.deliveries IS
    'What arrived and what came of it: one row for each event, and one for each body that was set aside. '
    'Ask for a time, such as received_at > now() - interval ''1 hour'': an index fits that';
COMMENT ON COLUMN vcc.deliveries.received_at IS 'When it was received; a refused body: the last time';
COMMENT ON COLUMN vcc.deliveries.result IS
    'inserted, updated, unchanged, deleted or ignored (vcc.ticket_events), or rejected (vcc.rejected_events)';
COMMENT ON COLUMN vcc.deliveries.action IS 'What the sender said happened: add, update or delete; NULL: refused';
COMMENT ON COLUMN vcc.deliveries.project_id IS 'Project of the ticket; NULL: a refused body does not say';
COMMENT ON COLUMN vcc.deliveries.ticket_id IS 'Ticket within the project; NULL: refused';
COMMENT ON COLUMN vcc.deliveries.reason IS 'Why it was refused; NULL: it was not';
COMMENT ON COLUMN vcc.deliveries.attempts IS 'How many times the refused body was received; an event is received once';
COMMENT ON COLUMN vcc.deliveries.event_id IS 'Identifier given at receipt; a refused body''s at the last';
