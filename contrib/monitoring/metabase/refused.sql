-- What was refused, and why?
SELECT last_received_at, attempts, nullif(project_id, 0) AS project_id, reason, left(encode(body, 'escape'), 200) AS body
  FROM vcc.rejected_events
 WHERE true
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND last_received_at >= CAST({{since}} AS date)]]
 ORDER BY last_received_at DESC
 LIMIT 2000
