-- 001: the tickets, their journal, and the function that keeps them.
--
-- `ticketd migrate` runs this file once, inside its transaction, with search_path = pg_catalog.

CREATE TABLE vcc.tickets (
    project_id         bigint NOT NULL,
    ticket_id          bigint NOT NULL,
    entity_id          bigint,
    contact_id         bigint,
    created_user_id    bigint,
    user_id            bigint,
    ticket_no          text,
    title              text,
    type               text,
    description        text,
    cc                 text,
    status             text,
    sub_status         text,
    created_user_name  text,
    project_name       text,
    agent_name         text,
    agent_user_name    text,
    first_open_time    timestamptz,
    last_open_time     timestamptz,
    soft_deadline      timestamptz,
    extra              jsonb NOT NULL DEFAULT '{}',
    first_event_at     timestamptz NOT NULL,
    last_event_at      timestamptz NOT NULL,
    PRIMARY KEY (project_id, ticket_id)
) WITH (fillfactor = 85);  -- room for a row's next version on its page: no index is written then (HOT updates)

COMMENT ON TABLE  vcc.tickets IS 'The tickets as they are now: one row for each ticket that exists in VCC Live';
COMMENT ON COLUMN vcc.tickets.project_id IS 'Project of the ticket; with ticket_id the key (projectId)';
COMMENT ON COLUMN vcc.tickets.ticket_id IS 'Identifier of the ticket, unique within its project (ticketId)';
COMMENT ON COLUMN vcc.tickets.entity_id IS 'Customer record within the project (entityId)';
COMMENT ON COLUMN vcc.tickets.contact_id IS 'Contact of the customer within the project (contactId)';
COMMENT ON COLUMN vcc.tickets.created_user_id IS 'User who created the ticket (createdUserId)';
COMMENT ON COLUMN vcc.tickets.user_id IS 'User who last changed the ticket (userId)';
COMMENT ON COLUMN vcc.tickets.ticket_no IS 'Ticket number that people quote (ticketNo)';
COMMENT ON COLUMN vcc.tickets.title IS 'Title';
COMMENT ON COLUMN vcc.tickets.type IS 'Ticket type chosen by the agent; NULL: none';
COMMENT ON COLUMN vcc.tickets.description IS 'Description';
COMMENT ON COLUMN vcc.tickets.cc IS 'Addresses in copy';
COMMENT ON COLUMN vcc.tickets.status IS 'Status: park, closed or what else the sender says';
COMMENT ON COLUMN vcc.tickets.sub_status IS 'Sub-status: waiting4agent, waiting4entity, successful, unsuccessful, ... (subStatus)';
COMMENT ON COLUMN vcc.tickets.created_user_name IS 'Name of the user who created the ticket (createdUserName)';
COMMENT ON COLUMN vcc.tickets.project_name IS 'Name of the project (projectName)';
COMMENT ON COLUMN vcc.tickets.agent_name IS 'Full name of the agent in charge (agentName)';
COMMENT ON COLUMN vcc.tickets.agent_user_name IS 'Login of the agent in charge (agentUserName)';
COMMENT ON COLUMN vcc.tickets.first_open_time IS 'When the ticket was first opened (firstOpenTime)';
COMMENT ON COLUMN vcc.tickets.last_open_time IS 'When the ticket was last opened (lastOpenTime)';
COMMENT ON COLUMN vcc.tickets.soft_deadline IS 'When the ticket should be done (softDeadline)';
COMMENT ON COLUMN vcc.tickets.extra IS 'Attributes that have no column here, by name, as they were received';
COMMENT ON COLUMN vcc.tickets.first_event_at IS 'When the event that made this row was received';
COMMENT ON COLUMN vcc.tickets.last_event_at IS 'When the event that last changed this row was received';

CREATE SEQUENCE vcc.applied_no;
COMMENT ON SEQUENCE vcc.applied_no IS 'Numbers the rows of vcc.ticket_events';

