CREATE OR REPLACE VIEW vcc.agent_workload AS
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
