-- Who has how much to do, and closed how many? A closed ticket counts for who was in charge of it then.
SELECT project_id, coalesce(agent_name, agent_user_name, 'nobody') AS agent, open, overdue, closed_last_7_days,
       round(extract(epoch FROM median_resolution) / 3600, 1) AS median_hours
  FROM vcc.agent_workload
 WHERE true
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND agent_user_name = {{agent}}]]
 ORDER BY open DESC, closed_last_7_days DESC
