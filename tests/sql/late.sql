-- Events that waited undo nothing that was received after them. The last two digits of an id are the order of receipt.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(47);

CREATE FUNCTION pg_temp.take(action text, ticket bigint, n integer, a jsonb, waited boolean) RETURNS text LANGUAGE sql AS $$
    SELECT c.result FROM (SELECT pg_temp.body(action, ticket, a, 1) AS b) x, pg_temp.call(
        ARRAY[action], ARRAY[ticket], ARRAY[a], ARRAY[format('018d0000-0000-7000-8000-%s', lpad(n::text, 12, '0'))::uuid],
        '{1}', ARRAY[CASE WHEN n = 5 THEN replace(b, 'subStatus', 'substatus') ELSE b END], ARRAY[pg_temp.minute(n)], ARRAY[waited]) c
$$;
CREATE FUNCTION pg_temp.fresh(action text, ticket bigint, n integer, a jsonb = '{}') RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.take(action, ticket, n, a, false)
$$;
CREATE FUNCTION pg_temp.late(action text, ticket bigint, n integer, a jsonb = '{}') RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.take(action, ticket, n, a, true)
$$;
CREATE FUNCTION pg_temp.times(ticket bigint) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', extract(epoch FROM first_event_at - pg_temp.minute(0))::int / 60,
                          extract(epoch FROM last_event_at - pg_temp.minute(0))::int / 60)
      FROM vcc.tickets t WHERE t.ticket_id = times.ticket
$$;

-- What a later event carried stays.
SELECT is(pg_temp.fresh('add', 1, 1, '{"title": "a", "cc": "a", "status": "a", "x": 1, "y": 1}'), 'inserted', 'an add');
SELECT is(pg_temp.fresh('update', 1, 5, '{"title": "a", "subStatus": "e", "status": null, "x": 1}'), 'updated', 'an update');
SELECT is(pg_temp.late('update', 1, 3, '{"title": "c", "subStatus": "c", "status": "c", "cc": "c", "x": 3, "y": 3}'), 'updated', 'a late one');
SELECT is(pg_temp.ticket(1), '{"title": "a", "sub_status": "e", "cc": "c", "extra": {"x": 1, "y": 3}}',
    'changes only what the later one did not carry: a repeat of a value, a null and another spelling protect it, too');
SELECT is(pg_temp.times(1), '1 5', 'the time of the last event does not go back');
SELECT is((SELECT changes FROM vcc.ticket_events ORDER BY applied_no DESC LIMIT 1), '{"cc": ["a", "c"], "extra": {"y": [1, 3]}}', 'the journal says so');
SELECT is(pg_temp.late('update', 1, 4, '{"title": null, "cc": null, "y": null}'), 'updated', 'nulls of a late one');
SELECT is(pg_temp.ticket(1), '{"title": "a", "sub_status": "e", "extra": {"x": 1}}', 'clear no more');
SELECT is(pg_temp.late('update', 1, 3, '{"cc": "again"}'), 'updated', 'one that was here before returns what it did');
SELECT is(pg_temp.ticket(1), '{"title": "a", "sub_status": "e", "extra": {"x": 1}}', 'and does nothing');
SELECT is(pg_temp.fresh('update', 1, 2, '{"title": "z"}'), 'updated', 'one that did not wait counts, whatever the clocks say');
SELECT is(pg_temp.ticket(1) ->> 'title', 'z', 'in the order in which it was taken');
SELECT is(pg_temp.times(1), '1 5', 'but for the time of the last event');

-- The first add fills, but not what a later event cleared.
SELECT is(pg_temp.fresh('update', 2, 5, '{"title": "e"}'), 'inserted', 'an update');
SELECT is(pg_temp.fresh('update', 2, 6, '{"title": null}'), 'updated', 'clears');
SELECT is(pg_temp.late('add', 2, 1, '{"title": "a", "cc": "a"}'), 'updated', 'the first add comes late');
SELECT is(pg_temp.ticket(2), '{"cc": "a"}', 'and fills what nobody knew');

