SELECT vcc.forget_rejected(event_id => $1)
