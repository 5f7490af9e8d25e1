SELECT vcc.end_import(digest => $1, now => $2)
