-- Each period is made from what ended it: a change, a deletion, or the present. That knows the old values, so the last
-- period is right also where the journal's oldest rows were dropped. A change of one of the two says nothing of the
-- other, which is then as the next one found it.
CREATE OR REPLACE VIEW vcc.status_periods AS
SELECT p.project_id, p.ticket_id, p.status, p.sub_status, p.started_at, p.ended_at,
       greatest(least(p.ended_at, now()), p.started_at) - p.started_at AS duration, p.applied_no,
       CASE p.result WHEN 'updated' THEN 'change' WHEN 'deleted' THEN 'deletion' END AS ended_by,
       CASE WHEN p.status = 'closed' THEN 'closed' ELSE CASE p.sub_status
           WHEN 'waiting4agent' THEN 'desk' WHEN 'waiting4entity' THEN 'customer' ELSE 'other' END END AS state
  FROM (SELECT n.project_id, n.ticket_id, n.result, n.started_at, n.ended_at, n.applied_no,
               max(n.status) OVER (PARTITION BY n.project_id, n.ticket_id, n.status_told) AS status,
               max(n.sub_status) OVER (PARTITION BY n.project_id, n.ticket_id, n.sub_status_told) AS sub_status
          FROM (SELECT m.project_id, m.ticket_id, m.result, m.status, m.sub_status, m.applied_no,
                       lag(m.at) OVER before AS started_at, m.at AS ended_at,
                       count(*) FILTER (WHERE m.tells_status) OVER after AS status_told,
                       count(*) FILTER (WHERE m.tells_sub_status) OVER after AS sub_status_told
                  FROM (SELECT e.*
                          FROM (SELECT e.project_id, e.ticket_id, e.applied_no,
                                       max(e.received_at) OVER (PARTITION BY e.project_id, e.ticket_id ORDER BY e.applied_no) AS at,
                                       e.result, e.result <> 'updated' OR e.changes ? 'status' AS tells_status,
                                       e.changes -> 'status' ->> 0 AS status,
                                       e.result <> 'updated' OR e.changes ? 'sub_status' AS tells_sub_status,
                                       e.changes -> 'sub_status' ->> 0 AS sub_status
                                  FROM vcc.ticket_events e  -- those of vcc.ticket_spans: times are the same
                                 WHERE e.result IN ('inserted', 'deleted')
                                    OR e.changes ?| '{status, sub_status, agent_name, agent_user_name, type, soft_deadline, first_open_time}') e
                         WHERE e.tells_status OR e.tells_sub_status
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
COMMENT ON COLUMN vcc.status_periods.ended_by IS 'change or deletion: a ticket that was deleted got no answer; NULL: it lasts';
COMMENT ON COLUMN vcc.status_periods.state IS
    'desk (open, waiting4agent), customer (open, waiting4entity), other (open, anything else) or closed';
