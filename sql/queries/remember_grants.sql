-- Before definitions are made: what users granted on functions and views, for grant_roles.sql to grant it again on those that
-- had to be dropped.
SELECT set_config('ticketd.grants', coalesce(json_agg(g), '[]')::text, true)
  FROM (SELECT 'function' AS kind, p.proname AS name, NULL AS part, a.grantee, a.privilege_type, a.is_grantable
          FROM pg_proc p, aclexplode(p.proacl) a
         WHERE p.pronamespace = 'vcc'::regnamespace AND a.grantee NOT IN (0, p.proowner)
         UNION
        SELECT 'view', c.relname, NULL, a.grantee, a.privilege_type, a.is_grantable
          FROM pg_class c, aclexplode(c.relacl) a
         WHERE c.relnamespace = 'vcc'::regnamespace AND c.relkind = 'v' AND a.grantee <> c.relowner
         UNION
        SELECT 'view', c.relname, t.attname, a.grantee, a.privilege_type, a.is_grantable
          FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped, aclexplode(t.attacl) a
         WHERE c.relnamespace = 'vcc'::regnamespace AND c.relkind = 'v' AND a.grantee <> c.relowner) g
