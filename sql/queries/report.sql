SELECT vcc.report(days => $1, project => $2)
