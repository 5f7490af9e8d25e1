-- vcc.apply_events, told to be tolerant: an event whose row a constraint refuses is left out, the others are applied.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(19);

CREATE FUNCTION pg_temp.tolerant(VARIADIC events jsonb[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT pg_temp.batch(events, true)
$$;

ALTER TABLE vcc.tickets ADD CONSTRAINT "odd, {name}|\" CHECK (title <> 'poison');
SELECT is(pg_temp.tolerant('{"add": 60, "title": "a"}', '{"add": 61, "title": "poison"}', '{"update": 62, "title": "c"}'),
    ARRAY['inserted', '!23514||odd, {name}|\', 'inserted'], 'of three new ones');
SELECT is((SELECT array_agg(ticket_id ORDER BY ticket_id) FROM vcc.tickets WHERE ticket_id BETWEEN 60 AND 69), '{60,62}',
    'its ticket is not there');
SELECT is((SELECT array_agg(ticket_id ORDER BY ticket_id) FROM vcc.ticket_events WHERE ticket_id BETWEEN 60 AND 69), '{60,62}',
    'nor its event');
SELECT is((SELECT array_agg(ticket_id) FROM vcc.ticket_adds WHERE ticket_id BETWEEN 60 AND 69), '{60}',
    'nor is it remembered as an add');
SELECT is((pg_temp.tolerant('{"update": 60, "title": "poison"}', '{"update": 62, "title": "d"}', '{"delete": 66}'))[2:3],
    '{updated,unchanged}', 'of changes, beside the delete of a ticket that was never seen');
SELECT is((SELECT array_agg(title ORDER BY ticket_id) FROM vcc.tickets WHERE ticket_id IN (60, 62)), '{a,d}',
    'it stays as it was');
SELECT is(pg_temp.tolerant('{"update": 60, "title": "poison"}', '{"update": 62, "title": "poison"}',
                        '{"update": 67, "title": "poison"}'),
    array_fill('!23514||odd, {name}|\'::text, ARRAY[3]), 'all of them');
SELECT is(pg_temp.tolerant('{"update": 60, "title": "poison"}'), ARRAY['!23514||odd, {name}|\'], 'one that is alone');
SELECT throws_ok($$ SELECT pg_temp.apply('{"update": 60, "title": "poison"}', '{"update": 62, "title": "e"}') $$, '23514', NULL,
    'a call that is not tolerant fails');
SELECT is(pg_temp.tolerant('{"add": 63, "title": "a"}', '{"delete": 60}'), '{inserted,deleted}', 'one that was added');
SELECT is(pg_temp.tolerant('{"delete": 63}'), '{deleted}', 'and deleted');
SELECT is((pg_temp.tolerant('{"add": 63, "title": "poison"}', '{"add": 64}'))[2], 'inserted', 'is not brought back by a refused add');
SELECT is((SELECT count(*) FROM vcc.deleted_tickets WHERE ticket_id = 63), 1::bigint, 'stays deleted');
SELECT is(pg_temp.tolerant('{"add": 63, "title": "b"}', '{"update": 64, "cc": "c"}'), '{inserted,updated}', 'and is by a good one');

UPDATE vcc.tickets SET cc = 'c';
ALTER TABLE vcc.tickets ALTER cc SET NOT NULL;
SELECT is(pg_temp.apply('{"delete": 74}'), '{unchanged}', 'a delete of what is not there needs no row, which there may not be');
SELECT is(pg_temp.tolerant('{"delete": 70}', '{"add": 71, "title": "no cc"}', '{"delete": 72}', '{"add": 73, "cc": "c"}'),
    '{unchanged,!23502|cc|,unchanged,inserted}', 'nor beside others');
SELECT is((SELECT array_agg(ticket_id ORDER BY ticket_id) FROM vcc.deleted_tickets WHERE ticket_id BETWEEN 70 AND 79), '{70,72,74}', 'and is remembered');
SELECT is(pg_temp.tolerant('{"update": 70, "cc": "c"}', '{"add": 72, "cc": "c"}'), '{ignored,ignored}', 'as any other');

ALTER TABLE vcc.ticket_events ADD CHECK (result <> 'ignored') NOT VALID;
SELECT throws_ok($$ SELECT pg_temp.tolerant('{"update": 66, "title": "c"}', '{"update": 64}') $$, '23514', NULL,
    'a row of another table is nobody''s fault that could be told');

SELECT * FROM finish();
ROLLBACK;
