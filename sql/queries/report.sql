SELECT vcc.report(days => rtrim($1, 'd')::integer, project => $2)
