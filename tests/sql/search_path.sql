-- Nothing depends on search_path: decoys that come first in the caller's path, and temporary objects, are not looked at.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(9);

CREATE SCHEMA decoy;
CREATE TABLE decoy.tickets (LIKE vcc.tickets INCLUDING ALL);
CREATE TABLE decoy.ticket_events (LIKE vcc.ticket_events INCLUDING ALL);
CREATE TABLE decoy.deleted_tickets (LIKE vcc.deleted_tickets INCLUDING ALL);
CREATE TABLE decoy.ticket_adds (LIKE vcc.ticket_adds INCLUDING ALL);

-- Functions and operators with the arguments that ours use. Whoever resolves a name through the path falls in.
CREATE FUNCTION decoy.trap_bigint(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE FUNCTION decoy.trap_uuid(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE FUNCTION decoy.trap_bytea(bytea, bytea) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE FUNCTION decoy.trap_text(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE FUNCTION decoy.trap_jsonb(jsonb, jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE FUNCTION decoy.trap_minus(jsonb, text[]) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE FUNCTION decoy.trap_arrow(jsonb, text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE OPERATOR decoy.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = decoy.trap_bigint);
CREATE OPERATOR decoy.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = decoy.trap_uuid);
CREATE OPERATOR decoy.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = decoy.trap_bytea);
CREATE OPERATOR decoy.= (LEFTARG = text, RIGHTARG = text, FUNCTION = decoy.trap_text);
CREATE OPERATOR decoy.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = decoy.trap_text);
CREATE OPERATOR decoy.|| (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = decoy.trap_jsonb);
CREATE OPERATOR decoy.- (LEFTARG = jsonb, RIGHTARG = text[], FUNCTION = decoy.trap_minus);
CREATE OPERATOR decoy.-> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = decoy.trap_arrow);
CREATE FUNCTION decoy.sha256(bytea) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE FUNCTION decoy.convert_to(text, name) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE FUNCTION decoy.jsonb_each(jsonb, OUT key text, OUT value jsonb) RETURNS SETOF record
    LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE FUNCTION decoy.jsonb_typeof(jsonb) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'decoy'; END $$;
CREATE DOMAIN decoy.jsonb AS text;

-- Temporary objects come before everything else, unless the path names pg_temp.
CREATE TEMP TABLE tickets (LIKE vcc.tickets INCLUDING ALL);
CREATE TEMP TABLE ticket_events (LIKE vcc.ticket_events INCLUDING ALL);
CREATE DOMAIN pg_temp.timestamptz AS text;

-- The calls are made whole here, out of catalogue names: the path is the decoys' only while they run.
CREATE FUNCTION pg_temp.with_decoys(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before  text := current_setting('search_path');
    answer  text;
BEGIN
    PERFORM set_config('search_path', 'decoy, pg_catalog', true);
    EXECUTE statement INTO answer;
    PERFORM set_config('search_path', before, true);
    RETURN answer;
END
$$;
CREATE FUNCTION pg_temp.call(action text, title text, clears text, n int) RETURNS text LANGUAGE sql AS $$
    SELECT format($f$ SELECT result FROM vcc.apply_events(
                      event_id => ARRAY[%L::uuid], received_at => '{2024-02-15 12:00Z}', action => ARRAY[%L], project_id => '{1}',
                      ticket_id => '{1}', payload => ARRAY[%L], cleared => ARRAY[%L], extra_names => '{"{colour}"}',
                      title => ARRAY[%L], waited => '{t}') $f$,
                  format('00000000-0000-7000-8000-%s', lpad(n::text, 12, '0')), action,
                  jsonb_build_object('action', action, 'ticket', jsonb_build_object('title', title, 'colour', 'red')),
                  clears, title)
$$;

SELECT is(pg_temp.with_decoys(pg_temp.call('update', 'a', '{type}', 1)), 'inserted', 'update inserts');
SELECT is(pg_temp.with_decoys(pg_temp.call('add', 'b', '{type}', 2)), 'unchanged', 'first add fills');
SELECT is(pg_temp.with_decoys(pg_temp.call('add', 'c', '{type}', 3)), 'updated', 'add overwrites');
SELECT is(pg_temp.with_decoys(pg_temp.call('delete', NULL, NULL, 4)), 'deleted', 'delete');
SELECT is(pg_temp.with_decoys(pg_temp.call('delete', NULL, NULL, 5)), 'unchanged', 'delete without a row');
SELECT is(pg_temp.with_decoys('SELECT vcc.schema_version()') IS NOT NULL, true, 'schema_version');
SELECT is(pg_temp.with_decoys('SELECT vcc.database_identity()') IS NOT NULL, true, 'database_identity');

SELECT is((SELECT array_agg(n) FROM (VALUES ((SELECT count(*) FROM decoy.tickets)),
                                            ((SELECT count(*) FROM decoy.ticket_events)),
                                            ((SELECT count(*) FROM decoy.deleted_tickets)),
                                            ((SELECT count(*) FROM decoy.ticket_adds)),
                                            ((SELECT count(*) FROM pg_temp.tickets)),
                                            ((SELECT count(*) FROM pg_temp.ticket_events))) v(n)),
    '{0,0,0,0,0,0}', 'nothing went into a decoy');
SELECT is((SELECT count(*) FROM vcc.ticket_events WHERE project_id = 1), 5::bigint, 'all is in the journal');

SELECT * FROM finish();
ROLLBACK;
