-- What is open, and how old is it? By agent.
SELECT coalesce(agent_name, agent_user_name, 'nobody') AS agent, count(*) AS open, count(*) FILTER (WHERE overdue) AS overdue,
       round(extract(epoch FROM max(age)) / 86400, 1) AS oldest_days
  FROM vcc.open_tickets
 WHERE true
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND agent_user_name = {{agent}}]]
 GROUP BY agent_name, agent_user_name
 ORDER BY open DESC
