SELECT project, ticket, moved, kept FROM vcc.move_extra(project => $1, ticket => $2, most => 500, zone => $3)
