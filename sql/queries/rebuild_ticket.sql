SELECT r.answer FROM vcc.rebuild_ticket(project => $1, ticket => $2, zone => $3) r
