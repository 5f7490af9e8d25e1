-- 011: which tickets were deleted, so that what is added again is told from what is new; and answers that are kept, see
-- vcc.refresh_reports.
CREATE INDEX ticket_events_deletion ON vcc.ticket_events (project_id, ticket_id, applied_no)
    WHERE was_open IS DISTINCT FROM is_open AND is_open IS NULL;

CREATE TABLE vcc.ticket_metrics_kept (
    project_id                 bigint NOT NULL,
    ticket_id                  bigint NOT NULL,
    state                      text,
    opened_at                  timestamptz,
    closed_at                  timestamptz,
    first_resolution           interval,
    first_resolution_business  interval,
    full_resolution            interval,
    full_resolution_business   interval,
    desk_time                  interval,
    desk_time_business         interval,
    customer_time              interval,
    customer_time_business     interval,
    other_time                 interval,
    other_time_business        interval,
    open_time                  interval,
    open_time_business         interval,
    first_turn                 interval,
    first_turn_business        interval,
    closes                     bigint,
    reopens                    bigint,
    stations                   bigint,
    agents                     bigint,
    time_to_assign             interval,
    time_to_assign_business    interval,
    unassigned_time            interval,
    unassigned_time_business   interval,
    one_touch                  boolean,
    age                        interval,
    age_business               interval,
    idle                       interval,
    idle_business              interval,
    in_state                   interval,
    in_state_business          interval,
    complete                   boolean,
    closed_agent_name          text,
    closed_agent_user_name     text,
    PRIMARY KEY (project_id, ticket_id)
);

CREATE TABLE vcc.deadline_cycles_kept (
    project_id          bigint NOT NULL,
    ticket_id           bigint NOT NULL,
    opened_at           timestamptz,
    closed_at           timestamptz,
    first_deadline      timestamptz,
    deadline            timestamptz,
    met                 boolean,
    breached            boolean,
    met_first           boolean,
    ever_breached       boolean,
    cancelled           boolean,
    predates            boolean,
    moved_later         bigint,
    moved_earlier       bigint,
    moved_after_breach  bigint,
    removed             bigint,
    agent_name          text,
    type                text,
    agent_user_name     text,
    cycle_no            bigint NOT NULL,
    PRIMARY KEY (project_id, ticket_id, cycle_no)
);

CREATE TABLE vcc.tickets_kept (
    project_id  bigint NOT NULL,
    ticket_id   bigint NOT NULL,
    version     bigint NOT NULL,
    kept_at     timestamptz NOT NULL,
    PRIMARY KEY (project_id, ticket_id)
);

COMMENT ON TABLE  vcc.ticket_metrics_kept IS 'The rows of vcc.ticket_metrics, kept by vcc.refresh_reports: for reports of all projects';
COMMENT ON TABLE  vcc.deadline_cycles_kept IS 'The rows of vcc.deadline_cycles, kept by vcc.refresh_reports: for reports of all projects';
COMMENT ON TABLE  vcc.tickets_kept IS 'Which tickets vcc.refresh_reports has looked at; those whose row has changed since, and open ones, are looked at again';
COMMENT ON COLUMN vcc.tickets_kept.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.tickets_kept.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.tickets_kept.version IS 'Transaction that wrote its row in vcc.tickets or vcc.deleted_tickets (xmin)';
COMMENT ON COLUMN vcc.tickets_kept.kept_at IS 'When it was looked at; the latest is the time of the last refresh';

DO $$
DECLARE
    part  record;
BEGIN
    FOR part IN
        SELECT a.attrelid::regclass AS kept, a.attname, left(c.relname, -5) AS view FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE a.attrelid IN ('vcc.ticket_metrics_kept'::regclass, 'vcc.deadline_cycles_kept'::regclass) AND a.attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', part.kept, part.attname, format('As in vcc.%s, at the last refresh', part.view));
    END LOOP;
END
$$;
