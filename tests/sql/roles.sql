-- Who may do what: the handler's role executes its functions and nothing else, the reader's role reads everything and
-- writes nothing, everyone else may do nothing at all.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(24);

-- pgTAP's own tables belong to the caller: the role is taken only for the statement under test.
-- Returns its SQLSTATE, 00000 when it worked.
CREATE FUNCTION pg_temp.as_role(role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE statement;
    RESET ROLE;
    RETURN '00000';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;  -- and the role is taken back with everything else
END
$$;

CREATE VIEW pg_temp.relations AS
    SELECT c.oid, c.oid::regclass::text AS name FROM pg_class c
     WHERE c.relnamespace = 'vcc'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f');
CREATE VIEW pg_temp.functions AS
    SELECT p.oid, p.oid::regprocedure::text AS name, p.prosecdef, p.provolatile, p.proacl, p.proowner FROM pg_proc p
     WHERE p.pronamespace = 'vcc'::regnamespace;

SELECT has_role('vcc_writer');
SELECT has_role('vcc_reader');
SELECT is_empty($$
    SELECT rolname FROM pg_roles
     WHERE rolname IN ('vcc_writer', 'vcc_reader')
       AND (rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication)
$$, 'both are groups without login and without any special right');
SELECT is_empty($$
    SELECT roleid::regrole FROM pg_auth_members WHERE member IN ('vcc_writer'::regrole, 'vcc_reader'::regrole)
$$, 'neither gets rights from another role');

-- Everyone.
SELECT ok(NOT EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'vcc' AND grantee = 0),
    'the schema is closed to PUBLIC');
SELECT is_empty($$
    SELECT name FROM pg_temp.functions, aclexplode(coalesce(proacl, acldefault('f', proowner)))
     WHERE prosecdef AND grantee = 0
$$, 'no function with the rights of its owner is executable by PUBLIC');
SELECT is_empty($$
    SELECT oid::regclass FROM pg_class, aclexplode(relacl)
     WHERE relnamespace = 'vcc'::regnamespace AND grantee = 0
$$, 'PUBLIC has no right on a table, view or sequence');

-- The writer.
SELECT ok(has_schema_privilege('vcc_writer', 'vcc', 'USAGE')
          AND NOT has_schema_privilege('vcc_writer', 'vcc', 'CREATE'), 'vcc_writer may use the schema, not add to it');
SELECT is_empty($$
    SELECT name FROM pg_temp.relations
     WHERE has_table_privilege('vcc_writer', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        OR has_any_column_privilege('vcc_writer', oid, 'SELECT, INSERT, UPDATE, REFERENCES')
$$, 'vcc_writer has no right on any table, view or column');
SELECT is_empty($$
    SELECT oid::regclass FROM pg_class
     WHERE relnamespace = 'vcc'::regnamespace
       AND CASE WHEN relkind = 'S' THEN has_sequence_privilege('vcc_writer', oid, 'USAGE, SELECT, UPDATE') END
$$, 'nor on a sequence');
SELECT set_eq(
    $$ SELECT p.proname::text FROM pg_proc p WHERE p.oid IN (SELECT oid FROM pg_temp.functions
        WHERE has_function_privilege('vcc_writer', oid, 'EXECUTE')) $$,
    $$ VALUES ('apply_events'), ('schema_version'), ('database_identity'), ('reject_event'), ('list_rejected'),
              ('forget_rejected'), ('drop_rejected'), ('begin_import'), ('import_ended'), ('end_import'), ('prepare_journal'),
              ('last_received'), ('forget_check'), ('rebuild_ticket'), ('refresh_reports') $$,
    'vcc_writer executes the functions of the handler and no other');
SELECT is_empty($$
    SELECT name FROM pg_temp.functions WHERE has_function_privilege('vcc_writer', oid, 'EXECUTE') AND NOT prosecdef
$$, 'and each of them needs no right of the caller');

-- In deed: an event goes in, and that is all.
GRANT SELECT ON pg_temp.attributes TO vcc_writer;
GRANT USAGE ON SEQUENCE pg_temp.minutes TO vcc_writer;
SELECT is(pg_temp.as_role('vcc_writer', $$ SELECT pg_temp.add(1, '{"title": "a"}') $$), '00000', 'vcc_writer adds');
SELECT is(pg_temp.as_role('vcc_writer', $$ SELECT pg_temp.delete(2) $$), '00000', 'vcc_writer deletes');
SELECT is(pg_temp.ticket(1), '{"title": "a"}', 'what it added is there');
SELECT is(pg_temp.as_role('vcc_writer', 'SELECT FROM vcc.tickets'), '42501', 'vcc_writer does not read tickets');
SELECT is(pg_temp.as_role('vcc_writer', 'DELETE FROM vcc.ticket_events'), '42501',
    'vcc_writer does not touch the journal');

-- The reader.
SELECT is_empty($$
    SELECT name FROM pg_temp.relations WHERE NOT has_table_privilege('vcc_reader', oid, 'SELECT')
$$, 'vcc_reader reads every table and view');
SELECT is_empty($$
    SELECT name FROM pg_temp.relations
     WHERE has_table_privilege('vcc_reader', oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        OR has_any_column_privilege('vcc_reader', oid, 'INSERT, UPDATE, REFERENCES')
$$, 'vcc_reader writes none');
SELECT is_empty($$
    SELECT name FROM pg_temp.functions
     WHERE has_function_privilege('vcc_reader', oid, 'EXECUTE') AND provolatile = 'v' AND name::text !~ 'refresh_reports'
$$, 'vcc_reader executes no function that writes, but what keeps reports');
SELECT is(pg_temp.as_role('vcc_reader', 'SELECT vcc.refresh_reports()'), '00000', 'and which it may bring up to date');
SELECT is(pg_temp.as_role('vcc_reader', 'SELECT FROM vcc.tickets, vcc.ticket_events, vcc.deleted_tickets'), '00000',
    'vcc_reader does read');
SELECT is(pg_temp.as_role('vcc_reader', $$ UPDATE vcc.tickets SET title = 'x' $$), '42501', 'and does not write');
SELECT is(pg_temp.as_role('vcc_reader', $$ SELECT pg_temp.delete(1) $$), '42501', 'nor sends an event');

SELECT * FROM finish();
ROLLBACK;
