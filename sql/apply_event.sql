SELECT vcc.apply_event(
    event_id => $1, received_at => $2, action => $3, payload => $4, project_id => $5, ticket_id => $6, attributes => $7,
    extra_names => $8)
