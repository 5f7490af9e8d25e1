-- Nothing is written where nothing changes: a sender that retries leaves no dead rows behind.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(39);

-- A version of a row has a place of its own (ctid), so an update that wrote the same values would show.
CREATE FUNCTION pg_temp.versions() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(E'\n', (SELECT string_agg(concat_ws(' ', ctid, xmin, t), E'\n' ORDER BY ctid) FROM vcc.tickets t),
                            (SELECT string_agg(concat_ws(' ', ctid, xmin, d), E'\n' ORDER BY ctid) FROM vcc.deleted_tickets d))
$$;

-- Rows written to both tables so far, also those that are deleted again at once and that no query can see.
CREATE FUNCTION pg_temp.writes() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(pg_stat_get_xact_tuples_inserted(t) + pg_stat_get_xact_tuples_updated(t) + pg_stat_get_xact_tuples_deleted(t))::bigint
      FROM unnest('{vcc.tickets,vcc.deleted_tickets,vcc.ticket_adds}'::regclass[]) t
$$;

SELECT pg_temp.add(1, '{"title": "a", "userId": 1, "softDeadline": "2024-02-15T12:00:00Z", "colour": {"a": [1, null]}}');
SELECT pg_temp.update(2, '{"title": "a", "status": "park"}');
SELECT pg_temp.add(2, '{"title": "b"}');
SELECT pg_temp.add(3, '{"title": "a"}');
SELECT pg_temp.delete(3);
SELECT pg_temp.delete(4);
CREATE TEMP TABLE before AS SELECT pg_temp.versions() AS versions, pg_temp.writes() AS writes;

-- Each call runs once, in order; what it must answer; how many rows it may write: the memory of a new add is one.
CREATE TEMP TABLE calls (n serial, what text, answer text, writes bigint, call text);
INSERT INTO calls (what, answer, writes, call) VALUES
    ('update with the same values', 'unchanged', 0, $$ pg_temp.update(1, '{"title": "a", "userId": 1}') $$),
    ('update with the same time in another zone', 'unchanged', 0,
        $$ pg_temp.update(1, '{"softDeadline": "2024-02-15T13:00:00+01:00"}') $$),
    ('update with the same extra', 'unchanged', 0, $$ pg_temp.update(1, '{"colour": {"a": [1, null]}}') $$),
    ('update with nothing', 'unchanged', 0, $$ pg_temp.update(1, '{}') $$),
    ('update with null for what is unknown', 'unchanged', 0, $$ pg_temp.update(1, '{"cc": null, "x": null}') $$),
    ('the same add', 'unchanged', 0, $$ pg_temp.add(1,
        '{"title": "a", "userId": 1, "softDeadline": "2024-02-15T12:00:00Z", "colour": {"a": [1, null]}}') $$),
    ('another add with the same values', 'unchanged', 1, $$ pg_temp.add(1, '{"title": "a"}') $$),
    ('that add again', 'unchanged', 0, $$ pg_temp.add(1, '{"title": "a"}') $$),
    ('the first add again, which filled nothing', 'unchanged', 0, $$ pg_temp.add(2, '{"title": "b"}') $$),
    ('update of a deleted ticket', 'ignored', 0, $$ pg_temp.update(3, '{"title": "b"}') $$),
    ('repeated add of a deleted ticket', 'ignored', 0, $$ pg_temp.add(3, '{"title": "a"}') $$),
    ('delete of a deleted ticket', 'unchanged', 0, $$ pg_temp.delete(3) $$),
    ('and of one that never was', 'unchanged', 0, $$ pg_temp.delete(4) $$);

CREATE FUNCTION pg_temp.try_all() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    c       calls;
    answer  text;
    writes  bigint;
BEGIN
    FOR c IN SELECT * FROM calls ORDER BY n LOOP
        writes := pg_temp.writes();
        EXECUTE 'SELECT ' || c.call INTO answer;
        RETURN NEXT is(answer, c.answer, c.what || ' is ' || c.answer);
        RETURN NEXT is(pg_temp.versions(), (SELECT versions FROM before), c.what || ' writes no version of a row');
        RETURN NEXT is(pg_temp.writes() - writes, c.writes, c.what || ' writes no row that is gone again');
    END LOOP;
END
$$;
SELECT * FROM pg_temp.try_all();

SELECT * FROM finish();
ROLLBACK;
