SELECT vcc.reject_event(event_id => $1, received_at => $2, project_id => $3, body => $4, reason => $5, waited => $6, iv => $7,
                        coding => $8, ticket_id => $9)