CREATE TABLE vcc.ticket_events (
    event_id     uuid NOT NULL,
    project_id   bigint NOT NULL,
    ticket_id    bigint NOT NULL,
    action       text NOT NULL,
    received_at  timestamptz NOT NULL,
    result       text NOT NULL,
    payload      jsonb NOT NULL,
    changes      jsonb,
    was_open     boolean,
    is_open      boolean,
    applied_no   bigint NOT NULL DEFAULT nextval('vcc.applied_no'),
    PRIMARY KEY (project_id, ticket_id, event_id)  -- a repeat conflicts; and one ticket's history is together
) PARTITION BY RANGE (event_id);  -- which begins with the time: a partition a month, see vcc.prepare_journal

-- What no partition was made for: an event never fails for want of one.
CREATE TABLE vcc.ticket_events_default PARTITION OF vcc.ticket_events DEFAULT;

-- Any day's events: rows arrive nearly in the order of received_at, which is what BRIN is for.
CREATE INDEX ticket_events_received ON vcc.ticket_events USING brin (received_at)
    WITH (pages_per_range = 32, autosummarize = on);

-- A project's comings and goings, which are few among its events: to be read without the journal itself.
CREATE INDEX ticket_events_flow ON vcc.ticket_events (project_id, received_at)
    INCLUDE (ticket_id, was_open, is_open, applied_no)
    WHERE was_open IS DISTINCT FROM is_open;

COMMENT ON TABLE  vcc.ticket_events IS 'The journal: one row for each event that was received and understood. Rows are never changed; only vcc.drop_events_before and vcc.erase_ticket remove any';
COMMENT ON COLUMN vcc.ticket_events.event_id IS 'Identifier given at receipt, a UUIDv7: sorting by it sorts by time of receipt';
COMMENT ON COLUMN vcc.ticket_events.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.ticket_events.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.ticket_events.action IS 'What the sender said happened: add, update or delete';
COMMENT ON COLUMN vcc.ticket_events.received_at IS 'When the request had arrived at the handler; the event itself has no time';
COMMENT ON COLUMN vcc.ticket_events.result IS 'What the event did to vcc.tickets: inserted, updated, unchanged, deleted or ignored';
COMMENT ON COLUMN vcc.ticket_events.payload IS 'The whole body as it was received';
COMMENT ON COLUMN vcc.ticket_events.changes IS 'What it changed: each column of vcc.tickets with its old and its new value, extra with those of each name; NULL: nothing';
COMMENT ON COLUMN vcc.ticket_events.was_open IS 'Whether the ticket was open before; NULL: it was not there, or the event changed nothing';
COMMENT ON COLUMN vcc.ticket_events.is_open IS 'Whether the ticket was open afterwards; NULL: it was not there, or the event changed nothing';
COMMENT ON COLUMN vcc.ticket_events.applied_no IS 'Order in which events took effect: sort those of a ticket by it. A late one (spooled, tried again) comes after events that were received later; one that changed nothing may stand a little late';
COMMENT ON TABLE  vcc.ticket_events_default IS 'Journal rows of months that have no partition';

CREATE TABLE vcc.deleted_tickets (
    project_id  bigint NOT NULL,
    ticket_id   bigint NOT NULL,
    deleted_at  timestamptz NOT NULL,
    PRIMARY KEY (project_id, ticket_id)
);

COMMENT ON TABLE  vcc.deleted_tickets IS 'Tickets that were deleted and not added again: a late update must not bring them back';
COMMENT ON COLUMN vcc.deleted_tickets.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.deleted_tickets.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.deleted_tickets.deleted_at IS 'When the first delete event of this deletion was received';

CREATE TABLE vcc.ticket_adds (
    project_id  bigint NOT NULL,
    ticket_id   bigint NOT NULL,
    digest      bytea NOT NULL,
    PRIMARY KEY (project_id, ticket_id, digest)
);

COMMENT ON TABLE  vcc.ticket_adds IS 'Every different add event that a ticket ever had: tells a repeated add from a new one, also after a delete';
COMMENT ON COLUMN vcc.ticket_adds.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.ticket_adds.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.ticket_adds.digest IS 'SHA-256 of the bytes of the body';

