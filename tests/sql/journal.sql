-- The journal holds every event as it came; one ticket's history and one day's events are cheap to read.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(25);

-- What is written.
SELECT pg_temp.update(1, '{"title": "a", "z": {"deep": [null]}}', '018daceb-3000-7000-8000-000000000001',
    body => '{"action":"update", "what":"unknown", "ticket":{"projectId":"1","ticketId":1.0,"title":"a","z":{"deep":[null]}}}');
CREATE FUNCTION pg_temp.journal(id uuid) RETURNS text LANGUAGE sql AS $$
    SELECT row(event_id, project_id, ticket_id, action, received_at, result, payload)::text FROM vcc.ticket_events
     WHERE event_id = id
$$;
SELECT is(pg_temp.journal('018daceb-3000-7000-8000-000000000001'),
    row('018daceb-3000-7000-8000-000000000001'::uuid, 1::bigint, 1::bigint, 'update'::text, pg_temp.now(), 'inserted'::text,
        '{"action":"update", "what":"unknown", "ticket":{"projectId":"1","ticketId":1.0,"title":"a","z":{"deep":[null]}}}'::jsonb)::text,
    'id, key, action, time, result, and the whole body');
SELECT pg_temp.delete(1, '{"title": "a"}', '018daceb-3000-7000-8000-000000000002');
SELECT is(pg_temp.journal('018daceb-3000-7000-8000-000000000002'),
    row('018daceb-3000-7000-8000-000000000002'::uuid, 1::bigint, 1::bigint, 'delete'::text, pg_temp.now(), 'deleted'::text,
        '{"action": "delete", "ticket": {"projectId": 1, "ticketId": 1, "title": "a"}}'::jsonb)::text, 'of a delete too');
SELECT pg_temp.update(1, '{}');
SELECT pg_temp.add(1, '{}');
SELECT is((SELECT array_agg(action || ' ' || result ORDER BY received_at) FROM vcc.ticket_events),
    '{update inserted,delete deleted,update ignored,add ignored}', 'also of what was ignored');

-- What it changed: what was there before and is there afterwards, of nothing else.
CREATE FUNCTION pg_temp.last() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', coalesce(was_open::text, '-'), coalesce(is_open::text, '-'), changes) FROM vcc.ticket_events
     ORDER BY applied_no DESC LIMIT 1
$$;
SELECT pg_temp.update(3, '{"title": "a", "cc": "b", "userId": 7, "x": 1, "y": {"z": [2]}}');
SELECT is(pg_temp.last(), concat('- true ', '{"cc": [null, "b"], "extra": {"x": [null, 1], "y": [null, {"z": [2]}]}, '
    '"title": [null, "a"], "user_id": [null, 7]}'::jsonb), 'a first event changes all that it knows');
SELECT pg_temp.update(3, '{"title": "a", "cc": "c", "userId": null, "type": null, "x": null, "y": {"z": [2]}, "w": "3"}');
SELECT is(pg_temp.last(), concat('true true ', '{"cc": ["b", "c"], "extra": {"w": [null, "3"], "x": [1, null]}, '
    '"user_id": [7, null]}'::jsonb), 'an update what is not as it was');
SELECT pg_temp.update(3, '{"title": "a", "x": null}');
SELECT is(pg_temp.last(), '- -', 'where all is as it was, nothing');
SELECT pg_temp.add(3, '{"title": "q", "type": "bug", "x": 5, "w": 6, "softDeadline": "2024-02-15 13:00+01"}');
SELECT is(pg_temp.last(), concat('true true ', '{"type": [null, "bug"], "extra": {"x": [null, 5]}, '
    '"soft_deadline": [null, "2024-02-15T12:00:00+00:00"]}'::jsonb), 'an add that was overtaken only what it fills');
SELECT pg_temp.update(3, '{"status": "closed", "subStatus": "successful"}');
SELECT is(pg_temp.last(), concat('true false ', '{"status": [null, "closed"], "sub_status": [null, "successful"]}'::jsonb),
    'a closed ticket is not open');
SELECT pg_temp.update(3, '{"status": null}');
SELECT is(pg_temp.last(), 'false true {"status": ["closed", null]}', 'any other is');
SELECT pg_temp.delete(3);
SELECT is(pg_temp.last(), concat('true - ', '{"cc": ["c", null], "type": ["bug", null], "title": ["a", null], "extra": '
    '{"w": ["3", null], "x": [5, null], "y": [{"z": [2]}, null]}, "sub_status": ["successful", null], '
    '"soft_deadline": ["2024-02-15T12:00:00+00:00", null]}'::jsonb), 'a delete all that was known');
