-- Whether Citus spreads vcc.tickets over its nodes. The text in the text is looked at only where Citus has its table.
SELECT CASE WHEN to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN false
            ELSE query_to_xml('SELECT 1 FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass(''vcc.tickets'')',
                              false, true, '')::text <> '' END
