-- Optional: spreads the schema over the nodes of a Citus cluster (PostgreSQL with the extension citus, 11 or newer).
--
--     psql -d tickets -f citus.sql
--
-- Run it by hand, on the coordinator, as the owner of schema vcc and after `ticketd migrate`; twice does no harm. Tickets
-- and all that is known of them are distributed by project, co-located: what one event reads and writes is on one node.
-- Handlers learn of it when they next connect: they call vcc.apply_event once an event then, and Citus passes the call
-- whole to the node that has the project. Restart them to be sure.
--
-- What is different here:
--   * A call is committed on its node as soon as it is done, not with the others of its pipeline. That is safe: it looks
--     for its own identifier in the journal first, and an event is answered only when its call has come back.
--   * A project is on one node. The largest project is as large as a node can bear.
--   * applied_no comes from the clock (Unix microseconds) and not from a sequence, of which every node has a part of its
--     own: a ticket's events keep their order when its shard moves.
--   * Reports that ask for one project are answered by one node.
--   * Triggers on these tables, such as notify.sql's, Citus does not allow: drop them first.
-- Handlers may connect to any node. Keep the nodes' clocks right (NTP).

\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = pg_catalog;
SET LOCAL check_function_bodies = off;

-- One event, in statements that each name one project and one ticket, which is what Citus can plan for one shard: the
-- same rules as in vcc.apply_events, where the words are that explain them.
CREATE OR REPLACE FUNCTION vcc.apply_event(
    event_id     uuid,
    received_at  timestamptz,
    action       text,
    payload      text,
    project_id   bigint,
    ticket_id    bigint,
    attributes   text,
    extra_names  text
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off  -- as in vcc.apply_events: plans that are made while a table is empty
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    old       vcc.tickets;
    new       vcc.tickets;
    present   boolean;
    deleted   boolean;
    add_seen  boolean;  -- NULL: the ticket had no add yet, or this is none; true: it had this very one, false: others
    fills     boolean;
    names     jsonb := extra_names;
    sent      jsonb;    -- the event's share of extra
    this      bytea;    -- SHA-256 of the body
    result    text;
    columns   text[] := '{entity_id, contact_id, created_user_id, user_id, ticket_no, title, type, description, cc, status,
                          sub_status, created_user_name, project_name, agent_name, agent_user_name, first_open_time,
                          last_open_time, soft_deadline}';
    changes   jsonb;
    named     jsonb;    -- names in extra that the event changed
    was_open  boolean;
    is_open   boolean;
    written   bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE feature_not_supported USING MESSAGE = 'ticketd needs default_transaction_isolation = ''read committed''';
    END IF;

    SELECT t.* INTO old FROM vcc.tickets t
     WHERE t.project_id = apply_event.project_id AND t.ticket_id = apply_event.ticket_id FOR UPDATE;
    present := FOUND;
    SELECT j.result INTO result FROM vcc.ticket_events j
     WHERE j.project_id = apply_event.project_id AND j.ticket_id = apply_event.ticket_id
       AND j.event_id = apply_event.event_id;
    IF FOUND THEN
        RETURN result;
    END IF;
    IF NOT present AND action = 'add' THEN
        PERFORM FROM vcc.deleted_tickets d
          WHERE d.project_id = apply_event.project_id AND d.ticket_id = apply_event.ticket_id FOR UPDATE;
        deleted := FOUND;
    ELSIF NOT present THEN
        PERFORM FROM vcc.deleted_tickets d
          WHERE d.project_id = apply_event.project_id AND d.ticket_id = apply_event.ticket_id;
        deleted := FOUND;
    END IF;
    IF action = 'add' THEN
        this := sha256(convert_to(payload, 'UTF8'));
        SELECT bool_or(a.digest = this) INTO add_seen FROM vcc.ticket_adds a
         WHERE a.project_id = apply_event.project_id AND a.ticket_id = apply_event.ticket_id;
        IF add_seen IS NOT TRUE THEN
            INSERT INTO vcc.ticket_adds (project_id, ticket_id, digest) VALUES (project_id, ticket_id, this)
            ON CONFLICT DO NOTHING;
        END IF;
    END IF;

    new := old;
    IF NOT present THEN
        new.project_id := project_id;
        new.ticket_id := ticket_id;
        new.extra := '{}';
        new.first_event_at := received_at;
        new.last_event_at := received_at;
    END IF;
    fills := present AND action = 'add' AND add_seen IS NULL;

    IF deleted AND add_seen IS NOT FALSE THEN
        result := CASE action WHEN 'delete' THEN 'unchanged' ELSE 'ignored' END;
    ELSIF present AND add_seen THEN
        result := 'unchanged';
    ELSIF action = 'delete' THEN
        result := CASE WHEN present THEN 'deleted' ELSE 'unchanged' END;
    ELSE
        new := jsonb_populate_record(new, attributes::jsonb);
        IF fills THEN
            new := jsonb_populate_record(new, (SELECT jsonb_object_agg(o.key, o.value)
                                                 FROM jsonb_each(to_jsonb(old) - 'extra') o WHERE o.value <> 'null'));
        END IF;
        IF names IS NOT NULL THEN
            SELECT coalesce(jsonb_object_agg(a.key, a.value), '{}') INTO sent FROM jsonb_each(payload::jsonb -> 'ticket') a
             WHERE names ? a.key AND jsonb_typeof(a.value) <> 'null';
            IF fills THEN
                new.extra := sent || new.extra;
            ELSE
                new.extra := (SELECT coalesce(jsonb_object_agg(a.key, a.value), '{}') FROM jsonb_each(new.extra) a
                               WHERE NOT names ? a.key) || sent;
            END IF;
        END IF;
        result := CASE WHEN NOT present THEN 'inserted' WHEN to_jsonb(new) <> to_jsonb(old) THEN 'updated' ELSE 'unchanged' END;
    END IF;

    IF result = 'inserted' OR action = 'delete' AND NOT present AND NOT deleted THEN
        INSERT INTO vcc.tickets (
               project_id, ticket_id, entity_id, contact_id, created_user_id, user_id, ticket_no, title, type,
               description, cc, status, sub_status, created_user_name, project_name, agent_name, agent_user_name,
               first_open_time, last_open_time, soft_deadline, extra, first_event_at, last_event_at)
        VALUES (project_id, ticket_id, new.entity_id, new.contact_id, new.created_user_id, new.user_id, new.ticket_no,
                new.title, new.type, new.description, new.cc, new.status, new.sub_status, new.created_user_name,
                new.project_name, new.agent_name, new.agent_user_name, new.first_open_time, new.last_open_time,
                new.soft_deadline, new.extra, new.first_event_at, new.last_event_at)
            ON CONFLICT (project_id, ticket_id) DO NOTHING;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written = 0 THEN
            RAISE serialization_failure USING MESSAGE = 'another session made the ticket''s row just now';
        END IF;
        DELETE FROM vcc.deleted_tickets d
         WHERE d.project_id = apply_event.project_id AND d.ticket_id = apply_event.ticket_id;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written > deleted::integer THEN
            RAISE serialization_failure USING MESSAGE = 'the ticket was deleted while its row was being made';
        END IF;
    ELSIF result = 'updated' THEN
        UPDATE vcc.tickets t SET
               entity_id = new.entity_id, contact_id = new.contact_id, created_user_id = new.created_user_id,
               user_id = new.user_id, ticket_no = new.ticket_no, title = new.title, type = new.type,
               description = new.description, cc = new.cc, status = new.status, sub_status = new.sub_status,
               created_user_name = new.created_user_name, project_name = new.project_name,
               agent_name = new.agent_name, agent_user_name = new.agent_user_name,
               first_open_time = new.first_open_time, last_open_time = new.last_open_time,
               soft_deadline = new.soft_deadline, extra = new.extra, last_event_at = received_at
         WHERE t.project_id = apply_event.project_id AND t.ticket_id = apply_event.ticket_id;
    END IF;
    IF action = 'delete' AND deleted IS NOT TRUE THEN
        DELETE FROM vcc.tickets t WHERE t.project_id = apply_event.project_id AND t.ticket_id = apply_event.ticket_id;
        INSERT INTO vcc.deleted_tickets (project_id, ticket_id, deleted_at) VALUES (project_id, ticket_id, received_at)
        ON CONFLICT DO NOTHING;
    END IF;

    IF result IN ('inserted', 'updated', 'deleted') THEN
        was_open := CASE WHEN present THEN old.status IS DISTINCT FROM 'closed' END;
        is_open := CASE WHEN action <> 'delete' THEN new.status IS DISTINCT FROM 'closed' END;
        IF action = 'delete' THEN
            new := NULL;
        END IF;
        changes := (SELECT coalesce(jsonb_object_agg(key, jsonb_build_array(o.value, n.value)), '{}')
                      FROM jsonb_each(to_jsonb(old)) o FULL JOIN jsonb_each(to_jsonb(new)) n USING (key)
                     WHERE coalesce(o.value, 'null') <> coalesce(n.value, 'null') AND key = ANY (columns));
        named := (SELECT jsonb_object_agg(key, jsonb_build_array(o.value, n.value))
                    FROM jsonb_each(coalesce(old.extra, '{}')) o FULL JOIN jsonb_each(coalesce(new.extra, '{}')) n USING (key)
                   WHERE o.value IS DISTINCT FROM n.value);
        IF named IS NOT NULL THEN
            changes := changes || jsonb_build_object('extra', named);
        END IF;
    END IF;
    INSERT INTO vcc.ticket_events (
           event_id, project_id, ticket_id, action, received_at, result, payload, changes, was_open, is_open)
    VALUES (event_id, project_id, ticket_id, action, received_at, result, payload::jsonb, changes, was_open, is_open);
    RETURN result;
