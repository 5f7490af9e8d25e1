-- Short calls of the functions under test, so that a test reads like the table in the contract:
--
--   pg_temp.add(1, '{"title": "a"}')       → the result, as the handler would get it
--
-- Attributes go by their names in the event, as the handler decodes them: what has no column is `extra`, null clears.
-- Each call is a new event, received a minute after the one before, unless `id` or `at` say otherwise; `body` replaces
-- the text of the body where the exact bytes matter (the ticket's attributes are still those given).
CREATE SEQUENCE pg_temp.minutes;

CREATE FUNCTION pg_temp.minute(n bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT timestamptz '2024-02-15 12:00:00+00' + n * interval '1 minute'
$$;

-- When the latest event was received.
CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_temp.minute(currval('pg_temp.minutes')) $$;

CREATE TABLE pg_temp.attributes (name text PRIMARY KEY, col text NOT NULL);
INSERT INTO pg_temp.attributes VALUES
    ('entityId', 'entity_id'), ('contactId', 'contact_id'), ('createdUserId', 'created_user_id'), ('userId', 'user_id'),
    ('ticketNo', 'ticket_no'), ('title', 'title'), ('type', 'type'), ('description', 'description'), ('cc', 'cc'),
    ('status', 'status'), ('subStatus', 'sub_status'), ('createdUserName', 'created_user_name'),
    ('projectName', 'project_name'), ('agentName', 'agent_name'), ('agentUserName', 'agent_user_name'),
    ('firstOpenTime', 'first_open_time'), ('lastOpenTime', 'last_open_time'), ('softDeadline', 'soft_deadline');

CREATE FUNCTION pg_temp.body(action text, ticket bigint, a jsonb, project bigint) RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object('action', action,
                              'ticket', jsonb_build_object('projectId', project, 'ticketId', ticket) || a)::text
$$;

CREATE FUNCTION pg_temp.upsert(action text, ticket bigint, a jsonb, id uuid, project bigint, body text,
                               at timestamptz)
RETURNS text LANGUAGE sql AS $$
    SELECT vcc.upsert_ticket(
        event_id => coalesce(id, gen_random_uuid()),
        received_at => coalesce(at, pg_temp.minute(nextval('pg_temp.minutes'))),
        action => action,
        payload => coalesce(body, pg_temp.body(action, ticket, a, project)),
        clears => (SELECT array_agg(n.col) FROM pg_temp.attributes n WHERE a -> n.name = 'null'),
        extra_names => (SELECT array_agg(k) FROM jsonb_object_keys(a) k
                         WHERE k NOT IN (SELECT n.name FROM pg_temp.attributes n)),
        project_id => project,
        ticket_id => ticket,
        entity_id => (a ->> 'entityId')::bigint,
        contact_id => (a ->> 'contactId')::bigint,
        created_user_id => (a ->> 'createdUserId')::bigint,
        user_id => (a ->> 'userId')::bigint,
        ticket_no => a ->> 'ticketNo',
        title => a ->> 'title',
        type => a ->> 'type',
        description => a ->> 'description',
        cc => a ->> 'cc',
        status => a ->> 'status',
        sub_status => a ->> 'subStatus',
        created_user_name => a ->> 'createdUserName',
        project_name => a ->> 'projectName',
        agent_name => a ->> 'agentName',
        agent_user_name => a ->> 'agentUserName',
        first_open_time => (a ->> 'firstOpenTime')::timestamptz,
        last_open_time => (a ->> 'lastOpenTime')::timestamptz,
        soft_deadline => (a ->> 'softDeadline')::timestamptz)
$$;

CREATE FUNCTION pg_temp.add(ticket bigint, a jsonb, id uuid = NULL, project bigint = 1, body text = NULL,
                            at timestamptz = NULL)
RETURNS text LANGUAGE sql AS $$ SELECT pg_temp.upsert('add', ticket, a, id, project, body, at) $$;

CREATE FUNCTION pg_temp.update(ticket bigint, a jsonb, id uuid = NULL, project bigint = 1, body text = NULL,
                            at timestamptz = NULL)
RETURNS text LANGUAGE sql AS $$ SELECT pg_temp.upsert('update', ticket, a, id, project, body, at) $$;

CREATE FUNCTION pg_temp.delete(ticket bigint, a jsonb = '{}', id uuid = NULL, project bigint = 1, at timestamptz = NULL)
RETURNS text LANGUAGE sql AS $$
    SELECT vcc.delete_ticket(
        event_id => coalesce(id, gen_random_uuid()),
        received_at => coalesce(at, pg_temp.minute(nextval('pg_temp.minutes'))),
        payload => pg_temp.body('delete', ticket, a, project),
        project_id => project,
        ticket_id => ticket)
$$;

-- What is known of a ticket: its columns that are not NULL, without the key and the times of events. NULL: no row.
CREATE FUNCTION pg_temp.ticket(ticket bigint, project bigint = 1) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_strip_nulls(to_jsonb(t) - 'extra') - '{project_id,ticket_id,first_event_at,last_event_at}'::text[]
           || CASE WHEN extra = '{}' THEN '{}' ELSE jsonb_build_object('extra', extra) END
      FROM vcc.tickets t WHERE project_id = project AND ticket_id = ticket
$$;

-- Whether the deletion of a ticket is remembered.
CREATE FUNCTION pg_temp.is_deleted(ticket bigint, project bigint = 1) RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM vcc.deleted_tickets WHERE project_id = project AND ticket_id = ticket)
$$;

-- pg_temp.apply('{"add": 1, "title": "a"}', '{"delete": 2}') → the results; the action's value is the ticket, `event`
-- the event's id where that matters.
CREATE FUNCTION pg_temp.batch(events jsonb[], tolerant boolean) RETURNS text[] LANGUAGE sql AS $$
    WITH e AS MATERIALIZED (
        SELECT n, w.action, (v ->> w.action)::bigint AS ticket, v - w.action - 'event' AS a,
               coalesce((v ->> 'event')::uuid, gen_random_uuid()) AS id,
               pg_temp.minute(nextval('pg_temp.minutes')) AS received_at
          FROM unnest(events) WITH ORDINALITY u (v, n), unnest('{add,update,delete}'::text[]) w (action)
         WHERE v ? w.action
         ORDER BY n)
    SELECT vcc.apply_events(
        event_id => array_agg(id ORDER BY n),
        received_at => array_agg(received_at ORDER BY n),
        action => array_agg(action ORDER BY n),
        payload => array_agg(pg_temp.body(action, ticket, a, 1) ORDER BY n),
        project_id => array_agg(1::bigint),
        ticket_id => array_agg(ticket ORDER BY n),
        attributes => array_agg(coalesce((SELECT jsonb_object_agg(t.col, a -> t.name) FROM pg_temp.attributes t
                                           WHERE a ? t.name)::text, '{}') ORDER BY n),
        extra_names => array_agg((SELECT jsonb_object_agg(k, NULL)::text FROM jsonb_object_keys(a) k
                                   WHERE k NOT IN (SELECT t.name FROM pg_temp.attributes t)) ORDER BY n),
        repeats => true, tolerant => tolerant)
      FROM e
$$;
CREATE FUNCTION pg_temp.apply(VARIADIC events jsonb[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT pg_temp.batch(events, false)
$$;