-- Deletions.
SELECT is(pg_temp.fresh('add', 3, 1, '{"title": "a"}'), 'inserted', 'an add');
SELECT is(pg_temp.fresh('delete', 3, 4), 'deleted', 'a delete');
SELECT is(pg_temp.late('add', 3, 2, '{"title": "b"}'), 'ignored', 'a late add from before it');
SELECT is(pg_temp.fresh('add', 3, 6, '{"title": "f"}'), 'inserted', 'added again');
SELECT is(pg_temp.late('update', 3, 3, '{"title": "c", "cc": "c"}'), 'ignored', 'a late update from before the deletion');
SELECT is(pg_temp.late('add', 3, 2, '{"title": "d", "cc": "c"}'), 'ignored', 'and an add with it');
SELECT is(pg_temp.late('delete', 3, 5), 'ignored', 'a late delete');
SELECT is(pg_temp.ticket(3), '{"title": "f"}', 'does not delete what was added again');
SELECT is(pg_temp.fresh('add', 4, 2, '{"title": "a"}'), 'inserted', 'a first add');
SELECT is(pg_temp.late('delete', 4, 1), 'deleted', 'is not another one: it was overtaken');
SELECT is(pg_temp.late('delete', 4, 3), 'unchanged', 'a late delete of what is gone');

-- Set aside.
SELECT vcc.reject_event('018d0000-0000-7000-8000-000000000008', pg_temp.minute(8), 1, convert_to(pg_temp.body('update', 5, '{"title": "a"}', 1), 'UTF8'), 'why');
SELECT vcc.reject_event('018d0000-0000-7000-8000-000000000009', pg_temp.minute(9), 1, convert_to(pg_temp.body('update', 5, '{"title": "a"}', 1), 'UTF8'), 'why');
SELECT is(pg_temp.late('update', 5, 8, '{"title": "a"}'), 'refused', 'one that was set aside since');
SELECT is((SELECT count(*) FROM vcc.ticket_events WHERE ticket_id = 5), 0::bigint, 'is not in the journal');
SELECT is(pg_temp.late('update', 5, 10, '{"title": "a"}'), 'inserted', 'the same body, received later, counts');
SELECT is(pg_temp.late('update', 5, 7, '{"title": "a"}'), 'unchanged', 'and one that was received before all that were set aside');

-- Behind the horizon nobody knows what was carried.
SET LOCAL timezone = 'UTC';
SELECT is(pg_temp.fresh('add', 6, 100, '{"title": "a", "x": 1}'), 'inserted', 'a ticket');
SELECT is(pg_temp.fresh('add', 8, 100, '{"title": "a"}') || ' ' || pg_temp.fresh('delete', 8, 110), 'inserted deleted', 'one that was deleted');
SELECT lives_ok($$ SELECT vcc.drop_events_before((pg_temp.minute(0) + interval '1 day')::date) $$, 'the journal is cut');
SELECT lives_ok($$ SELECT vcc.drop_events_before('2000-01-01') $$, 'not less by an older day');
SELECT is(pg_temp.late('update', 6, 101, '{"title": "b", "cc": "b", "x": 2, "y": 2}'), 'updated', 'an update from before');
SELECT is(pg_temp.ticket(6), '{"title": "a", "cc": "b", "extra": {"x": 1, "y": 2}}', 'fills');
SELECT is(pg_temp.late('update', 6, 102, '{"title": null}'), 'unchanged', 'clears nothing');
SELECT is(pg_temp.late('delete', 6, 103), 'ignored', 'a delete deletes nothing');
SELECT is(pg_temp.late('update', 7, 104, '{"title": "b"}'), 'inserted', 'a missing ticket is made');
SELECT is(pg_temp.late('add', 8, 105, '{"title": "b"}'), 'ignored', 'a deleted one is not, by an add from before its deletion');
SELECT is((SELECT count(*) FROM vcc.deleted_tickets WHERE ticket_id = 8), 1::bigint, 'which is remembered');
SELECT is(pg_temp.late('delete', 8, 110), 'unchanged', 'nor by the deletion again');
SELECT is(pg_temp.late('add', 8, 120, '{"title": "c"}'), 'inserted', 'an add from after it makes it again');
SELECT is(pg_temp.late('update', 6, 10000, '{"title": "c"}'), 'updated', 'from after it');
SELECT is(pg_temp.ticket(6) ->> 'title', 'c', 'all counts');

SELECT * FROM finish();
ROLLBACK;
