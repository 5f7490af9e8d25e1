-- Many events in one call: each is treated as if it came alone, and they are written together.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(41);

-- A version of a row has a place of its own (ctid), so an update that wrote the same values would show.
CREATE FUNCTION pg_temp.version(ticket bigint) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', ctid, t) FROM vcc.tickets t WHERE ticket_id = ticket
$$;
CREATE FUNCTION pg_temp.writes() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(pg_stat_get_xact_tuples_inserted(t) + pg_stat_get_xact_tuples_updated(t)
               + pg_stat_get_xact_tuples_deleted(t))::bigint
      FROM unnest('{vcc.tickets,vcc.deleted_tickets,vcc.ticket_adds}'::regclass[]) t
$$;
CREATE FUNCTION pg_temp.journal() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM vcc.ticket_events $$;

-- Results stand where their events do, in whatever order the tickets are.
SELECT is(pg_temp.apply('{"update": 5, "title": "five"}', '{"add": 3, "title": "three"}', '{"delete": 9}',
                        '{"update": 1, "title": "one"}', '{"add": 4, "title": "four"}', '{"add": 6, "title": "six"}',
                        '{"add": 7, "title": "seven"}'),
    '{inserted,inserted,unchanged,inserted,inserted,inserted,inserted}', 'results in the order of the events');
SELECT is((SELECT array_agg(title ORDER BY ticket_id) FROM vcc.tickets), '{one,three,four,five,six,seven}',
    'each has its own values');
SELECT is((SELECT array_agg(ticket_id) FROM vcc.deleted_tickets), '{9}', 'and the deleted one no row');

-- Every result in one call, each for every reason.
SELECT is(pg_temp.apply('{"delete": 6}', '{"delete": 7}'), '{deleted,deleted}', 'deletes');
CREATE TEMP TABLE before AS
    SELECT pg_temp.version(1) AS one, pg_temp.version(3) AS three, pg_temp.version(4) AS four, pg_temp.journal() AS journal;
SELECT is(pg_temp.apply(
        '{"update": 9, "title": "late"}',
        '{"add": 8, "title": "eight"}',
        '{"update": 5, "title": "5"}',
        '{"update": 1, "title": "one"}',
        '{"add": 7, "title": "seven"}',
        '{"add": 3, "title": "three"}',
        '{"delete": 4}',
        '{"add": 6, "title": "another"}',
        '{"delete": 10}',
        '{"update": 2, "title": "two"}'),
    '{ignored,inserted,updated,unchanged,ignored,unchanged,deleted,inserted,unchanged,inserted}', 'all results in one call');
SELECT is((SELECT array_agg(ticket_id || ' ' || title ORDER BY ticket_id) FROM vcc.tickets),
    '{"1 one","2 two","3 three","5 5","6 another","8 eight"}', 'the tickets there are');
SELECT is((SELECT array_agg(ticket_id ORDER BY ticket_id) FROM vcc.deleted_tickets), '{4,7,9,10}', 'the deletions remembered');
SELECT is(pg_temp.version(1), one, 'an unchanged row is not rewritten') FROM before;
SELECT is(pg_temp.version(3), three, 'nor by an add') FROM before;
SELECT is((SELECT array_agg(first_event_at = last_event_at ORDER BY ticket_id) FROM vcc.tickets), '{t,t,t,f,t,t}',
    'only the updated row has another time of its last event');

-- The journal.
SELECT is(pg_temp.journal() - journal, 10::bigint, 'the journal has a row for each') FROM before;
SELECT is((SELECT array_agg(action || ' ' || ticket_id || ' ' || result ORDER BY received_at)
             FROM (SELECT * FROM vcc.ticket_events ORDER BY received_at DESC LIMIT 10) e),
    '{"update 9 ignored","add 8 inserted","update 5 updated","update 1 unchanged","add 7 ignored","add 3 unchanged",
      "delete 4 deleted","add 6 inserted","delete 10 unchanged","update 2 inserted"}', 'in it is each event''s own result');
SELECT is((SELECT count(*) FROM vcc.ticket_events WHERE payload -> 'ticket' -> 'ticketId' = to_jsonb(ticket_id)
              AND payload ->> 'action' = action), pg_temp.journal(), 'and its own body');
SELECT is((SELECT count(DISTINCT received_at) FROM vcc.ticket_events), pg_temp.journal(), 'and its own time');
SELECT is((SELECT deleted_at FROM vcc.deleted_tickets WHERE ticket_id = 10), pg_temp.now() - interval '1 minute',
    'a deletion too');

-- clears and extra_names are each event's own.
SELECT is(pg_temp.apply('{"update": 1, "cc": "a", "status": "s", "userId": 1, "x": 1, "y": 1}',
                        '{"update": 2, "cc": "b", "x": {"n": null}}',
                        '{"update": 3, "cc": "c", "status": "s", "userId": 3, "y": 3}', '{"update": 5}'),
    '{updated,updated,updated,unchanged}', 'values');
SELECT is(pg_temp.apply('{"update": 1, "cc": null, "userId": null, "x": null}', '{"update": 2}',
                        '{"update": 3, "cc": "d", "status": null, "y": null, "z": [1]}',
                        '{"add": 5, "status": null, "cc": "e", "x": "new"}'),
    '{updated,unchanged,updated,updated}', 'some are cleared');
