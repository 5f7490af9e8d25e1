-- The present by the tickets, what was done by vcc.ticket_metrics: by the agent who was in charge when the ticket was closed.
CREATE OR REPLACE VIEW vcc.agent_workload AS
SELECT w.project_id, w.agent_user_name, w.agent_name, count(*) FILTER (WHERE w.open) AS open,
       count(*) FILTER (WHERE w.overdue) AS overdue,
       count(*) FILTER (WHERE w.closed_at >= now() - interval '7 days') AS closed_last_7_days,
       justify_hours(percentile_cont(0.5) WITHIN GROUP (ORDER BY w.resolution)) AS median_resolution,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY w.resolution_business) AS median_resolution_business,
       justify_hours(percentile_cont(0.9) WITHIN GROUP (ORDER BY w.resolution)) AS p90_resolution,
       percentile_cont(0.9) WITHIN GROUP (ORDER BY w.resolution_business) AS p90_resolution_business,
       count(w.resolution) AS resolved_last_30_days
  FROM (SELECT t.project_id, nullif(t.agent_user_name, '') AS agent_user_name, nullif(t.agent_name, '') AS agent_name, true AS open,
               coalesce(t.soft_deadline < now(), false) AS overdue, NULL::timestamptz AS closed_at,
               NULL::interval AS resolution, NULL::interval AS resolution_business
          FROM vcc.tickets t
         WHERE t.status IS DISTINCT FROM 'closed'
         UNION ALL
        SELECT m.project_id, m.closed_agent_user_name, m.closed_agent_name, false, false, m.closed_at,
               CASE WHEN m.complete THEN m.full_resolution END, CASE WHEN m.complete THEN m.full_resolution_business END
          FROM vcc.ticket_metrics m
         WHERE m.closed_at >= now() - interval '30 days') w
 GROUP BY w.project_id, w.agent_user_name, w.agent_name;

COMMENT ON VIEW   vcc.agent_workload IS
    'What agents have to do and have done: one row for each project, agent and login, and one for tickets of nobody. '
    'Ask for one project; all at once: vcc.agent_workload_kept';
COMMENT ON COLUMN vcc.agent_workload.project_id IS 'The project';
COMMENT ON COLUMN vcc.agent_workload.agent_user_name IS 'Login of the agent in charge; of a closed ticket, when it was closed';
COMMENT ON COLUMN vcc.agent_workload.agent_name IS 'Full name of that agent; NULL: nobody';
COMMENT ON COLUMN vcc.agent_workload.open IS 'Tickets that are not closed';
COMMENT ON COLUMN vcc.agent_workload.overdue IS 'Those of them whose soft_deadline has passed';
COMMENT ON COLUMN vcc.agent_workload.closed_last_7_days IS 'Tickets that were closed within seven days and still are';
COMMENT ON COLUMN vcc.agent_workload.median_resolution IS
    'Median of full_resolution (vcc.ticket_metrics) of the complete tickets that were closed within 30 days; NULL: none was';
COMMENT ON COLUMN vcc.agent_workload.median_resolution_business IS 'The same in business time';
COMMENT ON COLUMN vcc.agent_workload.p90_resolution IS 'Within which nine of ten of them were closed';
COMMENT ON COLUMN vcc.agent_workload.p90_resolution_business IS 'The same in business time';
COMMENT ON COLUMN vcc.agent_workload.resolved_last_30_days IS 'How many tickets these are of';

-- The same of what is kept, for all projects.
DO $do$
DECLARE
    part  record;
BEGIN
    PERFORM set_config('quote_all_identifiers', 'off', true);  -- which would quote what is looked for
    EXECUTE '
CREATE OR REPLACE VIEW vcc.agent_workload_kept AS ' || replace(pg_get_viewdef('vcc.agent_workload'::regclass), 'vcc.ticket_metrics m', 'vcc.ticket_metrics_kept m');
    COMMENT ON VIEW vcc.agent_workload_kept IS 'vcc.agent_workload for all projects: what is open now, and what was closed at the last vcc.refresh_reports';
    FOR part IN SELECT a.attnum, a.attname FROM pg_attribute a WHERE a.attrelid = 'vcc.agent_workload'::regclass LOOP
        EXECUTE format('COMMENT ON COLUMN vcc.agent_workload_kept.%I IS %L', part.attname, col_description('vcc.agent_workload'::regclass, part.attnum));
    END LOOP;
END
$do$;
