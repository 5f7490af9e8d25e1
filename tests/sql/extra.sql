-- Attributes without a column are merged by name into extra.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(31);

CREATE FUNCTION pg_temp.extra(ticket bigint) RETURNS jsonb LANGUAGE sql AS $$
    SELECT extra FROM vcc.tickets WHERE project_id = 1 AND ticket_id = ticket
$$;

-- Any JSON value, and nothing that has a column.
SELECT is(pg_temp.add(1, '{"title": "t", "s": "x", "n": 1.50, "b": false, "a": [1, null], "o": {"p": null, "q": {"r": null}},
                           "e": "", "z": {}, "big": 123456789012345678901234567890}'), 'inserted', 'add');
SELECT is(pg_temp.extra(1)::text, ('{"s": "x", "n": 1.50, "b": false, "a": [1, null], "o": {"p": null, "q": {"r": null}},
                           "e": "", "z": {}, "big": 123456789012345678901234567890}'::jsonb)::text,
    'any value is kept as it came, nested nulls too');
SELECT is(pg_temp.add(2, '{"title": "t", "x": null}'), 'inserted', 'null in a new ticket');
SELECT is(pg_temp.extra(2), '{}', 'is no attribute');

-- Merging by name, on the first level only.
SELECT is(pg_temp.update(1, '{"s": "y", "o": {"new": 1}}'), 'updated', 'update');
SELECT is(pg_temp.extra(1), '{"s": "y", "n": 1.50, "b": false, "a": [1, null], "o": {"new": 1}, "e": "", "z": {},
                              "big": 123456789012345678901234567890}', 'a name sent is replaced whole, others stay');
SELECT is(pg_temp.update(1, '{"s": null, "n": null, "new": [null]}'), 'updated', 'nulls');
SELECT is(pg_temp.extra(1), '{"b": false, "a": [1, null], "o": {"new": 1}, "e": "", "z": {}, "new": [null],
                              "big": 123456789012345678901234567890}', 'remove their names');
SELECT is(pg_temp.update(1, '{"s": null, "never": null}'), 'unchanged', 'null for an unknown name changes nothing');
SELECT is(pg_temp.update(1, '{"title": "u"}'), 'updated', 'an update without any');
SELECT is(pg_temp.extra(1) -> 'b', 'false', 'leaves extra alone');
SELECT is(pg_temp.update(1, '{"b": false}'), 'unchanged', 'the same value changes nothing');
SELECT is(pg_temp.update(1, '{"b": null, "a": null, "o": null, "e": null, "z": null, "new": null, "big": null}'),
    'updated', 'all removed');
SELECT is(pg_temp.extra(1), '{}', 'leave an empty object');

-- Names are case-sensitive and may be anything, also a column's name or one that means something to PostgreSQL.
SELECT is(pg_temp.update(3, '{"Title": 1, "extra": 2, "first_event_at": 3, "": 4, "{}": 5, "a,b": 6, "\"": 7, "NULL": 8}'),
    'inserted', 'odd names');
SELECT is(pg_temp.ticket(3), '{"extra": {"Title": 1, "extra": 2, "first_event_at": 3, "": 4, "{}": 5, "a,b": 6,
                               "\"": 7, "NULL": 8}}', 'are names like others');
SELECT is(pg_temp.update(3, '{"Title": null, "": null, "a,b": null, "NULL": null}'), 'updated', 'and are removed');
SELECT is(pg_temp.extra(3), '{"extra": 2, "first_event_at": 3, "{}": 5, "\"": 7}', 'by exactly that name');

-- A name twice in one object: the last counts.
SELECT is(pg_temp.update(4, '{"a": 2}',
    body => '{"action": "update", "ticket": {"projectId": 1, "ticketId": 4, "a": 1, "a": 2}}'), 'inserted', 'a name twice');
SELECT is(pg_temp.extra(4), '{"a": 2}', 'the last counts');
SELECT is((SELECT payload -> 'ticket' -> 'a' FROM vcc.ticket_events WHERE project_id = 1 AND ticket_id = 4), '2',
    'in the journal alike');
SELECT is(pg_temp.update(4, '{"a": null}',
    body => '{"action": "update", "ticket": {"projectId": 1, "ticketId": 4, "a": 3, "a": null}}'), 'updated', 'null last');
SELECT is(pg_temp.extra(4), '{}', 'removes it');

-- The first add fills by name.
SELECT is(pg_temp.update(5, '{"known": {"a": 1}, "falsy": false, "gone": 1}'), 'inserted', 'update first');
SELECT is(pg_temp.update(5, '{"gone": null}'), 'updated', 'one name removed');
SELECT is(pg_temp.add(5, '{"known": {"a": 2, "b": 3}, "falsy": true, "new": {"n": null}, "gone": 2, "null": null}'),
    'updated', 'first add');
SELECT is(pg_temp.extra(5), '{"known": {"a": 1}, "falsy": false, "new": {"n": null}, "gone": 2}',
    'known names stay whole, unknown and removed ones are filled');
SELECT is(pg_temp.update(6, '{"known": 1}'), 'inserted', 'update first');
SELECT is(pg_temp.add(6, '{"known": null}'), 'unchanged', 'null in the first add');
SELECT is(pg_temp.extra(6), '{"known": 1}', 'removes nothing');
SELECT is(pg_temp.add(6, '{"known": null, "other": 1}'), 'updated', 'null in a later one does');

SELECT * FROM finish();
ROLLBACK;
