SELECT vcc.report_deliveries(result => $1, reason => $2, project => $3, since => $4, until => $5, after => $6, most => $7)
