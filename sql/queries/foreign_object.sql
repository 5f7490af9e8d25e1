-- What is in schema vcc, the schema itself first, and belongs to another role than the one that migrates: one of it, its owner
-- and how many there are. Membership in the owner is not enough, for what others laid out there runs with our rights.
SELECT what, owner::regrole::text, count(*) OVER ()
  FROM (SELECT 0 AS n, format('schema %s', nspname) AS what, nspowner AS owner FROM pg_namespace WHERE nspname = 'vcc'
         UNION ALL
        SELECT 1, pg_describe_object(tableoid, oid, 0), relowner FROM pg_class
         WHERE relnamespace = to_regnamespace('vcc') AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
         UNION ALL
        SELECT 2, pg_describe_object(tableoid, oid, 0), proowner FROM pg_proc WHERE pronamespace = to_regnamespace('vcc')
         UNION ALL
        SELECT 3, pg_describe_object(tableoid, oid, 0), typowner FROM pg_type
         WHERE typnamespace = to_regnamespace('vcc') AND typtype IN ('c', 'd', 'e', 'r')
         UNION ALL
        SELECT 4, pg_describe_object(tableoid, oid, 0), oprowner FROM pg_operator
         WHERE oprnamespace = to_regnamespace('vcc')) o
 WHERE owner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
 ORDER BY n, what
 LIMIT 1