SELECT pg_temp.update(3, '{"title": "late"}');
SELECT is(pg_temp.last(), '- -', 'what is ignored changes nothing');
SELECT pg_temp.delete(3), pg_temp.delete(4);
SELECT is(pg_temp.last(), '- -', 'nor a delete of what is not there');
SELECT pg_temp.add(3, '{"title": "new", "status": "closed"}');
SELECT is(pg_temp.last(), concat('- false ', '{"title": [null, "new"], "status": [null, "closed"]}'::jsonb),
    'a ticket that comes again begins anew');
SELECT pg_temp.add(99, (SELECT jsonb_object_agg(name, CASE WHEN name ~ 'Id$' THEN '5' WHEN name ~ 'Time$|Deadline$'
    THEN '"2024-02-15T12:00:00Z"' ELSE '"x"' END::jsonb) FROM pg_temp.attributes));
SELECT set_eq($$
    SELECT jsonb_object_keys(changes) FROM vcc.ticket_events WHERE ticket_id = 99
$$, $$
    SELECT col FROM pg_temp.attributes
$$, 'every attribute is written down');

-- A refused event leaves nothing: the journal row and the change of the ticket are one.
SELECT throws_ok($$ SELECT pg_temp.update(2, '{"title": "a"}', body => 'not json') $$, '22P02', NULL, 'not JSON');
SELECT throws_ok($$ SELECT pg_temp.update(2, '{"title": "a"}', body => '{"a": "\u0000"}') $$, '22P05', NULL, 'NUL');
SELECT is((SELECT count(*) FROM vcc.ticket_events WHERE ticket_id = 2), 0::bigint, 'is not in the journal');
SELECT is(pg_temp.ticket(2), NULL, 'nor in the tickets');

-- Unique, so that a repeat conflicts whoever sends it.
SELECT throws_ok($$ INSERT INTO vcc.ticket_events SELECT * FROM vcc.ticket_events LIMIT 1 $$, '23505', NULL,
    'an event is in the journal once');

-- A hundred days of two hundred events, in the order in which they arrive, on a hundred tickets.
DELETE FROM vcc.ticket_events;
INSERT INTO vcc.ticket_events
    SELECT lpad(to_hex(n), 32, '0')::uuid, 1 + n % 2, n % 100, 'update', timestamptz '2024-01-01 00:00:00Z' + n * interval '432 s', 'updated',
           jsonb_build_object('action', 'update', 'padding', repeat(md5(n::text), 5))
      FROM generate_series(0, 19999) n;
ANALYZE vcc.ticket_events;

-- Which plan is cheapest depends on the size of the table and the settings of the server. What we hold is that an index
-- fits the question, gives the order, and how little has to be read, so the planner is told to take one if it can.
SET LOCAL enable_seqscan = off;
SET LOCAL enable_sort = off;
CREATE FUNCTION pg_temp.plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line  text;
    plan  text := '';
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) ' || query LOOP
        plan := plan || line || E'\n';
    END LOOP;
    RETURN plan;
END
$$;
CREATE FUNCTION pg_temp.pages(plan text) RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(m[2]::bigint)::bigint FROM regexp_matches(split_part(split_part(plan, 'Buffers: ', 2), E'\n', 1),
                                                         '(hit|read)=(\d+)', 'g') m
$$;
CREATE TEMP TABLE plans AS
    SELECT pg_temp.plan('SELECT * FROM vcc.ticket_events WHERE project_id = 1 AND ticket_id = 42 ORDER BY event_id') AS history,
           pg_temp.plan($$ SELECT * FROM vcc.ticket_events
                            WHERE received_at >= '2024-02-15 00:00Z' AND received_at < '2024-02-16 00:00Z' $$) AS day;

SELECT matches(history, E'Index Cond: [^\n]*project_id[^\n]*ticket_id', 'a ticket''s history comes from an index') FROM plans;
SELECT doesnt_match(history, '->  Sort', 'in the order of the events') FROM plans;
SELECT matches(history, 'rows=200 loops', 'all of it') FROM plans;
SELECT matches(day, E'Index Cond: [^\n]*received_at', 'a day''s events come from an index') FROM plans;
SELECT matches(day, 'rows=200 loops', 'all of them') FROM plans;
SELECT cmp_ok(pg_temp.pages(day), '<', pg_relation_size('vcc.ticket_events_default') / current_setting('block_size')::bigint / 4,
    'and little else is read') FROM plans;

SELECT * FROM finish();
ROLLBACK;
