-- "What an event does", the row of the delete: with a row, without one, after a delete.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(22);

CREATE FUNCTION pg_temp.deleted_at(ticket bigint) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT deleted_at FROM vcc.deleted_tickets WHERE project_id = 1 AND ticket_id = ticket
$$;

SELECT pg_temp.add(1, '{"title": "a"}');
SELECT pg_temp.add(1, '{"title": "a"}', project => 2);
SELECT pg_temp.add(2, '{"title": "a"}');
SELECT is(pg_temp.delete(1, '{"title": "a"}'), 'deleted', 'delete with a row deletes');
SELECT is(pg_temp.ticket(1), NULL, 'the row is gone');
SELECT is(pg_temp.deleted_at(1), pg_temp.now(), 'the deletion is remembered with its time');
SELECT is(pg_temp.ticket(1, 2), '{"title": "a"}', 'not the ticket of another project');
SELECT is(pg_temp.ticket(2), '{"title": "a"}', 'not another ticket');
SELECT is((SELECT count(*) FROM vcc.deleted_tickets), 1::bigint, 'nor a deletion of one');

SELECT is(pg_temp.delete(1), 'unchanged', 'the second delete finds nothing');
SELECT is(pg_temp.deleted_at(1), pg_temp.minute(4), 'the first one counts');

SELECT is(pg_temp.delete(3), 'unchanged', 'delete without a row');
SELECT is(pg_temp.ticket(3), NULL, 'makes none');
SELECT is(pg_temp.deleted_at(3), pg_temp.now(), 'and remembers the deletion');

-- Through all of a ticket's life.
SELECT is(pg_temp.add(1, '{"title": "b"}'), 'inserted', 'a new add');
SELECT is(pg_temp.deleted_at(1), NULL, 'forgets the deletion');
SELECT is(pg_temp.delete(1), 'deleted', 'delete again');
SELECT is(pg_temp.deleted_at(1), pg_temp.now(), 'is remembered anew');
SELECT is(pg_temp.update(1, '{"title": "late"}'), 'ignored', 'keeps updates out');
SELECT is(pg_temp.add(1, '{"title": "b"}'), 'ignored', 'and repeats');
SELECT is(pg_temp.ticket(1), NULL, 'gone it is');

-- A deletion leaves no trace of the ticket but the journal and the memory of its adds.
SELECT is((SELECT array_agg(result ORDER BY received_at) FROM vcc.ticket_events WHERE project_id = 1 AND ticket_id = 1),
    '{inserted,deleted,unchanged,inserted,deleted,ignored,ignored}', 'the journal tells it all');
SELECT is((SELECT count(*) FROM vcc.ticket_adds WHERE project_id = 1 AND ticket_id = 1), 2::bigint,
    'two different adds are remembered');

-- A ticket that was deleted elsewhere, by hand: no deletion is remembered, so events count.
SELECT pg_temp.add(4, '{"title": "a"}');
DELETE FROM vcc.tickets WHERE project_id = 1 AND ticket_id = 4;
SELECT is(pg_temp.update(4, '{"title": "b"}'), 'inserted', 'no deletion, no memory of one');
SELECT is(pg_temp.delete(4), 'deleted', 'delete');

SELECT * FROM finish();
ROLLBACK;
