SELECT vcc.prepare_journal(received_at => $1) > 0
       OR to_regclass('vcc.' || to_char($1 AT TIME ZONE 'UTC', '"ticket_events_"YYYY_MM')) IS NOT NULL
