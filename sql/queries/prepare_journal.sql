SELECT vcc.prepare_journal()
