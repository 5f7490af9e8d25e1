-- An attribute of 100 kB is stored like any other: no index, key or constraint holds unbounded text.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir lib/event.sql
SELECT plan(43);

-- Random, because PostgreSQL compresses what it can, and a long row of equal letters would fit into any index.
CREATE FUNCTION pg_temp.noise() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(translate(encode(sha512(random()::text::bytea), 'base64'), E'\n', ''), '')
      FROM generate_series(1, 1138)
$$;

CREATE TEMP TABLE large AS
    SELECT row_number() OVER (ORDER BY n.name)::bigint AS ticket, n.name, n.col, pg_temp.noise() AS text
      FROM (SELECT name, col FROM pg_temp.attributes WHERE col !~ '_(id|time|deadline)$'
            UNION ALL VALUES ('anything', 'extra')) n;
SELECT is((SELECT count(*) FROM large), 12::bigint, 'all columns of text, and extra');
SELECT cmp_ok((SELECT min(length(text)) FROM large), '>=', 100000, 'are given 100 kB');

SELECT is(pg_temp.add(ticket, jsonb_build_object(name, text)), 'inserted', name || ' of 100 kB: add') FROM large;
SELECT is(CASE col WHEN 'extra' THEN pg_temp.ticket(ticket) #>> '{extra,anything}' ELSE pg_temp.ticket(ticket) ->> col END = text,
          true, name || ' is stored whole') FROM large;
SELECT is(pg_temp.update(ticket, jsonb_build_object(name, pg_temp.noise())), 'updated', name || ' of 100 kB: update')
  FROM large;
SELECT is(pg_temp.delete(1, jsonb_build_object('description', pg_temp.noise())), 'deleted', 'delete with 100 kB');

-- Names are not bounded either.
SELECT is(pg_temp.update(100, jsonb_build_object(pg_temp.noise(), 1)), 'inserted', 'a name of 100 kB');

-- Everything at once, then once more: compared, not written.
SELECT is(pg_temp.add(101, (SELECT jsonb_object_agg(name, text) FROM large)), 'inserted', 'a ticket of 1.2 MB');
SELECT is(pg_temp.update(101, (SELECT jsonb_object_agg(name, text) FROM large)), 'unchanged', 'the same as an update');

SELECT cmp_ok((SELECT count(*) FROM vcc.ticket_events WHERE length(payload::text) > 100000), '=', 28::bigint,
    'the journal holds the whole bodies');

SELECT * FROM finish();
ROLLBACK;
