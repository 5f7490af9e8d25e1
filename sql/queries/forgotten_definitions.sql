SELECT name FROM vcc.definitions WHERE name <> ALL ($1::text[]) ORDER BY name
