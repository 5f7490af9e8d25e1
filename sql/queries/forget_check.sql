SELECT vcc.forget_check(event_id => $1)
