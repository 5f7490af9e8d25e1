SELECT vcc.begin_import(digest => $1, now => $2), vcc.import_ended(digest => $1)
