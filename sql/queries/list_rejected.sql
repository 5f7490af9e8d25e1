SELECT last_event_id, first_received_at, last_received_at, attempts, project_id, body, reason, iv, coding
  FROM vcc.list_rejected(since => $1, until => $2, after => $3, most => $4, bytes => $5)
