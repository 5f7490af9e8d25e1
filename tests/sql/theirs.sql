-- What users add to our tables is theirs, and what is refused says why.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
CREATE EXTENSION IF NOT EXISTS hstore SCHEMA public;
SELECT plan(30);

CREATE FUNCTION pg_temp.refused(VARIADIC events jsonb[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(': ', result, detail) FROM pg_temp.rows(VARIADIC events) ORDER BY n
$$;

-- Columns of theirs, of types that have no JSON, no equality, or a value that jsonb cannot hold.
ALTER TABLE vcc.tickets ADD COLUMN crm_tags public.hstore, ADD COLUMN crm_json json, ADD COLUMN crm_place point,
    ADD COLUMN crm_note text, ADD COLUMN "Ünïcödé ""1""" xml;
SELECT is(pg_temp.update(1, '{"title": "u first"}'), 'inserted', 'an update');
UPDATE vcc.tickets SET crm_tags = 'a=>1,b=>2', crm_json = '{"a":  "\u0000"}', crm_place = '(1,2)', crm_note = 'n' WHERE ticket_id = 1;
SELECT is(pg_temp.add(1, '{"title": "the add", "cc": "a@b"}'), 'updated', 'the add that it overtook');
SELECT is(pg_temp.update(1, '{"cc": null, "x": 1}'), 'updated', 'another update');
SELECT is((SELECT concat_ws(' ', title, crm_tags, crm_json, crm_place, crm_note) FROM vcc.tickets WHERE ticket_id = 1),
    'u first "a"=>"1", "b"=>"2" {"a":  "\u0000"} (1,2) n', 'they are as they were');
SELECT is((SELECT count(*) FROM vcc.ticket_events WHERE changes::text LIKE '%crm%'), 0::bigint, 'the journal knows nothing of them');
SELECT is(pg_temp.delete(1), 'deleted', 'a delete');

-- A constraint refuses the rows that violate it, and no others: a delete needs none.
UPDATE vcc.tickets SET cc = 'c';
ALTER TABLE vcc.tickets ALTER cc SET NOT NULL, ADD CHECK (title <> 'poison');
SELECT is(pg_temp.apply('{"delete": 10}', '{"add": 11, "cc": "c"}', '{"update": 1}'), '{unchanged,inserted,ignored}', 'beside deletes of what is not there');
SELECT is(pg_temp.is_deleted(10), true, 'which are remembered');
SELECT is(pg_temp.update(11, '{"title": "a"}'), 'updated', 'an update need not carry the column');
SELECT throws_ok($$ SELECT pg_temp.add(12, '{"title": "a"}') $$, '23502', NULL, 'a new row must');
SELECT throws_ok($$ SELECT pg_temp.apply('{"update": 11, "title": "poison"}', '{"add": 13, "cc": "c"}') $$, '23514', NULL, 'the call fails');
SELECT is(pg_temp.ticket(13), NULL, 'as a whole');
ALTER TABLE vcc.tickets ALTER cc DROP NOT NULL;

-- A trigger of theirs.
CREATE FUNCTION pg_temp.crm() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.title = 'bad' THEN
        RAISE EXCEPTION 'not allowed' USING ERRCODE = 'CRM01';
    END IF;
    NEW.crm_note := concat(NEW.crm_note, '+');
    RETURN NEW;
END
$$;
CREATE TRIGGER crm BEFORE INSERT OR UPDATE ON vcc.tickets FOR EACH ROW EXECUTE FUNCTION pg_temp.crm();
SELECT is(pg_temp.apply('{"add": 20, "title": "a"}', '{"update": 11, "title": "b"}'), '{inserted,updated}', 'may write what it likes');
SELECT is(pg_temp.update(20, '{"title": "a"}'), 'unchanged', 'once for each change');
SELECT is((SELECT string_agg(crm_note, ' ' ORDER BY ticket_id) FROM vcc.tickets WHERE ticket_id IN (11, 20)), '+ +', 'and it counts');
SELECT throws_ok($$ SELECT pg_temp.update(20, '{"title": "bad"}') $$, 'CRM01', NULL, 'its refusal is the call''s error');
DROP TRIGGER crm ON vcc.tickets;

-- A unique index: what a delete or an update gives up is free.
CREATE UNIQUE INDEX ON vcc.tickets (ticket_no);
SELECT pg_temp.apply('{"add": 30, "ticketNo": "a"}', '{"add": 31, "ticketNo": "b"}');
SELECT is(pg_temp.apply('{"add": 32, "ticketNo": "a"}', '{"delete": 30}', '{"add": 33, "ticketNo": "b"}', '{"update": 31, "ticketNo": "c"}'),
    '{inserted,deleted,inserted,updated}', 'in one call');

-- Unknown actions.
SELECT is((SELECT array_agg(concat_ws(': ', result, detail)) FROM vcc.apply_events(project => 1, ticket_id => '{40,41,42}',
    action => '{purge,ADD,NULL}', payload => '{"{}","{}","{}"}')),
    ARRAY['refused: there is no action "purge"', 'refused: there is no action "ADD"', 'refused: there is no action ""'], 'are refused');
SELECT is((SELECT count(*) FROM vcc.ticket_events WHERE ticket_id BETWEEN 40 AND 49), 0::bigint, 'and leave nothing');

-- extra has an end. What was larger before may become smaller.
CREATE FUNCTION pg_temp.much(n integer) RETURNS text LANGUAGE sql AS $$ SELECT repeat('x', n) $$;
SELECT is(pg_temp.update(50, jsonb_build_object('a', pg_temp.much(1048567))), 'inserted', '1 MB');
SELECT is((SELECT octet_length(extra::text) FROM vcc.tickets WHERE ticket_id = 50), 1048576, 'exactly');
SELECT is((SELECT array_agg(r) FROM pg_temp.refused(jsonb_build_object('update', 50, 'a', pg_temp.much(1048568)), '{"update": 51}') r),
    '{refused: extra would be larger than 1048576 bytes,inserted}', 'one byte more');
SELECT is((SELECT count(*) FROM vcc.ticket_events WHERE ticket_id = 50), 1::bigint, 'is not in the journal');
SELECT is(pg_temp.update(50, '{"title": "a"}'), 'updated', 'an update without any still counts');
UPDATE vcc.tickets SET extra = extra || jsonb_build_object('b', pg_temp.much(100)) WHERE ticket_id = 50;
SELECT is(pg_temp.update(50, '{"b": "y"}'), 'updated', 'also one that makes it smaller');
SELECT is(pg_temp.add(52, jsonb_build_object('a', pg_temp.much(1048568))), 'refused', 'a new ticket');
SELECT is((SELECT count(*) FROM vcc.ticket_adds WHERE ticket_id = 52), 0::bigint, 'is no add then');

-- Erased.
SELECT pg_temp.add(60, '{"title": "secret"}');
SELECT vcc.erase_ticket(1, 60);
SELECT is(pg_temp.apply('{"add": 60, "title": "secret", "x": "secret"}', '{"add": 61}'), '{ignored,inserted}', 'an add');
SELECT is(pg_temp.update(60, '{"title": "secret"}') || ' ' || pg_temp.delete(60, '{"title": "secret"}') || ' ' || pg_temp.add(60, '{"cc": "new"}'),
    'ignored ignored ignored', 'and all others are ignored');
SELECT is((SELECT concat_ws(' ', (SELECT string_agg(concat_ws('', payload, changes), ' ') FROM vcc.ticket_events WHERE ticket_id = 60),
    (SELECT count(*) FROM vcc.ticket_adds WHERE ticket_id = 60), (SELECT erased FROM vcc.deleted_tickets WHERE ticket_id = 60))),
    '{} {} {} {} 0 t', 'and leave only that they came');

SELECT * FROM finish();
ROLLBACK;
