SELECT vcc.database_identity()
