SELECT vcc.apply_events(
    event_id => $1, received_at => $2, action => $3, payload => $4, project_id => $5, ticket_id => $6, attributes => $7,
    extra_names => $8, repeats => $9, tolerant => $10)