-- The part of vcc.apply_events that writes the rows it decided on: to update, to insert, to hold keys for the rest of the
-- transaction and to delete, those among them; and the adds to remember. `revived`: how many of the made are of tickets
-- that were deleted before. Where another session was faster this is a serialization_failure.
CREATE FUNCTION vcc.write_tickets(
    changed  vcc.tickets[],
    made     vcc.tickets[],
    held     vcc.tickets[],
    dropped  vcc.tickets[],
    added    vcc.ticket_adds[],
    revived  bigint
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written  bigint;
BEGIN
    -- The changes first, for they may give up what a unique index of the user's holds.
    IF changed IS NOT NULL THEN
        UPDATE vcc.tickets t SET
               entity_id         = n.entity_id,
               contact_id        = n.contact_id,
               created_user_id   = n.created_user_id,
               user_id           = n.user_id,
               ticket_no         = n.ticket_no,
               title             = n.title,
               type              = n.type,
               description       = n.description,
               cc                = n.cc,
               status            = n.status,
               sub_status        = n.sub_status,
               created_user_name = n.created_user_name,
               project_name      = n.project_name,
               agent_name        = n.agent_name,
               agent_user_name   = n.agent_user_name,
               first_open_time   = n.first_open_time,
               last_open_time    = n.last_open_time,
               soft_deadline     = n.soft_deadline,
               extra             = n.extra,
               last_event_at     = n.last_event_at
          FROM unnest(changed) n
         WHERE t.project_id = n.project_id AND t.ticket_id = n.ticket_id;
    END IF;

    IF made IS NOT NULL THEN
        INSERT INTO vcc.tickets (
               project_id, ticket_id, entity_id, contact_id, created_user_id, user_id, ticket_no, title, type,
               description, cc, status, sub_status, created_user_name, project_name, agent_name, agent_user_name,
               first_open_time, last_open_time, soft_deadline, extra, first_event_at, last_event_at)
        SELECT n.project_id, n.ticket_id, n.entity_id, n.contact_id, n.created_user_id, n.user_id, n.ticket_no, n.title,
               n.type, n.description, n.cc, n.status, n.sub_status, n.created_user_name, n.project_name, n.agent_name,
               n.agent_user_name, n.first_open_time, n.last_open_time, n.soft_deadline, n.extra, n.first_event_at,
               n.last_event_at
          FROM unnest(made) n
            ON CONFLICT (project_id, ticket_id) DO NOTHING;  -- a unique index of the user's refuses the event
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written < cardinality(made) THEN
            RAISE serialization_failure USING MESSAGE = 'another session made a ticket''s row just now';
        END IF;
        DELETE FROM vcc.deleted_tickets d USING unnest(made) n
         WHERE d.project_id = n.project_id AND d.ticket_id = n.ticket_id;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written > revived THEN
            RAISE serialization_failure USING MESSAGE = 'a ticket was deleted while its row was being made';
        END IF;
    END IF;

    -- Where constraints of the user's do not allow an empty row there is none: another host that is making the ticket at
    -- this very moment may then do so after its deletion.
    IF held IS NOT NULL THEN
        BEGIN
            INSERT INTO vcc.tickets (project_id, ticket_id, first_event_at, last_event_at)
            SELECT n.project_id, n.ticket_id, n.first_event_at, n.last_event_at FROM unnest(held) n
                ON CONFLICT (project_id, ticket_id) DO NOTHING;
            GET DIAGNOSTICS written = ROW_COUNT;
        EXCEPTION WHEN check_violation OR not_null_violation THEN
            written := cardinality(held);
        END;
        IF written < cardinality(held) THEN
            RAISE serialization_failure USING MESSAGE = 'another session made a ticket''s row just now';
        END IF;
    END IF;

    IF dropped IS NOT NULL THEN
        DELETE FROM vcc.tickets t USING unnest(dropped) n
         WHERE t.project_id = n.project_id AND t.ticket_id = n.ticket_id;
        INSERT INTO vcc.deleted_tickets (project_id, ticket_id, deleted_at)
        SELECT n.project_id, n.ticket_id, n.last_event_at FROM unnest(dropped) n
            ON CONFLICT DO NOTHING;
    END IF;

    IF added IS NOT NULL THEN
        INSERT INTO vcc.ticket_adds (project_id, ticket_id, digest)
        SELECT a.project_id, a.ticket_id, a.digest FROM unnest(added) a
            ON CONFLICT DO NOTHING;
    END IF;
END
$$;
COMMENT ON FUNCTION vcc.write_tickets IS 'The part of vcc.apply_events that writes the rows it decided on';

-- Applies events and journals them. Returns their results, in their order, as the journal holds them.
--
-- Every parameter but `repeats` has an element for each event, and no ticket is there twice:
--   payload      the body as it was received
--   attributes   a JSON object of the columns of vcc.tickets that the event sets; null clears one
--   extra_names  a JSON object whose keys are the attributes that have no column: they are merged into extra; or NULL
--   repeats      whether any of the events may have been sent before (the answer to its commit was lost): one that was
--                applied then changes nothing now, and its result is what it did then; one that was set aside is
--                "refused" again
--   tolerant     whether an event whose row a constraint refuses is left out, and does not fail the call: its result is
--                "!SQLSTATE|column|constraint" then, and it is neither applied nor journalled. Takes a subtransaction
--
-- A connection plans once (plan_cache_mode) and keeps the plan for days. Were a table empty then, and vacuumed, that
-- plan would read all of it for every call, however large it has become: by itself (enable_seqscan) or by its whole
-- index (enable_indexscan). A bitmap scan is left, which there is only for keys that are looked up; not for a table of
-- one row, and then the plan looks so costly that every call would be compiled, for a third of a second (jit).
--
-- Transactions with events of one ticket wait for each other on its key. Where two hosts make a row at once this cannot
-- be settled here: serialization_failure is raised, the caller's transaction is undone, and its next try sees what the
-- other did. So it does after a unique_violation of vcc.ticket_events, which has one of the events, with repeats.
CREATE FUNCTION vcc.apply_events(
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
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_indexscan = off SET plan_cache_mode = force_generic_plan SET jit = off
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    earlier   text[];            -- results of those that were applied before, with repeats
    e         record;            -- an event, and what there is of its ticket
    old       vcc.tickets;       -- the row before the event, and after it; NULL where there is none
    new       vcc.tickets;
    fills     boolean;           -- it only fills what is still unknown
    names     jsonb;             -- extra_names
    sent      jsonb;             -- the event's share of extra
    kept      jsonb;             -- the row's share of it
    named     jsonb;             -- names in extra that the event changed
    -- As long as the parameters from the beginning: an array begins where its first element is assigned.
    results   text[] := array_fill(NULL::text, ARRAY[cardinality(event_id)]);
    changes   text[] := results;     -- as the journal has them, members of a JSON object
    was_open  boolean[] := results;
    is_open   boolean[] := results;
    changed   vcc.tickets[];     -- rows to update,
    made      vcc.tickets[];     -- to insert,
    held      vcc.tickets[];     -- to insert and delete again,
    dropped   vcc.tickets[];     -- and to delete, those among them
    added     vcc.ticket_adds[];
    revived   bigint[] := '{}';  -- the numbers of those that make a ticket which was deleted before
    present   bigint := 0;       -- how many rows and deletions were to be locked,
    locked    bigint;            -- and how many are ours until the end of the transaction
    written   bigint;
    state     text;              -- what PostgreSQL says where a constraint refuses a row,
    detail    text;
    nsp       text;
    tab       text;
    col       text;
    con       text;
    key       bigint[];          -- the row's key,
    bad       bigint;            -- and the number of its event
BEGIN
    -- Looking again after a wait must show what the other did, which the stricter levels do not.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE feature_not_supported USING MESSAGE = 'ticketd needs default_transaction_isolation = ''read committed''';
    END IF;

    -- In line, all in the same order: on the tickets' rows and, where an add might bring one back, on its deletion.
    -- (unnest in a list of columns, here and below, needs no tuplestore as it would in FROM.)
    PERFORM FROM (SELECT unnest(project_id) AS project_id, unnest(ticket_id) AS ticket_id) k
      JOIN vcc.tickets t ON t.project_id = k.project_id AND t.ticket_id = k.ticket_id
     ORDER BY k.project_id, k.ticket_id FOR UPDATE OF t;
    GET DIAGNOSTICS locked = ROW_COUNT;
    IF locked < cardinality(ticket_id) AND 'add' = ANY (action) THEN
        PERFORM FROM unnest(project_id, ticket_id, action) k (project_id, ticket_id, action)
          JOIN vcc.deleted_tickets d ON d.project_id = k.project_id AND d.ticket_id = k.ticket_id
         WHERE k.action = 'add'
         ORDER BY k.project_id, k.ticket_id FOR UPDATE OF d;
        GET DIAGNOSTICS written = ROW_COUNT;
        locked := locked + written;
    END IF;

    -- A statement of its own, for it opens every partition of the journal. A spool that is drained once more from its
    -- beginning also has events that were set aside: what they could not do then they must not do behind later ones.
    -- (Their identifiers, UUIDv7, are in the order of their receipt; those of other applications need not be.)
    IF repeats THEN
        earlier := ARRAY(SELECT coalesce(
                                (SELECT j.result FROM vcc.ticket_events j
                                  WHERE j.project_id = k.project_id AND j.ticket_id = k.ticket_id
                                    AND j.event_id = k.event_id),
                                (SELECT 'refused' FROM vcc.rejected_events r
                                  WHERE r.project_id = k.project_id AND r.digest = sha256(convert_to(k.payload, 'UTF8'))
                                    AND r.last_event_id >= k.event_id AND substr(k.event_id::text, 15, 1) = '7'))
                           FROM unnest(project_id, ticket_id, event_id, payload) WITH ORDINALITY
                                k (project_id, ticket_id, event_id, payload, n)
                          ORDER BY k.n);
    END IF;

    FOR e IN
        SELECT b.*, t AS old, t.project_id IS NOT NULL AS exists,
               CASE WHEN t.project_id IS NULL THEN
                   (SELECT true FROM vcc.deleted_tickets d
                     WHERE d.project_id = b.project_id AND d.ticket_id = b.ticket_id) END AS deleted,
               -- NULL: the ticket had no add yet; true: it had this very one, false: others.
               CASE WHEN b.action = 'add' THEN
                   (SELECT bool_or(a.digest = b.digest) FROM vcc.ticket_adds a
                     WHERE a.project_id = b.project_id AND a.ticket_id = b.ticket_id) END AS add_seen
          FROM (SELECT u.*, CASE WHEN u.action = 'add' THEN sha256(convert_to(u.payload, 'UTF8')) END AS digest
                  FROM (SELECT generate_subscripts(event_id, 1) AS n, unnest(received_at) AS received_at,
                               unnest(action) AS action, unnest(payload) AS payload, unnest(project_id) AS project_id,
                               unnest(ticket_id) AS ticket_id, unnest(attributes) AS attributes,
                               unnest(extra_names) AS extra_names) u
                OFFSET 0) b  -- which is what keeps the digest from being made again for each add of the ticket
          LEFT JOIN vcc.tickets t ON t.project_id = b.project_id AND t.ticket_id = b.ticket_id
    LOOP
        present := present + (e.exists OR (e.deleted AND e.action = 'add') IS TRUE)::integer;
        results[e.n] := earlier[e.n];
        CONTINUE WHEN earlier[e.n] IS NOT NULL;
        IF e.action = 'add' AND e.add_seen IS NOT TRUE THEN
            added := added || ROW(e.project_id, e.ticket_id, e.digest)::vcc.ticket_adds;
        END IF;

        -- After a delete only an add that is new brings the ticket back, and only where an earlier add was seen:
        -- without one this add was sent before the delete and overtaken by it.
        IF e.deleted AND e.add_seen IS NOT FALSE THEN
            results[e.n] := CASE e.action WHEN 'delete' THEN 'unchanged' ELSE 'ignored' END;
            CONTINUE;
        ELSIF e.exists AND e.add_seen THEN
            results[e.n] := 'unchanged';
            CONTINUE;
        END IF;

        old := e.old;
        new := old;
        IF NOT e.exists THEN
            new.project_id := e.project_id;
            new.ticket_id := e.ticket_id;
            new.extra := '{}';
            new.first_event_at := e.received_at;
            new.last_event_at := e.received_at;
        END IF;

        IF e.action = 'delete' THEN
            results[e.n] := CASE WHEN e.exists THEN 'deleted' ELSE 'unchanged' END;
            -- Nothing to delete, yet another host may be making the row. One of our own holds the key for the rest of
            -- the transaction, so that one of the two sees the other: an insert that waited for us finds the deletion.
            IF NOT e.exists THEN
                held := held || new;
            END IF;
            new.last_event_at := e.received_at;
            dropped := dropped || new;
            CONTINUE WHEN NOT e.exists;
            new := NULL;
        ELSE
            -- Columns that the event says nothing of stay. The first add of a ticket that updates made known, and
            -- overtook, only fills what is still unknown.
            fills := e.exists AND e.action = 'add' AND e.add_seen IS NULL;
            new := jsonb_populate_record(new, e.attributes::jsonb);
            IF fills THEN
                new := jsonb_populate_record(new, jsonb_strip_nulls(to_jsonb(old) - 'extra'));
            END IF;

            IF e.extra_names IS NOT NULL THEN
                names := e.extra_names;
                SELECT coalesce(jsonb_object_agg(a.key, a.value), '{}') INTO sent
                  FROM jsonb_each(e.payload::jsonb -> 'ticket') a
                 WHERE names ? a.key AND jsonb_typeof(a.value) <> 'null';
                kept := new.extra;
                IF fills THEN
                    new.extra := sent || kept;
                ELSIF kept = '{}' THEN
                    new.extra := sent;
                ELSE
                    SELECT coalesce(jsonb_object_agg(a.key, a.value), '{}') || sent INTO new.extra
                      FROM jsonb_each(kept) a WHERE NOT names ? a.key;
                END IF;
            END IF;
        END IF;

        named := NULL;
        IF coalesce(old.extra, '{}') <> coalesce(new.extra, '{}') THEN
            SELECT jsonb_object_agg(key, json_build_array(o.value, n.value)) INTO named
              FROM jsonb_each(coalesce(old.extra, '{}')) o FULL JOIN jsonb_each(coalesce(new.extra, '{}')) n USING (key)
             WHERE o.value IS DISTINCT FROM n.value;
        END IF;
        -- Text, of which only what changed is made: a quarter of what it takes as jsonb.
        changes[e.n] := concat(
            CASE WHEN old.entity_id IS DISTINCT FROM new.entity_id
                 THEN ',"entity_id":' || json_build_array(old.entity_id, new.entity_id) END,
            CASE WHEN old.contact_id IS DISTINCT FROM new.contact_id
                 THEN ',"contact_id":' || json_build_array(old.contact_id, new.contact_id) END,
            CASE WHEN old.created_user_id IS DISTINCT FROM new.created_user_id
                 THEN ',"created_user_id":' || json_build_array(old.created_user_id, new.created_user_id) END,
            CASE WHEN old.user_id IS DISTINCT FROM new.user_id
                 THEN ',"user_id":' || json_build_array(old.user_id, new.user_id) END,
            CASE WHEN old.ticket_no IS DISTINCT FROM new.ticket_no
                 THEN ',"ticket_no":' || json_build_array(old.ticket_no, new.ticket_no) END,
            CASE WHEN old.title IS DISTINCT FROM new.title
                 THEN ',"title":' || json_build_array(old.title, new.title) END,
            CASE WHEN old.type IS DISTINCT FROM new.type
                 THEN ',"type":' || json_build_array(old.type, new.type) END,
            CASE WHEN old.description IS DISTINCT FROM new.description
                 THEN ',"description":' || json_build_array(old.description, new.description) END,
            CASE WHEN old.cc IS DISTINCT FROM new.cc
                 THEN ',"cc":' || json_build_array(old.cc, new.cc) END,
            CASE WHEN old.status IS DISTINCT FROM new.status
                 THEN ',"status":' || json_build_array(old.status, new.status) END,
            CASE WHEN old.sub_status IS DISTINCT FROM new.sub_status
                 THEN ',"sub_status":' || json_build_array(old.sub_status, new.sub_status) END,
            CASE WHEN old.created_user_name IS DISTINCT FROM new.created_user_name
                 THEN ',"created_user_name":' || json_build_array(old.created_user_name, new.created_user_name) END,
            CASE WHEN old.project_name IS DISTINCT FROM new.project_name
                 THEN ',"project_name":' || json_build_array(old.project_name, new.project_name) END,
            CASE WHEN old.agent_name IS DISTINCT FROM new.agent_name
                 THEN ',"agent_name":' || json_build_array(old.agent_name, new.agent_name) END,
            CASE WHEN old.agent_user_name IS DISTINCT FROM new.agent_user_name
                 THEN ',"agent_user_name":' || json_build_array(old.agent_user_name, new.agent_user_name) END,
            CASE WHEN old.first_open_time IS DISTINCT FROM new.first_open_time
                 THEN ',"first_open_time":' || json_build_array(old.first_open_time, new.first_open_time) END,
            CASE WHEN old.last_open_time IS DISTINCT FROM new.last_open_time
                 THEN ',"last_open_time":' || json_build_array(old.last_open_time, new.last_open_time) END,
            CASE WHEN old.soft_deadline IS DISTINCT FROM new.soft_deadline
                 THEN ',"soft_deadline":' || json_build_array(old.soft_deadline, new.soft_deadline) END,
            ',"extra":' || named::text);

        -- What changed tells, not whole rows: types of columns that the user added may have no equality.
        IF e.action = 'delete' THEN
            NULL;
        ELSIF NOT e.exists THEN
            made := made || new;
            IF e.deleted THEN
                revived := revived || e.n;
            END IF;
            results[e.n] := 'inserted';
        ELSIF changes[e.n] = '' THEN
            changes[e.n] := NULL;
            results[e.n] := 'unchanged';
            CONTINUE;
        ELSE
            new.last_event_at := e.received_at;
            changed := changed || new;
            results[e.n] := 'updated';
        END IF;
        was_open[e.n] := CASE WHEN e.exists THEN old.status IS DISTINCT FROM 'closed' END;
        is_open[e.n] := CASE WHEN e.action <> 'delete' THEN new.status IS DISTINCT FROM 'closed' END;
    END LOOP;

    IF present > locked THEN
        RAISE serialization_failure USING MESSAGE = 'another session made a ticket''s row or deleted it just now';
    END IF;
    IF NOT tolerant THEN
        PERFORM vcc.write_tickets(changed, made, held, dropped, added, cardinality(revived));
    END IF;
    -- Where a constraint refuses a row, all is written without it: once more from here, not from the beginning. What no
    -- event can be blamed for fails.
    WHILE tolerant LOOP
        BEGIN
            PERFORM vcc.write_tickets(changed, made, held, dropped, added, cardinality(revived));
            EXIT;
        EXCEPTION WHEN check_violation OR not_null_violation THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, nsp = SCHEMA_NAME,
                tab = TABLE_NAME, col = COLUMN_NAME, con = CONSTRAINT_NAME;
            -- "Failing row contains (101, 5, ...": in every language the key comes first.
            key := regexp_match(detail, '^[^(]*\((-?\d+), (-?\d+)[,)]');
            bad := (SELECT k.n FROM unnest(project_id, ticket_id) WITH ORDINALITY k (project_id, ticket_id, n)
                     WHERE k.project_id = key[1] AND k.ticket_id = key[2]);
            IF (nsp, tab) <> ('vcc', 'tickets') OR bad IS NULL OR results[bad] LIKE '!%' THEN
                RAISE;
            END IF;
            results[bad] := concat('!', state, '|', col, '|', con);
            changed := ARRAY(SELECT c FROM unnest(changed) c WHERE (c.project_id, c.ticket_id) <> (key[1], key[2]));
            made := ARRAY(SELECT m FROM unnest(made) m WHERE (m.project_id, m.ticket_id) <> (key[1], key[2]));
            held := ARRAY(SELECT h FROM unnest(held) h WHERE (h.project_id, h.ticket_id) <> (key[1], key[2]));
            dropped := ARRAY(SELECT d FROM unnest(dropped) d WHERE (d.project_id, d.ticket_id) <> (key[1], key[2]));
            added := ARRAY(SELECT a FROM unnest(added) a WHERE (a.project_id, a.ticket_id) <> (key[1], key[2]));
            revived := array_remove(revived, bad);
        END;
    END LOOP;

    -- A unique violation here: another session applied one of them just now.
    INSERT INTO vcc.ticket_events (
           event_id, project_id, ticket_id, action, received_at, result, payload, changes, was_open, is_open)
    SELECT b.event_id, b.project_id, b.ticket_id, b.action, b.received_at, b.result, b.payload::jsonb,
           ('{' || substr(b.changes, 2) || '}')::jsonb, b.was_open, b.is_open
      FROM (SELECT unnest(event_id) AS event_id, unnest(project_id) AS project_id, unnest(ticket_id) AS ticket_id,
                   unnest(action) AS action, unnest(received_at) AS received_at, unnest(results) AS result,
                   unnest(payload) AS payload, unnest(changes) AS changes, unnest(was_open) AS was_open,
                   unnest(is_open) AS is_open, unnest(earlier) AS earlier) b
     WHERE b.earlier IS NULL AND b.result NOT LIKE '!%';
    RETURN results;
END
$$;

COMMENT ON FUNCTION vcc.apply_events IS 'Applies events of different tickets and journals them; returns their results';

-- One add or update, for other applications. clears and extra_names are arrays of names.
CREATE FUNCTION vcc.upsert_ticket(
    event_id           uuid,
    received_at        timestamptz,
    action             text,
    payload            text,
    clears             text[],
    extra_names        text[],
    project_id         bigint,
    ticket_id          bigint,
    entity_id          bigint,
    contact_id         bigint,
    created_user_id    bigint,
    user_id            bigint,
    ticket_no          text,
    title              text,
    type               text,
    description        text,
    cc                 text,
    status             text,
    sub_status         text,
    created_user_name  text,
    project_name       text,
    agent_name         text,
    agent_user_name    text,
    first_open_time    timestamptz,
    last_open_time     timestamptz,
    soft_deadline      timestamptz
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attributes  jsonb := jsonb_strip_nulls(jsonb_build_object(
        'entity_id', entity_id, 'contact_id', contact_id, 'created_user_id', created_user_id, 'user_id', user_id,
        'ticket_no', ticket_no, 'title', title, 'type', type, 'description', description, 'cc', cc, 'status', status,
        'sub_status', sub_status, 'created_user_name', created_user_name, 'project_name', project_name,
        'agent_name', agent_name, 'agent_user_name', agent_user_name, 'first_open_time', first_open_time,
        'last_open_time', last_open_time, 'soft_deadline', soft_deadline));
BEGIN
    IF clears IS NOT NULL THEN
        attributes := coalesce((SELECT jsonb_object_agg(c, NULL) FROM unnest(clears) c), '{}') || attributes;
    END IF;
    RETURN (vcc.apply_events(
        ARRAY[event_id], ARRAY[received_at], ARRAY[action], ARRAY[payload], ARRAY[project_id], ARRAY[ticket_id],
        ARRAY[attributes::text], ARRAY[jsonb_object(extra_names, extra_names)::text], repeats => true))[1];
END
$$;

COMMENT ON FUNCTION vcc.upsert_ticket IS 'Applies one add or update event, as vcc.apply_events does; returns its result';

-- One delete.
CREATE FUNCTION vcc.delete_ticket(
    event_id     uuid,
    received_at  timestamptz,
    payload      text,
    project_id   bigint,
    ticket_id    bigint
) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT vcc.upsert_ticket(event_id, received_at, 'delete', payload, NULL, NULL, project_id, ticket_id,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
$$;

COMMENT ON FUNCTION vcc.delete_ticket IS 'Applies one delete event, as vcc.apply_events does; returns its result';
