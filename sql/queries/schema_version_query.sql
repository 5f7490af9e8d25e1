SELECT vcc.schema_version()
