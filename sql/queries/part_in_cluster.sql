-- 'coordinator' where Citus spreads vcc.tickets over its nodes, 'worker' on another of its nodes, else 'none'. The texts in the
-- text are looked at only where Citus has its tables.
SELECT CASE WHEN to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN 'none'
            WHEN query_to_xml('SELECT 1 FROM pg_catalog.pg_dist_local_group WHERE groupid <> 0', false, true, '')::text <> '' THEN 'worker'
            WHEN query_to_xml('SELECT 1 FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass(''vcc.tickets'')',
                              false, true, '')::text <> '' THEN 'coordinator'
            ELSE 'none' END
