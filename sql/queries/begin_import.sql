SELECT vcc.begin_import(digest => $1, now => $2)
