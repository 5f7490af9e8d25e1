-- Names, types and keys of schema vcc, as the contract fixes them.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(19);

CREATE FUNCTION pg_temp.columns_of(table_name text) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(concat_ws(' ', c.column_name, c.data_type, CASE c.is_nullable WHEN 'NO' THEN 'not null' END)
                     ORDER BY c.ordinal_position)
      FROM information_schema.columns c
     WHERE c.table_schema = 'vcc' AND c.table_name = columns_of.table_name
$$;

CREATE FUNCTION pg_temp.key_of(table_name text) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(a.attname::text ORDER BY k.place)
      FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, place), pg_attribute a
     WHERE i.indrelid = format('vcc.%I', table_name)::regclass AND i.indisprimary
       AND a.attrelid = i.indrelid AND a.attnum = k.attnum
$$;

SELECT has_schema('vcc');
SELECT has_table('vcc', t, 'table vcc.' || t)
  FROM unnest('{tickets,ticket_events,deleted_tickets,rejected_events}'::text[]) t;

-- Housekeeping columns may follow those of the contract: only the first 23 are looked at.
SELECT is((pg_temp.columns_of('tickets'))[1:23],
    ARRAY['project_id bigint not null', 'ticket_id bigint not null', 'entity_id bigint', 'contact_id bigint',
          'created_user_id bigint', 'user_id bigint', 'ticket_no text', 'title text', 'type text', 'description text',
          'cc text', 'status text', 'sub_status text', 'created_user_name text', 'project_name text',
          'agent_name text', 'agent_user_name text', 'first_open_time timestamp with time zone',
          'last_open_time timestamp with time zone', 'soft_deadline timestamp with time zone', 'extra jsonb not null',
          'first_event_at timestamp with time zone not null', 'last_event_at timestamp with time zone not null'],
    'columns of vcc.tickets');
SELECT col_default_is('vcc', 'tickets', 'extra', '{}'::text, 'extra is an empty object by default');

SELECT is((pg_temp.columns_of('ticket_events'))[1:7],
    ARRAY['event_id uuid not null', 'project_id bigint not null', 'ticket_id bigint not null', 'action text not null',
          'received_at timestamp with time zone not null', 'result text not null', 'payload jsonb not null'],
    'columns of vcc.ticket_events');

SELECT is((pg_temp.columns_of('deleted_tickets'))[1:3],
    ARRAY['project_id bigint not null', 'ticket_id bigint not null', 'deleted_at timestamp with time zone not null'],
    'columns of vcc.deleted_tickets');

-- Housekeeping columns follow.
SELECT is((pg_temp.columns_of('rejected_events'))[1:5],
    ARRAY['body bytea not null', 'reason text not null', 'first_received_at timestamp with time zone not null',
          'last_received_at timestamp with time zone not null', 'attempts integer not null'],
    'columns of vcc.rejected_events');

SELECT is(pg_temp.key_of('tickets'), '{project_id,ticket_id}', 'key of vcc.tickets');
SELECT is(pg_temp.key_of('deleted_tickets'), '{project_id,ticket_id}', 'key of vcc.deleted_tickets');

-- The schema distributes by project: every unique key of a table that has the column starts with it.
SELECT is_empty($$
    SELECT i.indexrelid::regclass
      FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id' AND NOT a.attisdropped
     WHERE c.relnamespace = 'vcc'::regnamespace AND i.indisunique AND i.indkey[0] <> a.attnum
$$, 'unique keys start with project_id');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c
     WHERE c.relnamespace = 'vcc'::regnamespace AND c.relkind IN ('r', 'p')
       AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
$$, 'every table has a primary key');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c
     WHERE c.relnamespace = 'vcc'::regnamespace AND c.relkind IN ('r', 'p')
       AND c.relname NOT IN ('migrations', 'definitions', 'imports', 'journal_horizon', 'calendars', 'calendar_hours',
                             'calendar_exceptions', 'calendar_slots')
       AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_id')
$$, 'every table of tickets has project_id');

-- The path that a function runs with is its own, and nobody can put a table before the catalogue's names.
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace = 'vcc'::regnamespace
       AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s
                        WHERE s ~ '^search_path=("?pg_catalog"?)(, *"?pg_temp"?)?$')
$$, 'every function has a fixed search_path of pg_catalog');
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace = 'vcc'::regnamespace AND p.prosecdef
       AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s ~ '^search_path=.*pg_temp"?$')
$$, 'functions with the rights of their owner look at temporary objects last');

-- Attributes have no size limit: an index on one would refuse long values, a key or a constraint likewise.
SELECT is_empty($$
    SELECT i.indexrelid::regclass, a.attname
      FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
      JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
     WHERE c.relnamespace = 'vcc'::regnamespace AND m.amname = 'btree' AND a.atttypid IN ('text'::regtype, 'jsonb'::regtype)
       AND c.relname NOT IN ('migrations', 'definitions')
$$, 'no index on unbounded text');

-- A plan may be made while a month's partition is empty, where all its indexes cost the same. It is kept, and is to be the
-- right one later, too: for an event's identifier that of the primary key.
SELECT is_empty($$
    SELECT i.indexrelid::regclass
      FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
     WHERE i.indrelid = 'vcc.ticket_events'::regclass AND a.attname = 'event_id' AND NOT i.indisprimary
$$, 'one index alone fits an event''s identifier');

SELECT * FROM finish();
ROLLBACK;
