-- How long do tickets wait for the agent, and how long for the customer? In hours of the clock. Ask for one project.
SELECT sub_status, count(DISTINCT (project_id, ticket_id)) AS tickets, round(extract(epoch FROM sum(duration)) / 3600, 1) AS hours,
       round(extract(epoch FROM avg(duration)) / 3600, 1) AS mean_hours
  FROM vcc.status_periods
 WHERE status IS DISTINCT FROM 'closed'
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND started_at >= CAST({{since}} AS date)]]
 GROUP BY sub_status
 ORDER BY hours DESC NULLS LAST
