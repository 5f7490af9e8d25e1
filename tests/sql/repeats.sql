-- A repeat of one event (the answer to its commit was lost, a spool is drained again) returns what the journal
-- holds and changes nothing, whatever happened to the ticket in between.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(38);

CREATE FUNCTION pg_temp.id(n int) RETURNS uuid LANGUAGE sql AS $$
    SELECT format('00000000-0000-7000-8000-%s', lpad(n::text, 12, '0'))::uuid
$$;
CREATE FUNCTION pg_temp.state() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(E'\n', (SELECT string_agg(concat_ws(' ', ctid, t), E'\n' ORDER BY ctid) FROM vcc.tickets t),
                            (SELECT string_agg(concat_ws(' ', ctid, d), E'\n' ORDER BY ctid) FROM vcc.deleted_tickets d),
                            (SELECT string_agg(concat_ws(' ', ctid, a), E'\n' ORDER BY ctid) FROM vcc.ticket_adds a),
                            (SELECT string_agg(concat_ws(' ', ctid, e), E'\n' ORDER BY ctid) FROM vcc.ticket_events e))
$$;

-- One event of every kind on three tickets. Each is sent again at once, and all of them again at the end.
CREATE TEMP TABLE calls (n int, answer text, call text);
INSERT INTO calls VALUES
    (1, 'inserted', $$ pg_temp.update(1, '{"title": "a"}', pg_temp.id(1)) $$),
    (2, 'updated', $$ pg_temp.add(1, '{"title": "x", "status": "park"}', pg_temp.id(2)) $$),
    (3, 'updated', $$ pg_temp.add(1, '{"title": "b", "colour": "red"}', pg_temp.id(3)) $$),
    (4, 'updated', $$ pg_temp.update(1, '{"title": null, "colour": null}', pg_temp.id(4)) $$),
    (5, 'unchanged', $$ pg_temp.update(1, '{"title": null}', pg_temp.id(5)) $$),
    (6, 'deleted', $$ pg_temp.delete(1, id => pg_temp.id(6)) $$),
    (7, 'ignored', $$ pg_temp.update(1, '{"title": "late"}', pg_temp.id(7)) $$),
    (8, 'inserted', $$ pg_temp.add(1, '{"title": "c"}', pg_temp.id(8)) $$),
    (9, 'inserted', $$ pg_temp.add(2, '{"title": "a"}', pg_temp.id(9)) $$),
    (10, 'deleted', $$ pg_temp.delete(2, id => pg_temp.id(10)) $$),
    (11, 'unchanged', $$ pg_temp.delete(2, id => pg_temp.id(11)) $$),
    (12, 'unchanged', $$ pg_temp.delete(3, id => pg_temp.id(12)) $$),
    (13, 'ignored', $$ pg_temp.add(3, '{"title": "a"}', pg_temp.id(13)) $$);

CREATE FUNCTION pg_temp.run() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    c       calls;
    answer  text;
    before  text;
BEGIN
    FOR c IN SELECT * FROM calls ORDER BY n LOOP
        EXECUTE 'SELECT ' || c.call INTO answer;
        RETURN NEXT is(answer, c.answer, format('event %s is %s', c.n, c.answer));
        before := pg_temp.state();
        EXECUTE 'SELECT ' || c.call INTO answer;
        RETURN NEXT is(answer || E'\n' || pg_temp.state(), c.answer || E'\n' || before, format('event %s again', c.n));
    END LOOP;
END
$$;
SELECT * FROM pg_temp.run();

CREATE FUNCTION pg_temp.again() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    c       calls;
    answer  text;
    before  text := pg_temp.state();
BEGIN
    FOR c IN SELECT * FROM calls ORDER BY n % 5, n DESC LOOP
        EXECUTE 'SELECT ' || c.call INTO answer;
        CONTINUE WHEN c.n = 1;
        RETURN NEXT is(answer || E'\n' || pg_temp.state(), c.answer || E'\n' || before, format('event %s, much later', c.n));
    END LOOP;
END
$$;
SELECT * FROM pg_temp.again();

SELECT * FROM finish();
ROLLBACK;
