-- Housekeeping columns may follow those of the contract, also ones that a user adds: the functions leave them alone.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(10);

SELECT is(pg_temp.add(1, '{"title": "a"}'), 'inserted', 'a row from before');
ALTER TABLE vcc.tickets ADD COLUMN house_note text, ADD COLUMN house_flag boolean NOT NULL DEFAULT true;
UPDATE vcc.tickets SET house_note = 'kept' WHERE ticket_id = 1;

SELECT lives_ok($$ SELECT pg_temp.add(2, '{"title": "a"}') $$, 'a new row');
SELECT is((SELECT house_flag FROM vcc.tickets WHERE ticket_id = 2), true, 'gets the default of the column');
SELECT is(pg_temp.update(1, '{"title": "a"}'), 'unchanged', 'what changes nothing still changes nothing');
SELECT is(pg_temp.update(1, '{"title": "b"}'), 'updated', 'update');
SELECT is(pg_temp.update(1, '{"title": null}'), 'updated', 'update that clears');
SELECT is((SELECT house_note FROM vcc.tickets WHERE ticket_id = 1), 'kept', 'leaves the column alone');
SELECT is(pg_temp.delete(1), 'deleted', 'delete');
SELECT lives_ok($$ SELECT pg_temp.delete(3) $$, 'delete without a row');
SELECT is((SELECT count(*) FROM vcc.deleted_tickets), 2::bigint, 'both are remembered');

SELECT * FROM finish();
ROLLBACK;
