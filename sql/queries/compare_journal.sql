SELECT c.ticket_id, c.what, c.journal, c.held, c.equal, c.differ, c.unknown, c.events
  FROM vcc.compare_journal(project => $1, after => $2, most => $3, zone => $4) c
