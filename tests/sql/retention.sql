-- The journal's partitions, what is dropped with age, and what is erased on request.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(44);

-- The identifiers of partitions.
SELECT is(vcc.first_event_id('1970-01-01 00:00:00.001Z'), '00000000-0001-0000-0000-000000000000',
    'milliseconds come first');
SELECT is(vcc.first_event_id('2024-02-15 12:01:00.0009Z'), '018daca4-3860-0000-0000-000000000000',
    'of the microseconds nothing');
SELECT is(vcc.first_event_id('2024-02-15 13:01:00+01'), vcc.first_event_id('2024-02-15 12:01:00Z'),
    'whatever the offset');

-- A year ahead, and once each.
CREATE FUNCTION pg_temp.months() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', '"ticket_events_"YYYY_MM')
      FROM generate_series(0, 12) n
$$;
CREATE FUNCTION pg_temp.partitions() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'vcc.ticket_events'::regclass
$$;
SELECT set_eq('SELECT pg_temp.partitions()', $$ SELECT pg_temp.months() UNION ALL SELECT 'ticket_events_default' $$,
    'migrate makes a partition for this month and each of twelve more');
SELECT is(vcc.prepare_journal(), 0, 'none is missing then');
SELECT lives_ok((SELECT format('DROP TABLE vcc.%I', max(m)) FROM pg_temp.months() m), 'one is missing');
SET LOCAL timezone = 'Pacific/Kiritimati';
SELECT is(vcc.prepare_journal(), 1, 'it is made');
RESET timezone;
SELECT set_eq('SELECT pg_temp.partitions()', $$ SELECT pg_temp.months() UNION ALL SELECT 'ticket_events_default' $$,
    'it alone, in whatever time zone');
SELECT is_empty($$
    SELECT p, count(*) FROM pg_temp.partitions() p JOIN pg_index i ON i.indrelid = format('vcc.%I', p)::regclass
     GROUP BY p HAVING count(*) <> (SELECT count(*) FROM pg_index WHERE indrelid = 'vcc.ticket_events'::regclass)
$$, 'all have the indexes of the journal');
SELECT is_empty($$ SELECT c.oid::regclass FROM pg_class c WHERE c.relispartition AND c.relkind = 'r'
                    AND obj_description(c.oid, 'pg_class') IS NULL $$, 'and say what they are');

SELECT is_empty($$ SELECT p FROM pg_temp.partitions() p
                    WHERE NOT has_table_privilege('vcc_reader', format('vcc.%I', p), 'SELECT') $$, 'vcc_reader may dump them');

-- An event finds its month, or the default partition.
CREATE FUNCTION pg_temp.place(id uuid) RETURNS text LANGUAGE sql AS $$
    SELECT c.relname FROM vcc.ticket_events e JOIN pg_class c ON c.oid = e.tableoid WHERE e.event_id = id
$$;
CREATE FUNCTION pg_temp.id(at timestamptz) RETURNS uuid LANGUAGE sql AS $$
    SELECT overlay(vcc.first_event_id(at)::text PLACING '7001-8000-0123456789ab' FROM 15)::uuid
