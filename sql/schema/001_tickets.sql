-- 001: the tickets and their journal.
--
-- `ticketd migrate` runs each numbered file once, inside its transaction, with search_path = pg_catalog. A statement ends
-- with the line that ends in a semicolon. What the columns of attributes mean is said in sql/comments.sql.

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
