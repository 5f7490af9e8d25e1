SELECT e.project_id, sum(e.events)
  FROM (SELECT project_id, 1 AS events FROM vcc.ticket_events UNION ALL SELECT project_id, 0 FROM vcc.tickets UNION ALL
        SELECT project_id, 0 FROM vcc.deleted_tickets UNION ALL SELECT project_id, 0 FROM vcc.ticket_adds) e
 WHERE $1::bigint IS NULL OR e.project_id = $1
 GROUP BY e.project_id
 ORDER BY e.project_id
