SELECT vcc.report_ticket(number => $1, project => $2)
