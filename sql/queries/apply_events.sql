SELECT n, result, detail
  FROM vcc.apply_events(
    event_id => $1, received_at => $2, action => $3, project_id => $4, ticket_id => $5, payload => $6, digest => $7,
    waited => $8, cleared => $9, extra_names => $10, after => $11, retried => $12,
    project => $13
    , {column} => ${nth+13}
)
