SELECT vcc.report_list(list => $1, days => rtrim($2, 'd')::integer, project => $3, agent => $4, type => $5, customer => $6,
                       status => $7, sub_status => $8, day => $9, within => $10, after => $11, most => $12)
