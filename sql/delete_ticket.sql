SELECT vcc.delete_ticket(event_id => $1, received_at => $2, payload => $3, project_id => $4, ticket_id => $5)