SELECT is(pg_temp.ticket(1), '{"title": "one", "status": "s", "extra": {"y": 1}}', 'what the first clears is cleared');
SELECT is(pg_temp.ticket(2), '{"title": "two", "cc": "b", "extra": {"x": {"n": null}}}', 'the second clears nothing');
SELECT is(pg_temp.ticket(3), '{"title": "three", "cc": "d", "user_id": 3, "extra": {"z": [1]}}', 'the third a column and a name');
SELECT is(pg_temp.ticket(5), '{"title": "5", "cc": "e", "extra": {"x": "new"}}', 'the first add of the last only fills');

-- A repeat among fresh events: the answer to its commit was lost.
SELECT is(pg_temp.apply('{"update": 20, "title": "a", "event": "00000000-0000-7000-8000-000000000020"}',
                        '{"delete": 21, "event": "00000000-0000-7000-8000-000000000021"}'),
    '{inserted,unchanged}', 'two events');
SELECT is(pg_temp.apply('{"update": 20, "title": "b"}'), '{updated}', 'one of the tickets goes on');
UPDATE before SET journal = pg_temp.journal();
SELECT is(pg_temp.apply('{"update": 23, "title": "c"}', '{"delete": 21, "event": "00000000-0000-7000-8000-000000000021"}',
                        '{"update": 20, "title": "a", "event": "00000000-0000-7000-8000-000000000020"}',
                        '{"update": 22, "title": "b"}'),
    '{inserted,unchanged,inserted,inserted}', 'a repeat''s result is what it did then');
SELECT is((SELECT array_agg(title ORDER BY ticket_id) FROM vcc.tickets WHERE ticket_id >= 20), '{b,b,c}', 'it changes nothing now');
SELECT is(pg_temp.journal() - journal, 2::bigint, 'and the journal has only the fresh') FROM before;

-- A repeat is one of the same ticket.
SELECT is(pg_temp.apply('{"update": 20, "title": "a", "event": "00000000-0000-7000-8000-000000000020"}',
                        '{"delete": 24, "event": "00000000-0000-7000-8000-000000000020"}'), '{inserted,unchanged}', 'one id');
SELECT is((SELECT array_agg(ticket_id || result ORDER BY ticket_id) FROM vcc.ticket_events
            WHERE event_id = '00000000-0000-7000-8000-000000000020'), '{20inserted,24unchanged}', 'two events');

-- Where nothing changes only the journal is written.
CREATE TEMP TABLE writes AS SELECT pg_temp.writes() AS n, pg_temp.journal() AS journal;
SELECT is(pg_temp.apply('{"update": 20, "title": "b"}', '{"update": 1, "cc": null}', '{"add": 3, "title": "three"}',
                        '{"delete": 9}', '{"update": 10, "title": "x"}'),
    '{unchanged,unchanged,unchanged,unchanged,ignored}', 'nothing changes');
SELECT is(pg_temp.writes() - n, 0::bigint, 'nothing is written') FROM writes;
SELECT is(pg_temp.journal() - journal, 5::bigint, 'but the journal') FROM writes;

-- One call is whole or nothing.
SELECT throws_ok($$ SELECT pg_temp.apply('{"update": 30}', '{"delete": 3}', '{"update": null}', '{"update": 31}') $$, '23502', NULL,
    'an event without a ticket is refused');
SELECT is((SELECT array_agg(ticket_id) FROM vcc.tickets WHERE ticket_id IN (3, 30, 31)), '{3}', 'and the others with it');

SELECT throws_ok($$ SELECT pg_temp.apply('{"update": 30}', '{"delete": 3}', '{"update": 30}') $$, '22023', NULL,
    'a ticket is there once');

-- No event.
SELECT is_empty($$ SELECT * FROM vcc.apply_events('{}', '{}', '{}', '{}', '{}', '{}') $$, 'an empty call does nothing');

-- A constraint of the user's: the event that violates it is refused, not tried again for ever.
ALTER TABLE vcc.tickets ADD UNIQUE (ticket_no);
SELECT is(pg_temp.apply('{"update": 50, "ticketNo": "n"}', '{"delete": 51}', '{"update": 52}'), '{inserted,unchanged,inserted}',
    'a delete has no values of the event before it');
SELECT throws_ok($$ SELECT pg_temp.apply('{"update": 53}', '{"update": 54, "ticketNo": "n"}') $$, '23505', NULL, 'a new row');
SELECT is(pg_temp.apply('{"add": 55, "ticketNo": "n"}', '{"update": 50, "ticketNo": "m"}'), '{inserted,updated}',
    'a new row with what another gives up');
SELECT throws_ok($$ SELECT pg_temp.apply('{"update": 53}', '{"update": 52, "ticketNo": "n"}') $$, '23505', NULL, 'a changed one');

-- What each did to its ticket is in its own journal row, also behind those that did nothing.
SELECT is(pg_temp.apply('{"update": 51, "title": "late"}', '{"add": 80, "title": "a"}', '{"delete": 81}', '{"add": 82, "status": "closed"}'),
    '{ignored,inserted,unchanged,inserted}', 'beside events that do nothing');
SELECT is((SELECT array_agg(concat_ws(' ', ticket_id, coalesce(was_open::text, '-'), coalesce(is_open::text, '-'), changes) ORDER BY ticket_id)
             FROM (SELECT * FROM vcc.ticket_events ORDER BY applied_no DESC LIMIT 4) j),
    ARRAY['51 - -', '80 - true {"title": [null, "a"]}', '81 - -', '82 - false {"status": [null, "closed"]}'], 'is what others did');

SELECT * FROM finish();
ROLLBACK;