END
$$;
COMMENT ON FUNCTION vcc.apply_event IS 'Applies one event and journals it, on the node that has its project; returns its result';

-- What other applications call does the same as before, but never tolerantly.
CREATE OR REPLACE FUNCTION vcc.apply_events(
    event_id     uuid[],
    received_at  timestamptz[],
    action       text[],
    payload      text[],
    project_id   bigint[],
    ticket_id    bigint[],
    attributes   text[],
    extra_names  text[],
    repeats      boolean,
    tolerant     boolean DEFAULT false
) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    results  text[] := '{}';
    n        bigint;
BEGIN
    FOR n IN SELECT k.n FROM unnest(project_id, ticket_id) WITH ORDINALITY k (project_id, ticket_id, n)
              ORDER BY k.project_id, k.ticket_id  -- as all do who lock tickets
    LOOP
        results[n] := vcc.apply_event(event_id[n], received_at[n], action[n], payload[n], project_id[n], ticket_id[n],
                                      attributes[n], extra_names[n]);
    END LOOP;
    RETURN results;
END
$$;

REVOKE ALL ON FUNCTION vcc.apply_event FROM PUBLIC;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcc_writer') THEN
        GRANT EXECUTE ON FUNCTION vcc.apply_event TO vcc_writer;
    END IF;
END
$$;

-- Tables first, then the calls that are passed on. vcc.migrations and vcc.imports stay where they are.
ALTER TABLE vcc.ticket_events ALTER applied_no SET DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
DO $$
DECLARE
    part  text;
BEGIN
    FOREACH part IN ARRAY '{tickets, ticket_events, deleted_tickets, ticket_adds, rejected_events}'::text[] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = format('vcc.%I', part)::regclass);
        PERFORM create_distributed_table(format('vcc.%I', part), 'project_id',
                                         colocate_with => CASE part WHEN 'tickets' THEN 'none' ELSE 'vcc.tickets' END);
    END LOOP;
    FOREACH part IN ARRAY '{apply_event, upsert_ticket, delete_ticket, reject_event}'::text[] LOOP
        PERFORM create_distributed_function(format('vcc.%I', part)::regproc::oid::regprocedure, 'project_id',
                                            colocate_with => 'vcc.tickets');
    END LOOP;
END
$$;
COMMIT;
