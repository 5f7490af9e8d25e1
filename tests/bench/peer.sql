-- What pgbench calls: the promises of vcc.apply_events, kept for one event at a time, as fast as we could write it; but for
-- what each event changed, which the journal does not say here. Before ticketd sent a batch in one call these two
-- functions were its own.
CREATE SCHEMA peer;

-- clears: columns that the event sets to NULL. extra_names: attributes that have no column and are merged into extra.
CREATE FUNCTION peer.upsert_ticket(
    event_id           uuid,
    received_at        timestamptz,
    action             text,
    payload            text,
    project_id         bigint,
    ticket_id          bigint,
    clears             text[]      = NULL,
    extra_names        text[]      = NULL,
    entity_id          bigint      = NULL,
    contact_id         bigint      = NULL,
    created_user_id    bigint      = NULL,
    user_id            bigint      = NULL,
    ticket_no          text        = NULL,
    title              text        = NULL,
    type               text        = NULL,
    description        text        = NULL,
    cc                 text        = NULL,
    status             text        = NULL,
    sub_status         text        = NULL,
    created_user_name  text        = NULL,
    project_name       text        = NULL,
    agent_name         text        = NULL,
    agent_user_name    text        = NULL,
    first_open_time    timestamptz = NULL,
    last_open_time     timestamptz = NULL,
    soft_deadline      timestamptz = NULL
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
#variable_conflict use_variable
DECLARE
    body      jsonb := payload;
    sent      jsonb := '{}';     -- the event's share of extra
    names     jsonb;             -- extra_names as an object, in which a name is found at once
    kept      jsonb;             -- the row's share of it
    old       vcc.tickets;       -- the row as it is; all NULL where there is none
    over      vcc.tickets;       -- what the event may not overwrite
    under     vcc.tickets;       -- what stays where the event says nothing
    new       vcc.tickets;
    exists    boolean;
    deleted   boolean;
    digest    bytea;
    had_add   boolean := false;  -- the ticket had an add before this event
    same_add  boolean := false;  -- this very add among them
    result    text;
BEGIN
    -- Looking again after a wait must show what the other did, which the stricter levels do not.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE feature_not_supported USING MESSAGE = 'ticketd needs default_transaction_isolation = ''read committed''';
    END IF;

    LOOP
        -- The events of one ticket are in line on its row or, where it has none, on its deletion.
        SELECT t.* INTO old FROM vcc.tickets t
         WHERE t.project_id = project_id AND t.ticket_id = ticket_id FOR UPDATE;
        exists := FOUND;
        deleted := false;
        IF NOT exists THEN
            PERFORM FROM vcc.deleted_tickets d
              WHERE d.project_id = project_id AND d.ticket_id = ticket_id FOR UPDATE;
            deleted := FOUND;
        END IF;

        SELECT e.result INTO result FROM vcc.ticket_events e
         WHERE e.project_id = project_id AND e.ticket_id = ticket_id AND e.event_id = event_id;
        IF FOUND THEN
            RETURN result;
        END IF;

        IF action = 'add' THEN
            digest := sha256(convert_to(payload, 'UTF8'));
            SELECT count(*) > 0, coalesce(bool_or(a.digest = digest), false) INTO had_add, same_add
              FROM vcc.ticket_adds a
             WHERE a.project_id = project_id AND a.ticket_id = ticket_id;
        END IF;

        -- After a delete only an add that is new brings the ticket back, and only where an earlier add was seen:
        -- without one this add was sent before the delete and overtaken by it.
        IF deleted AND NOT (had_add AND NOT same_add) THEN
            result := 'ignored';
            EXIT;
        ELSIF exists AND same_add THEN
            result := 'unchanged';
            EXIT;
        END IF;

        -- The first add of a ticket that updates made known only fills what is still unknown.
        over := NULL;
        under := NULL;
        IF action = 'add' AND exists AND NOT had_add THEN
            over := old;
        ELSE
            under := old;
            IF clears IS NOT NULL THEN
                under := jsonb_populate_record(under, (SELECT jsonb_object_agg(c, NULL) FROM unnest(clears) c));
            END IF;
        END IF;

        new                   := old;  -- columns that are not the event's stay
        new.project_id        := project_id;
        new.ticket_id         := ticket_id;
        new.entity_id         := coalesce(over.entity_id, entity_id, under.entity_id);
        new.contact_id        := coalesce(over.contact_id, contact_id, under.contact_id);
        new.created_user_id   := coalesce(over.created_user_id, created_user_id, under.created_user_id);
        new.user_id           := coalesce(over.user_id, user_id, under.user_id);
        new.ticket_no         := coalesce(over.ticket_no, ticket_no, under.ticket_no);
        new.title             := coalesce(over.title, title, under.title);
        new.type              := coalesce(over.type, type, under.type);
        new.description       := coalesce(over.description, description, under.description);
        new.cc                := coalesce(over.cc, cc, under.cc);
        new.status            := coalesce(over.status, status, under.status);
        new.sub_status        := coalesce(over.sub_status, sub_status, under.sub_status);
        new.created_user_name := coalesce(over.created_user_name, created_user_name, under.created_user_name);
        new.project_name      := coalesce(over.project_name, project_name, under.project_name);
        new.agent_name        := coalesce(over.agent_name, agent_name, under.agent_name);
        new.agent_user_name   := coalesce(over.agent_user_name, agent_user_name, under.agent_user_name);
        new.first_open_time   := coalesce(over.first_open_time, first_open_time, under.first_open_time);
        new.last_open_time    := coalesce(over.last_open_time, last_open_time, under.last_open_time);
        new.soft_deadline     := coalesce(over.soft_deadline, soft_deadline, under.soft_deadline);
        new.first_event_at    := coalesce(old.first_event_at, received_at);
        new.last_event_at     := coalesce(old.last_event_at, received_at);

        kept := coalesce(under.extra, '{}');
        IF extra_names IS NOT NULL THEN
            names := jsonb_object(extra_names, extra_names);
            SELECT coalesce(jsonb_object_agg(a.key, a.value), '{}') INTO sent
              FROM jsonb_each(body -> 'ticket') a
             WHERE names ? a.key AND jsonb_typeof(a.value) <> 'null';
            IF kept <> '{}' THEN
                SELECT coalesce(jsonb_object_agg(a.key, a.value), '{}') INTO kept
                  FROM jsonb_each(kept) a WHERE NOT names ? a.key;
            END IF;
        END IF;
        new.extra := kept || sent || coalesce(over.extra, '{}');

        IF exists THEN
            IF new IS NOT DISTINCT FROM old THEN
                result := 'unchanged';
            ELSE
                UPDATE vcc.tickets t SET
                    entity_id         = new.entity_id,
                    contact_id        = new.contact_id,
                    created_user_id   = new.created_user_id,
                    user_id           = new.user_id,
                    ticket_no         = new.ticket_no,
                    title             = new.title,
                    type              = new.type,
                    description       = new.description,
                    cc                = new.cc,
                    status            = new.status,
                    sub_status        = new.sub_status,
                    created_user_name = new.created_user_name,
                    project_name      = new.project_name,
                    agent_name        = new.agent_name,
                    agent_user_name   = new.agent_user_name,
                    first_open_time   = new.first_open_time,
                    last_open_time    = new.last_open_time,
                    soft_deadline     = new.soft_deadline,
                    extra             = new.extra,
                    last_event_at     = received_at
                 WHERE t.project_id = project_id AND t.ticket_id = ticket_id;
                result := 'updated';
            END IF;
            EXIT;
        END IF;

        INSERT INTO vcc.tickets (
            project_id, ticket_id, entity_id, contact_id, created_user_id, user_id, ticket_no, title, type, description,
            cc, status, sub_status, created_user_name, project_name, agent_name, agent_user_name, first_open_time,
            last_open_time, soft_deadline, extra, first_event_at, last_event_at)
        VALUES (
            new.project_id, new.ticket_id, new.entity_id, new.contact_id, new.created_user_id, new.user_id, new.ticket_no,
            new.title, new.type, new.description, new.cc, new.status, new.sub_status, new.created_user_name,
            new.project_name, new.agent_name, new.agent_user_name, new.first_open_time, new.last_open_time,
            new.soft_deadline, new.extra, new.first_event_at, new.last_event_at)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            result := 'inserted';
            EXIT;
        END IF;
        -- Another host made the row just now: look again.
    END LOOP;

    IF result = 'inserted' THEN
        IF deleted THEN
            DELETE FROM vcc.deleted_tickets d WHERE d.project_id = project_id AND d.ticket_id = ticket_id;
        ELSIF EXISTS (SELECT FROM vcc.deleted_tickets d
                       WHERE d.project_id = project_id AND d.ticket_id = ticket_id) THEN
            RAISE serialization_failure USING MESSAGE = 'the ticket was deleted while its row was being made';
        END IF;
    END IF;

    IF action = 'add' AND NOT same_add THEN
        INSERT INTO vcc.ticket_adds VALUES (project_id, ticket_id, digest) ON CONFLICT DO NOTHING;
    END IF;

    INSERT INTO vcc.ticket_events VALUES (event_id, project_id, ticket_id, action, received_at, result, body)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE serialization_failure USING MESSAGE = 'another session applied this event just now';
    END IF;
    RETURN result;
END
$$;


-- Applies one delete and journals it, under the same promises as peer.upsert_ticket.
CREATE FUNCTION peer.delete_ticket(
    event_id     uuid,
    received_at  timestamptz,
    payload      text,
    project_id   bigint,
    ticket_id    bigint
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
#variable_conflict use_variable
DECLARE
    exists   boolean;
    deleted  boolean;
    result   text;
BEGIN
    -- Looking again after a wait must show what the other did, which the stricter levels do not.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE feature_not_supported USING MESSAGE = 'ticketd needs default_transaction_isolation = ''read committed''';
    END IF;

    LOOP
        PERFORM FROM vcc.tickets t
          WHERE t.project_id = project_id AND t.ticket_id = ticket_id FOR UPDATE;
        exists := FOUND;
        deleted := false;
        IF NOT exists THEN
            PERFORM FROM vcc.deleted_tickets d
              WHERE d.project_id = project_id AND d.ticket_id = ticket_id FOR UPDATE;
            deleted := FOUND;
        END IF;

        SELECT e.result INTO result FROM vcc.ticket_events e
         WHERE e.project_id = project_id AND e.ticket_id = ticket_id AND e.event_id = event_id;
        IF FOUND THEN
            RETURN result;
        END IF;

        result := CASE WHEN exists THEN 'deleted' ELSE 'unchanged' END;
        EXIT WHEN exists OR deleted;

        -- Nothing to delete, yet another host may be making the row. Hold the key for the rest of the transaction,
        -- so that one of the two sees the other: an insert that waited for us finds the deletion.
        INSERT INTO vcc.tickets (project_id, ticket_id, first_event_at, last_event_at)
            VALUES (project_id, ticket_id, received_at, received_at) ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
    END LOOP;

    IF NOT deleted THEN
        DELETE FROM vcc.tickets t WHERE t.project_id = project_id AND t.ticket_id = ticket_id;
        INSERT INTO vcc.deleted_tickets VALUES (project_id, ticket_id, received_at) ON CONFLICT DO NOTHING;
    END IF;

    INSERT INTO vcc.ticket_events VALUES (event_id, project_id, ticket_id, 'delete', received_at, result, payload::jsonb)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE serialization_failure USING MESSAGE = 'another session applied this event just now';
    END IF;
    RETURN result;
END
$$;
