SELECT vcc.report(days => rtrim($1, 'd')::integer, project => $2, agent => $3, type => $4)
