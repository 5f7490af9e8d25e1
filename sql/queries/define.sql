-- Makes what the definition ticketd.name says, whose text ticketd.text is; or drops what it had made, where that is empty.
--
-- A function or view is replaced, which keeps what depends on it and what was granted on it. Where PostgreSQL does not allow
-- that (other parameters, another type of result, a column less) it is dropped and made, and so are views and functions of
-- ours that depend on it: their digest is forgotten, and they are made when their turn comes again. Nothing else is ever
-- dropped: what users made on it stops the migration, and is named.
DO $$
DECLARE
    this     CONSTANT text := current_setting('ticketd.name');
    source   CONSTANT text := current_setting('ticketd.text');
    objects  CONSTANT text[] := ARRAY(SELECT lower(m[1]) || ' ' || m[2]
                  FROM regexp_matches(source, '^CREATE OR REPLACE (FUNCTION|VIEW) vcc\.(\w+)', 'gn') m);
    gone     text[] := ARRAY(SELECT unnest(d.objects) FROM vcc.definitions d WHERE d.name = this
                             EXCEPT SELECT unnest(d.objects) FROM vcc.definitions d WHERE d.name <> this
                             EXCEPT SELECT unnest(objects));
    before   CONSTANT text[] := ARRAY(SELECT p.oid || ' ' || p.xmin FROM pg_proc p
                  WHERE p.pronamespace = 'vcc'::regnamespace AND 'function ' || p.proname = ANY (objects));
    stale    oid[] := '{}';  -- functions of these names that have other parameters
    fits     boolean := true;
    thing    record;
BEGIN
    BEGIN
        EXECUTE source;
    EXCEPTION WHEN invalid_function_definition OR invalid_table_definition OR ambiguous_function OR wrong_object_type THEN
        fits := false;
        gone := gone || objects;
    END;
    IF fits THEN
        stale := ARRAY(SELECT p.oid FROM pg_proc p WHERE p.oid || ' ' || p.xmin = ANY (before));
    END IF;

    FOR thing IN
        WITH RECURSIVE known AS (
            SELECT unnest(d.objects) AS object FROM vcc.definitions d UNION SELECT unnest(objects)
        ), ours AS (
            SELECT p.tableoid AS class, p.oid, 'function ' || p.proname AS object
              FROM pg_proc p JOIN known k ON k.object = 'function ' || p.proname WHERE p.pronamespace = 'vcc'::regnamespace
             UNION ALL
            SELECT c.tableoid, c.oid, 'view ' || c.relname
              FROM pg_class c JOIN known k ON k.object = 'view ' || c.relname
             WHERE c.relnamespace = 'vcc'::regnamespace AND c.relkind = 'v'
        ), needs AS (
            SELECT o.class, o.oid, 0 AS column_no, 0 AS depth, NULL AS under, false AS part
              FROM ours o WHERE o.object = ANY (gone) OR o.oid = ANY (stale)
             UNION
            -- What needs ours, or the type of one of our views. What a view needs is noted of its rule.
            SELECT d.*
              FROM needs n
             CROSS JOIN LATERAL (
                   SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END AS class,
                          coalesce(r.ev_class, d.objid) AS oid, CASE WHEN r.oid IS NULL THEN d.objsubid ELSE 0 END,
                          n.depth + 1, pg_describe_object(n.class, n.oid, 0), r.oid IS NULL AND d.deptype = 'i'
                     FROM pg_depend d
                     LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.rulename = '_RETURN'
                    WHERE d.refclassid = n.class AND d.refobjid = n.oid AND d.deptype IN ('n', 'a', 'i')) d
             WHERE (d.class, d.oid) <> (n.class, n.oid)
               AND (n.part OR (n.class, n.oid) IN (SELECT o.class, o.oid FROM ours o))
        )
        SELECT n.class, n.oid, o.object, n.oid = ANY (stale) OR o.object = ANY (gone) AS meant, max(n.depth) AS depth,
               pg_describe_object(n.class, n.oid, n.column_no) AS name, max(n.under) AS under
          FROM needs n LEFT JOIN ours o ON o.class = n.class AND o.oid = n.oid
         WHERE NOT n.part
         GROUP BY n.class, n.oid, n.column_no, o.object, meant
         ORDER BY o.object IS NOT NULL, depth DESC
    LOOP
        IF thing.object IS NULL THEN
            RAISE dependent_objects_still_exist USING
                MESSAGE = format('%s depends on %s, which this version replaces', thing.name, thing.under),
                HINT = format('drop %s, run ticketd migrate, and make it again', thing.name);
        END IF;
        EXECUTE format('DROP %s', CASE WHEN thing.object LIKE 'view %' THEN 'VIEW ' || thing.oid::regclass
                                       ELSE 'FUNCTION ' || thing.oid::regprocedure END);
        IF NOT thing.meant THEN
            UPDATE vcc.definitions d SET digest = '' WHERE thing.object = ANY (d.objects);
        END IF;
    END LOOP;

    IF NOT fits THEN
        EXECUTE source;
    END IF;
    IF source = '' THEN
        DELETE FROM vcc.definitions d WHERE d.name = this;
    ELSE
        INSERT INTO vcc.definitions AS d (name, digest, objects) VALUES (this, sha256(convert_to(source, 'UTF8')), objects)
        ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, objects = excluded.objects, applied_at = excluded.applied_at;
    END IF;
END
$$
