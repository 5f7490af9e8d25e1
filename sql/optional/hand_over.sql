-- Optional: gives schema vcc and all that is in it to another owner, such as one without special rights where postgres made it.
--
--     psql -d tickets -v owner=ticketd_owner -f hand_over.sql
--
-- Run it as a superuser, or as the present owner who is a member of the new one; twice does no harm. The new owner then runs
-- `ticketd migrate`. Rights that were granted stay. REASSIGN OWNED is not for this: it takes all that postgres has in the
-- database. Handlers go on; for a moment their events wait in the spool, or for 5 seconds at most.

\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = pg_catalog;
SET LOCAL lock_timeout = '5s';
SET LOCAL standard_conforming_strings = on;
SELECT set_config('ticketd.owner', :'owner', true) \g /dev/null
DO $$
DECLARE
    owner    CONSTANT text := current_setting('ticketd.owner');
    command  text;
BEGIN
    EXECUTE format('ALTER SCHEMA vcc OWNER TO %I', owner);
    FOR command IN
        -- Partitions and views are tables to ALTER TABLE; a sequence of a column follows its table.
        SELECT format('ALTER TABLE %s', c.oid::regclass)
          FROM pg_class c
         WHERE c.relnamespace = 'vcc'::regnamespace AND (c.relkind IN ('r', 'p', 'v', 'm', 'f') OR c.relkind = 'S'
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                  AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass))
         UNION ALL
        SELECT format('ALTER ROUTINE %s', p.oid::regprocedure) FROM pg_proc p WHERE p.pronamespace = 'vcc'::regnamespace
         UNION ALL
        SELECT format('ALTER TYPE %s', t.oid::regtype)
          FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
         WHERE t.typnamespace = 'vcc'::regnamespace AND (t.typtype IN ('d', 'e', 'r') OR t.typtype = 'c' AND c.relkind = 'c')
    LOOP
        EXECUTE format('%s OWNER TO %I', command, owner);
    END LOOP;
END
$$;
COMMIT;
