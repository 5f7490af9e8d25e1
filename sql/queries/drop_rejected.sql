SELECT vcc.drop_rejected(event_id => $1)
