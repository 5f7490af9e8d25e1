-- Housekeeping columns may follow those of the contract, also ones that a user adds: the functions leave them alone.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(13);

-- Not by a function: within a transaction it would remember the columns as they were.
INSERT INTO vcc.tickets (project_id, ticket_id, title, first_event_at, last_event_at) VALUES (1, 1, 'a', now(), now());
SELECT is(count(*), 1::bigint, 'a row from before') FROM vcc.tickets WHERE ticket_id = 1;
ALTER TABLE vcc.tickets ADD COLUMN house_note text, ADD COLUMN house_json json, ADD COLUMN house_place point,
    ADD COLUMN house_jsonb jsonb, ADD COLUMN house_flag boolean NOT NULL DEFAULT true,
    ADD COLUMN house_loud text GENERATED ALWAYS AS (upper(title)) STORED;
UPDATE vcc.tickets SET house_note = 'kept', house_json = '{"a":  null}', house_place = '(1,2)', house_jsonb = '{"a": null}'
 WHERE ticket_id = 1;

SELECT lives_ok($$ SELECT pg_temp.add(2, '{"title": "a"}') $$, 'a new row');
SELECT is((SELECT house_flag FROM vcc.tickets WHERE ticket_id = 2), true, 'gets the default of the column');
SELECT is(pg_temp.update(1, '{"title": "a"}'), 'unchanged', 'what changes nothing still changes nothing');
SELECT is(pg_temp.update(1, '{"title": "b"}'), 'updated', 'update');
SELECT is((SELECT house_loud FROM vcc.tickets WHERE ticket_id = 1), 'B', 'and makes what is generated from it');
SELECT is(pg_temp.update(1, '{"title": null}'), 'updated', 'update that clears');
SELECT is((SELECT concat_ws(' ', house_note, house_json, house_place, house_jsonb) FROM vcc.tickets WHERE ticket_id = 1),
    'kept {"a":  null} (1,2) {"a": null}', 'leaves the columns alone');
SELECT is(pg_temp.update(1, '{"title": null}'), 'unchanged', 'a type without equality is not compared');
SELECT is(pg_temp.add(1, '{"title": null}'), 'unchanged', 'nor what it holds, by an add that fills nothing');
SELECT is(pg_temp.delete(1), 'deleted', 'delete');
SELECT lives_ok($$ SELECT pg_temp.delete(3) $$, 'delete without a row');
SELECT is((SELECT count(*) FROM vcc.deleted_tickets), 2::bigint, 'both are remembered');

SELECT * FROM finish();
ROLLBACK;
