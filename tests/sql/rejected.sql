-- Bodies set aside: once each, with a count, until they are applied after all; and files imported.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(31);

-- The n-th receipt, a minute after the one before.
CREATE FUNCTION pg_temp.id(n integer) RETURNS uuid LANGUAGE sql AS $$
    SELECT format('018e0000-0000-7000-8000-%s', lpad(n::text, 12, '0'))::uuid
$$;
CREATE FUNCTION pg_temp.minute(n integer) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT timestamptz '2024-02-15 12:00:00+00' + n * interval '1 minute'
$$;
CREATE FUNCTION pg_temp.reject(n integer, body bytea, reason text = 'bad', project bigint = 0, waited boolean = NULL,
                               iv text = NULL, coding text = NULL) RETURNS void LANGUAGE sql AS $$
    SELECT vcc.reject_event(event_id => pg_temp.id(n), received_at => pg_temp.minute(n), project_id => project,
                            body => body, reason => reason, waited => waited, iv => iv, coding => coding)
$$;
CREATE FUNCTION pg_temp.row_of(body bytea) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.attempts, r.reason,
                     extract(minute FROM r.first_received_at), extract(minute FROM r.last_received_at))
      FROM vcc.rejected_events r WHERE r.body = row_of.body
$$;

SELECT pg_temp.reject(1, '\x00ff');
SELECT is(pg_temp.row_of('\x00ff'), '1 bad 1 1', 'any bytes are kept');
SELECT pg_temp.reject(2, '\x00ff', 'worse');
SELECT is(pg_temp.row_of('\x00ff'), '2 worse 1 2', 'the same again counts, with its latest reason');
SELECT pg_temp.reject(2, '\x00ff', 'worse');
SELECT is(pg_temp.row_of('\x00ff'), '2 worse 1 2', 'the same receipt again does not count');
SELECT pg_temp.reject(1, '\x00ff', 'worse', waited => true);
SELECT is(pg_temp.row_of('\x00ff'), '2 worse 1 2', 'nor does an older one that waited: it may be one of those');
SELECT pg_temp.reject(2, '\x00ff', 'other');
SELECT is(pg_temp.row_of('\x00ff'), '2 other 1 2', 'but its new reason is kept');
SELECT pg_temp.reject(3, '');
SELECT is(pg_temp.row_of(''), '1 bad 3 3', 'an empty body is a body');
SELECT pg_temp.reject(4, convert_to(repeat('x', 1000000), 'UTF8'), repeat('y', 100000));
SELECT is((SELECT octet_length(body) FROM vcc.rejected_events WHERE attempts = 1 AND octet_length(reason) = 100000),
    1000000, 'large ones are kept whole');
SELECT pg_temp.reject(5, '{}', 'bad', 130);
SELECT is((SELECT project_id FROM vcc.rejected_events WHERE body = '{}'), 130::bigint, 'the project where it is known');

SELECT pg_temp.reject(30, 'hot');
SELECT pg_temp.reject(28, 'hot');
SELECT pg_temp.reject(29, 'hot');
SELECT is(pg_temp.row_of('hot'), '3 bad 28 30', 'receipts that come in no order count all the same');
SELECT is((SELECT last_event_id FROM vcc.rejected_events WHERE body = 'hot'), pg_temp.id(30), 'the last is the last');
SELECT pg_temp.reject(31, 'hot', waited => true);
SELECT is(pg_temp.row_of('hot'), '4 bad 28 31', 'one that waited counts where it is the newest');

-- A byte order mark.
SELECT pg_temp.reject(32, '\xefbbbf7b');
SELECT pg_temp.reject(33, '\x7b');
SELECT is(pg_temp.row_of('\xefbbbf7b'), '2 bad 32 33', 'a mark makes no other body, and the first stays as it came');
SELECT is((SELECT digest FROM vcc.rejected_events WHERE body = '\xefbbbf7b'), sha256('\x7b'), 'the digest is without the mark');
SELECT pg_temp.reject(34, '\xefbbbfefbbbf7b');
SELECT is(pg_temp.row_of('\xefbbbfefbbbf7b'), '1 bad 34 34', 'two marks do');

