SELECT vcc.report_delivery(event => $1, project => $2, ticket => $3)
