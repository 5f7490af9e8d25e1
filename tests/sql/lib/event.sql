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

-- One call for events whose attributes are given; one with an id of its own may have been here before. Returns the rows.
CREATE FUNCTION pg_temp.call(action text[], ticket bigint[], attributes jsonb[], id uuid[], project bigint[], body text[],
                             at timestamptz[], waited boolean[])
RETURNS TABLE (n integer, result text, detail text) LANGUAGE sql AS $$
    SELECT n, result, detail FROM vcc.apply_events(
        event_id => ARRAY(SELECT coalesce(i, gen_random_uuid()) FROM unnest(id) i),
        received_at => at,
        action => action,
        project_id => project,
        ticket_id => ticket,
        payload => body,
        waited => waited,
        cleared => ARRAY(SELECT (SELECT array_agg(c.col) FROM pg_temp.attributes c WHERE a -> c.name = 'null')::text
                           FROM unnest(attributes) a),
        extra_names => ARRAY(SELECT (SELECT array_agg(k) FROM jsonb_object_keys(a) k
                                      WHERE k NOT IN (SELECT c.name FROM pg_temp.attributes c))::text
                               FROM unnest(attributes) a),
        entity_id => ARRAY(SELECT (a ->> 'entityId')::bigint FROM unnest(attributes) a),
        contact_id => ARRAY(SELECT (a ->> 'contactId')::bigint FROM unnest(attributes) a),
        created_user_id => ARRAY(SELECT (a ->> 'createdUserId')::bigint FROM unnest(attributes) a),
        user_id => ARRAY(SELECT (a ->> 'userId')::bigint FROM unnest(attributes) a),
        ticket_no => ARRAY(SELECT a ->> 'ticketNo' FROM unnest(attributes) a),
        title => ARRAY(SELECT a ->> 'title' FROM unnest(attributes) a),
        type => ARRAY(SELECT a ->> 'type' FROM unnest(attributes) a),
        description => ARRAY(SELECT a ->> 'description' FROM unnest(attributes) a),
        cc => ARRAY(SELECT a ->> 'cc' FROM unnest(attributes) a),
        status => ARRAY(SELECT a ->> 'status' FROM unnest(attributes) a),
        sub_status => ARRAY(SELECT a ->> 'subStatus' FROM unnest(attributes) a),
        created_user_name => ARRAY(SELECT a ->> 'createdUserName' FROM unnest(attributes) a),
        project_name => ARRAY(SELECT a ->> 'projectName' FROM unnest(attributes) a),
        agent_name => ARRAY(SELECT a ->> 'agentName' FROM unnest(attributes) a),
        agent_user_name => ARRAY(SELECT a ->> 'agentUserName' FROM unnest(attributes) a),
        first_open_time => ARRAY(SELECT (a ->> 'firstOpenTime')::timestamptz FROM unnest(attributes) a),
        last_open_time => ARRAY(SELECT (a ->> 'lastOpenTime')::timestamptz FROM unnest(attributes) a),
        soft_deadline => ARRAY(SELECT (a ->> 'softDeadline')::timestamptz FROM unnest(attributes) a))
     ORDER BY n
$$;

CREATE FUNCTION pg_temp.one(action text, ticket bigint, a jsonb, id uuid, project bigint, body text, at timestamptz)
RETURNS text LANGUAGE sql AS $$
    SELECT result FROM pg_temp.call(
        ARRAY[action], ARRAY[ticket], ARRAY[a], ARRAY[id], ARRAY[project],
        ARRAY[coalesce(body, pg_temp.body(action, ticket, a, project))],
        ARRAY[coalesce(at, pg_temp.minute(nextval('pg_temp.minutes')))], ARRAY[id IS NOT NULL])
$$;

CREATE FUNCTION pg_temp.add(ticket bigint, a jsonb, id uuid = NULL, project bigint = 1, body text = NULL,
                            at timestamptz = NULL)
RETURNS text LANGUAGE sql AS $$ SELECT pg_temp.one('add', ticket, a, id, project, body, at) $$;

CREATE FUNCTION pg_temp.update(ticket bigint, a jsonb, id uuid = NULL, project bigint = 1, body text = NULL,
                            at timestamptz = NULL)
RETURNS text LANGUAGE sql AS $$ SELECT pg_temp.one('update', ticket, a, id, project, body, at) $$;

CREATE FUNCTION pg_temp.delete(ticket bigint, a jsonb = '{}', id uuid = NULL, project bigint = 1, at timestamptz = NULL)
RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.one('delete', ticket, a, id, project, NULL, at)
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
CREATE FUNCTION pg_temp.rows(VARIADIC events jsonb[]) RETURNS TABLE (n integer, result text, detail text) LANGUAGE sql AS $$
    WITH e AS MATERIALIZED (
        SELECT n, w.action, (v ->> w.action)::bigint AS ticket, v - w.action - 'event' AS a, (v ->> 'event')::uuid AS id,
               pg_temp.minute(nextval('pg_temp.minutes')) AS received_at
          FROM unnest(events) WITH ORDINALITY u (v, n), unnest('{add,update,delete}'::text[]) w (action)
         WHERE v ? w.action
         ORDER BY n)
    SELECT c.* FROM (SELECT array_agg(action ORDER BY n), array_agg(ticket ORDER BY n), array_agg(a ORDER BY n),
                            array_agg(id ORDER BY n), array_agg(1::bigint),
                            array_agg(pg_temp.body(action, ticket, a, 1) ORDER BY n), array_agg(received_at ORDER BY n),
                            array_agg(id IS NOT NULL ORDER BY n) FROM e) x (action, ticket, a, id, project, body, at, waited),
                    pg_temp.call(x.action, x.ticket, x.a, x.id, x.project, x.body, x.at, x.waited) c
$$;
CREATE FUNCTION pg_temp.apply(VARIADIC events jsonb[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(result ORDER BY n) FROM pg_temp.rows(VARIADIC events)
$$;
