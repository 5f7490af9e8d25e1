-- What did VCC Live deliver in the last day? What waits in a spool is not here yet.
SELECT received_at, result, action, project_id, ticket_id, attempts, reason
  FROM vcc.deliveries
 WHERE received_at > now() - interval '1 day'
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND result = {{result}}]]
 ORDER BY received_at DESC
 LIMIT 2000
