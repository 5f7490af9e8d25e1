-- What pgbench calls: what anybody else would write with care for the same job. One call and one transaction an event: its
-- journal row, and an upsert that keeps what the event does not mention, or a delete that is remembered, so that a late
-- update does not bring the ticket back. A lock puts the events of one ticket in line.
--
-- It promises less than vcc.apply_events: the same event sent again is an error, the same add sent again overwrites, and so
-- does the first add of a ticket that updates made known; an add always brings a deleted ticket back. Explicit nulls and
-- attributes without a column change nothing. What changes nothing is written all the same, and the journal does not
-- say what an event changed.
CREATE SCHEMA peer;

CREATE FUNCTION peer.apply_event(
    event_id           uuid,
    received_at        timestamptz,
    action             text,
    payload            text,
    project_id         bigint,
    ticket_id          bigint,
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
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    result  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashint8extended(ticket_id, project_id));
    IF action = 'delete' THEN
        DELETE FROM vcc.tickets t WHERE t.project_id = project_id AND t.ticket_id = ticket_id;
        result := CASE WHEN FOUND THEN 'deleted' ELSE 'unchanged' END;
        INSERT INTO vcc.deleted_tickets VALUES (project_id, ticket_id, received_at) ON CONFLICT DO NOTHING;
    ELSE
        IF action = 'add' THEN
            DELETE FROM vcc.deleted_tickets d WHERE d.project_id = project_id AND d.ticket_id = ticket_id;
        END IF;
        INSERT INTO vcc.tickets AS t (
            project_id, ticket_id, entity_id, contact_id, created_user_id, user_id, ticket_no, title, type, description,
            cc, status, sub_status, created_user_name, project_name, agent_name, agent_user_name, first_open_time,
            last_open_time, soft_deadline, first_event_at, last_event_at)
        SELECT
            project_id, ticket_id, entity_id, contact_id, created_user_id, user_id, ticket_no, title, type, description,
            cc, status, sub_status, created_user_name, project_name, agent_name, agent_user_name, first_open_time,
            last_open_time, soft_deadline, received_at, received_at
         WHERE NOT EXISTS (SELECT FROM vcc.deleted_tickets d
                            WHERE d.project_id = project_id AND d.ticket_id = ticket_id)
        ON CONFLICT ON CONSTRAINT tickets_pkey DO UPDATE SET
            entity_id         = coalesce(excluded.entity_id, t.entity_id),
            contact_id        = coalesce(excluded.contact_id, t.contact_id),
            created_user_id   = coalesce(excluded.created_user_id, t.created_user_id),
            user_id           = coalesce(excluded.user_id, t.user_id),
            ticket_no         = coalesce(excluded.ticket_no, t.ticket_no),
            title             = coalesce(excluded.title, t.title),
            type              = coalesce(excluded.type, t.type),
            description       = coalesce(excluded.description, t.description),
            cc                = coalesce(excluded.cc, t.cc),
            status            = coalesce(excluded.status, t.status),
            sub_status        = coalesce(excluded.sub_status, t.sub_status),
            created_user_name = coalesce(excluded.created_user_name, t.created_user_name),
            project_name      = coalesce(excluded.project_name, t.project_name),
            agent_name        = coalesce(excluded.agent_name, t.agent_name),
            agent_user_name   = coalesce(excluded.agent_user_name, t.agent_user_name),
            first_open_time   = coalesce(excluded.first_open_time, t.first_open_time),
            last_open_time    = coalesce(excluded.last_open_time, t.last_open_time),
            soft_deadline     = coalesce(excluded.soft_deadline, t.soft_deadline),
            last_event_at     = excluded.last_event_at
        RETURNING CASE WHEN t.xmax = 0 THEN 'inserted' ELSE 'updated' END INTO result;
        result := coalesce(result, 'ignored');
    END IF;
    INSERT INTO vcc.ticket_events
        VALUES (event_id, project_id, ticket_id, action, received_at, result, payload::jsonb);
    RETURN result;
END
$$;
