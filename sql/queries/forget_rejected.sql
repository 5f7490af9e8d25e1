SELECT vcc.forget_rejected(event_id => $1, project_id => $2, ticket_id => $3)
