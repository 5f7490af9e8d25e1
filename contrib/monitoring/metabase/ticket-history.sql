-- What happened to this ticket? Give both numbers: over all tickets it reads the whole journal.
SELECT received_at, action, result, attribute, old_value, new_value
  FROM vcc.ticket_history
 WHERE true
   [[AND project_id = CAST({{project}} AS bigint)]]
   [[AND ticket_id = CAST({{ticket}} AS bigint)]]
 ORDER BY applied_no, attribute
 LIMIT 2000