$$;
SELECT pg_temp.update(1, '{}', pg_temp.id(now()));
SELECT is(pg_temp.place(pg_temp.id(now())), (SELECT min(m) FROM pg_temp.months() m), 'this month');
SELECT pg_temp.update(1, '{}', pg_temp.id(date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'));
SELECT is(pg_temp.place(pg_temp.id(date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')),
    (SELECT min(m) FROM pg_temp.months() m), 'from its first moment');
SELECT pg_temp.update(1, '{}', pg_temp.id('2024-02-15 12:00Z'));
SELECT is(pg_temp.place(pg_temp.id('2024-02-15 12:00Z')), 'ticket_events_default', 'an old one, imported');
SELECT is(vcc.prepare_journal('2024-01-31 22:00-03'), 1, 'whose month gets one when an import asks for it');
SELECT is(pg_temp.place(pg_temp.id('2024-02-15 12:00Z')), 'ticket_events_2024_02', 'and what was there moves');
SELECT pg_temp.update(1, '{}', 'fedcba98-7654-4210-8000-000000000000');
SELECT is(pg_temp.place('fedcba98-7654-4210-8000-000000000000'), 'ticket_events_default', 'another kind of identifier');

-- With columns and constraints of the user's, too.
ALTER TABLE vcc.ticket_events ADD COLUMN title text GENERATED ALWAYS AS (payload -> 'ticket' ->> 'title') STORED,
    ADD COLUMN mine text DEFAULT 'mine', ADD CONSTRAINT mine CHECK (action <> 'x');
SELECT lives_ok((SELECT format('DROP TABLE vcc.%I', max(m)) FROM pg_temp.months() m), 'a month goes');
SELECT pg_temp.update(1, '{"title": "later"}', pg_temp.id(now() + interval '12 months'));
SELECT is(vcc.prepare_journal(), 1, 'it is made again, with a computed column and a check');
SELECT is((SELECT title || mine FROM vcc.ticket_events WHERE event_id = pg_temp.id(now() + interval '12 months')), 'latermine', 'which it has');
ALTER TABLE vcc.ticket_events DROP COLUMN title, DROP COLUMN mine, DROP CONSTRAINT mine;
DELETE FROM vcc.ticket_events WHERE event_id = pg_temp.id(now() + interval '12 months');

-- What came without a partition moves into it.
SELECT lives_ok((SELECT format('DROP TABLE vcc.%I', max(m)) FROM pg_temp.months() m), 'a month goes');
SELECT pg_temp.update(1, '{}', pg_temp.id(now() + interval '12 months'));
SELECT is(pg_temp.place(pg_temp.id(now() + interval '12 months')), 'ticket_events_default',
    'and events of it come all the same');
SELECT is(vcc.prepare_journal(), 1, 'it is made again');
SELECT is(pg_temp.place(pg_temp.id(now() + interval '12 months')), (SELECT max(m) FROM pg_temp.months() m),
    'and has what came meanwhile');
SELECT is((SELECT count(*) FROM vcc.ticket_events_default), 1::bigint, 'and nothing else');

-- What is old goes: whole partitions, rows of others, and bodies that were set aside.
DELETE FROM vcc.ticket_events;
CREATE FUNCTION pg_temp.partition(month text, next text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE vcc.%I PARTITION OF vcc.ticket_events FOR VALUES FROM (%L) TO (%L)',
        to_char(month::date, '"ticket_events_"YYYY_MM'), vcc.first_event_id(month::date), vcc.first_event_id(next::date));
END
$$;
SET LOCAL timezone = 'UTC';
SELECT pg_temp.partition('2023-11-01', '2023-12-01'), pg_temp.partition('2023-12-01', '2024-01-01'),
       pg_temp.partition('2024-01-01', '2024-02-01');
INSERT INTO vcc.ticket_events (event_id, project_id, ticket_id, action, received_at, result, payload)
    SELECT pg_temp.id(at), 1, 5, 'update', at, 'unchanged', '{}'::jsonb
      FROM unnest('{2023-11-03Z,2023-11-30 23:59Z,2023-12-01Z,2024-01-09 23:59:59Z,2024-01-10Z,2024-01-11Z}'::timestamptz[]) at
    UNION ALL
    SELECT 'fedcba98-7654-4210-8000-000000000001', 1, 6, 'update', '2024-01-09Z', 'unchanged', '{}'  -- in the default one
    UNION ALL  -- another application's: of December by its identifier, and received today
    SELECT pg_temp.id('2023-12-02Z'), 1, 7, 'update', now(), 'unchanged', '{}';
SELECT vcc.reject_event(pg_temp.id('2024-01-09Z'), '2024-01-09Z', 1, 'old', 'why');
SELECT vcc.reject_event(pg_temp.id('2024-01-10Z'), '2024-01-10Z', 1, 'new', 'why');
SELECT results_eq($$ SELECT * FROM vcc.drop_events_before('2024-01-10') $$,
    $$ VALUES ('journal, ticket_events_2023_11', 2::bigint), ('journal, other rows', 3), ('bodies that were set aside', 1) $$,
    'the report says what went');
SELECT results_eq('SELECT ticket_id, received_at FROM vcc.ticket_events ORDER BY received_at',
    $$ VALUES (5::bigint, '2024-01-10Z'::timestamptz), (5, '2024-01-11Z'), (7, now()) $$, 'what is younger stays');
SELECT ok('ticket_events_2023_11' NOT IN (SELECT pg_temp.partitions()) AND 'ticket_events_2023_12' IN (SELECT pg_temp.partitions()),
    'a partition with something younger in it too');
SELECT results_eq('SELECT body FROM vcc.rejected_events', $$ VALUES ('new'::bytea) $$, 'also of the bodies');
SET LOCAL timezone = 'Asia/Tokyo';
SELECT results_eq($$ SELECT * FROM vcc.drop_events_before('2024-01-11') $$,
    $$ VALUES ('journal, other rows', 1::bigint), ('bodies that were set aside', 1) $$,
    'a day is one of the session''s time zone');

-- One ticket is erased, its neighbours are not.
SET LOCAL timezone = 'UTC';
SELECT pg_temp.add(8, '{"title": "a"}'), pg_temp.add(9, '{"title": "b"}'), pg_temp.add(8, '{"title": "c"}', project => 2),
       pg_temp.update(8, '{"title": "d"}');
SELECT vcc.reject_event(gen_random_uuid(), now(), p, b, 'why')
  FROM (SELECT p, convert_to(b, 'UTF8')
          FROM (VALUES
               (1, '{"ticket": {"projectId": 1, "ticketId": 8, "userId": "x"}}'),
               (1, E'\ufeff{"ticket": {"projectId": "1", "ticketId": 8.0, "title": "\\u0000"}}'),
               (0, '{"ticket": {"ticketId": 9, "projectId": 1, "ticketId": "8"}}'),
               (1, '{"ticket": {"projectId": 1, "ticketId": 9, "userId": "x"}}'),
               (2, '{"ticket": {"projectId": 2, "ticketId": 8, "userId": "x"}}'),
               (1, '{"ticket": {"projectId": 1, "title": "whose?"}}'),
               (0, '[1]'), (0, 'not JSON'), (0, repeat('[', 100000)), (2, 'not ours')) v (p, b)
        UNION ALL SELECT 0, '\xff'::bytea) r (p, b);
SELECT results_eq('SELECT * FROM vcc.erase_ticket(1, 8)', $$ VALUES
    ('ticket', 1::bigint), ('digests of its adds', 1), ('journal', 2), ('bodies that were set aside', 3),
    ('left: bodies of this project, or of none, that cannot be read', 5) $$, 'the report says what went');
SELECT is_empty($$ SELECT FROM vcc.tickets WHERE (project_id, ticket_id) = (1, 8) UNION ALL
                   SELECT FROM vcc.ticket_events WHERE (project_id, ticket_id) = (1, 8) UNION ALL
                   SELECT FROM vcc.ticket_adds WHERE (project_id, ticket_id) = (1, 8) $$, 'nothing of it is there');
SELECT results_eq('SELECT project_id, ticket_id FROM vcc.tickets WHERE ticket_id IN (8, 9) ORDER BY 1',
    $$ VALUES (1::bigint, 9::bigint), (2, 8) $$, 'its neighbours are');
SELECT is((SELECT count(*) FROM vcc.rejected_events), 8::bigint, 'and their bodies');
SELECT is(pg_temp.update(8, '{"title": "late"}'), 'ignored', 'no late update brings it back');
SELECT is(pg_temp.add(8, '{"title": "late"}'), 'ignored', 'nor a late add');
SELECT is(pg_temp.add(8, '{"title": "later"}'), 'ignored', 'nor the second of two');
SELECT results_eq($$ SELECT payload::text, changes::text FROM vcc.ticket_events WHERE (project_id, ticket_id) = (1, 8) $$,
    $$ VALUES ('{}', NULL), ('{}', NULL), ('{}', NULL) $$, 'the journal knows that they came, and nothing else');
SELECT vcc.reject_event(gen_random_uuid(), now(), 1, convert_to(format('{"ticket": {"projectId": 1, "ticketId": %s}}', t), 'UTF8'),
                        'why', ticket_id => t) FROM unnest('{8,10,11}'::bigint[]) t;
SELECT is((SELECT count(*) FROM vcc.rejected_events), 10::bigint, 'what is refused of it is not set aside, as that of others is');
SELECT results_eq('SELECT rows FROM vcc.erase_ticket(1, 77)', 'VALUES (0::bigint), (0), (0), (0), (5)',
    'one that nobody knows');
SELECT is(pg_temp.add(77, '{"title": "new"}'), 'inserted', 'may still come');

-- A body that SQL cannot read goes with the ticket that the handler read.
SELECT vcc.reject_event(gen_random_uuid(), now(), 1, '\x1f8b', 'why', NULL, NULL, 'gzip', 78);
SELECT vcc.reject_event(gen_random_uuid(), now(), 1, '\x1f8c', 'why', NULL, NULL, 'gzip', 79);
SELECT results_eq('SELECT rows FROM vcc.erase_ticket(1, 78) OFFSET 3', 'VALUES (1::bigint), (5)', 'it alone');
SELECT vcc.reject_event(gen_random_uuid(), now(), 1, '\x1f8d', 'why', NULL, NULL, 'gzip', 78);
SELECT is((SELECT count(*) FROM vcc.rejected_events WHERE ticket_id = 78), 0::bigint, 'and does not come again');
SELECT is((SELECT count(*) FROM vcc.rejected_events WHERE ticket_id = 79), 1::bigint, 'as another does');

SELECT * FROM finish();
ROLLBACK;
