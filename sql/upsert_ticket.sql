SELECT vcc.upsert_ticket(
    event_id => $1, received_at => $2, action => $3, payload => $4, clears => $5, extra_names => $6,
    project_id => $7, ticket_id => $8, entity_id => $9, contact_id => $10, created_user_id => $11, user_id => $12,
    ticket_no => $13, title => $14, type => $15, description => $16, cc => $17, status => $18, sub_status => $19,
    created_user_name => $20, project_name => $21, agent_name => $22, agent_user_name => $23,
    first_open_time => $24, last_open_time => $25, soft_deadline => $26)
