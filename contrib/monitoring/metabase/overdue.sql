-- What is overdue? The longest first.
SELECT project_id, ticket_id, ticket_no, title, agent_name, sub_status, soft_deadline,
       round(extract(epoch FROM overdue_by) / 3600, 1) AS overdue_hours
  FROM vcc.overdue_tickets
 WHERE true
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND agent_user_name = {{agent}}]]
 ORDER BY overdue_by DESC
