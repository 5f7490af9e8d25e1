-- Everything in schema vcc says what it is. The catalogue is asked, so that what a later migration adds is covered.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(5);

SELECT isnt(obj_description('vcc'::regnamespace, 'pg_namespace'), NULL, 'the schema has a comment');

SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c
     WHERE c.relnamespace = 'vcc'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND coalesce(obj_description(c.oid, 'pg_class'), '') = ''
$$, 'every table and view has a comment');

SELECT is_empty($$
    SELECT c.oid::regclass, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.relnamespace = 'vcc'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
       AND coalesce(col_description(c.oid, a.attnum), '') = ''
$$, 'every column has a comment, of a partition in its table');

SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace = 'vcc'::regnamespace AND coalesce(obj_description(p.oid, 'pg_proc'), '') = ''
$$, 'every function has a comment');

SELECT is_empty($$
    SELECT t.oid::regtype FROM pg_type t
     WHERE t.typnamespace = 'vcc'::regnamespace AND t.typtype IN ('d', 'e', 'r')
       AND coalesce(obj_description(t.oid, 'pg_type'), '') = ''
$$, 'every type has a comment');

SELECT * FROM finish();
ROLLBACK;
