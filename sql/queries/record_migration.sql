INSERT INTO vcc.migrations (version, name) VALUES ($1::integer, $2)