-- What it was sent with.
CREATE FUNCTION pg_temp.kept() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.attempts, r.iv, r.coding) FROM vcc.rejected_events r WHERE r.body = 'sealed'
$$;
SELECT pg_temp.reject(40, 'sealed');
SELECT is(pg_temp.kept(), '1', 'nothing');
SELECT pg_temp.reject(40, 'sealed', iv => '00ff', coding => 'gzip');
SELECT is(pg_temp.kept(), '1 00ff gzip', 'it may come later');
SELECT pg_temp.reject(41, 'sealed', iv => '11', coding => 'br');
SELECT pg_temp.reject(42, 'sealed', 'worse');
SELECT is(pg_temp.kept(), '3 00ff gzip', 'and is never overwritten');

DELETE FROM vcc.rejected_events WHERE last_event_id > pg_temp.id(5);

-- Pages.
CREATE FUNCTION pg_temp.page(since integer, until integer, after integer, most integer) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(right(last_event_id::text, 1), ' ' ORDER BY last_event_id)
      FROM vcc.list_rejected(since => pg_temp.minute(since), until => pg_temp.minute(until), after => pg_temp.id(after),
                             most => most)
$$;
SELECT is(pg_temp.page(0, 9, 0, 9), '2 3 4 5', 'all');
SELECT is(pg_temp.page(0, 9, 0, 2), '2 3', 'the first page');
SELECT is(pg_temp.page(0, 9, 3, 2), '4 5', 'the next');
SELECT is(pg_temp.page(3, 5, 0, 9), '3 4', 'from a time on, and before another');
SELECT is((SELECT array_agg(b::text || ' ' || (SELECT count(*) FROM vcc.list_rejected('2024-01-01', '2025-01-01', pg_temp.id(0), 9, b)) ORDER BY b)
             FROM unnest('{1, 2, 3, 1000002, 1000003}'::bigint[]) b), '{"1 1","2 1","3 3","1000002 3","1000003 4"}',
    'so much, and one body more');

-- Applied after all: forgotten with its last receipt, and only where the journal has it.
SELECT vcc.apply_events(event_id => ARRAY[pg_temp.id(1), pg_temp.id(2)]::uuid[], received_at => '{2024-01-01, 2024-01-01}', action => '{update, update}',
    project_id => '{130, 130}', ticket_id => '{1, 2}', payload => ARRAY['{}', '{}']);
SELECT vcc.forget_rejected(event_id => pg_temp.id(1), project_id => 130, ticket_id => 1);
SELECT is((SELECT count(*) FROM vcc.rejected_events), 4::bigint, 'a body that came again is not forgotten with its older receipt');
SELECT vcc.forget_rejected(event_id => pg_temp.id(2), project_id => 130, ticket_id => 1);
SELECT is((SELECT count(*) FROM vcc.rejected_events), 4::bigint, 'one that is not applied is not forgotten');
SELECT vcc.forget_rejected(event_id => pg_temp.id(2), project_id => 130, ticket_id => 2);
SELECT is((SELECT count(*) FROM vcc.rejected_events), 3::bigint, 'with its last one it is');

-- Imports.
SELECT is(vcc.begin_import('\x01', pg_temp.minute(1)), pg_temp.minute(1), 'a new file begins now');
SELECT is(vcc.begin_import('\x01', pg_temp.minute(2)), pg_temp.minute(1), 'the same file began then');

SELECT is(vcc.import_ended('\x01'), NULL, 'it is not at its end');
SELECT vcc.end_import('\x01', pg_temp.minute(3)), vcc.end_import('\x01', pg_temp.minute(4));
SELECT is(vcc.import_ended('\x01'), pg_temp.minute(3), 'until it is, once');
SELECT is(vcc.import_ended('\x02'), NULL, 'of a file that nobody knows nothing is known');

-- By hand.
SELECT is(ARRAY[vcc.drop_rejected(pg_temp.id(3)), vcc.drop_rejected(pg_temp.id(3))], '{t,f}', 'a body is removed once');

SELECT * FROM finish();
ROLLBACK;
