-- 002: bodies that were refused, and the files that were imported.

CREATE TABLE vcc.rejected_events (
    body               bytea NOT NULL,
    reason             text NOT NULL,
    first_received_at  timestamptz NOT NULL,
    last_received_at   timestamptz NOT NULL,
    attempts           integer NOT NULL,
    project_id         bigint NOT NULL,
    digest             bytea NOT NULL,
    last_event_id      uuid NOT NULL,
    PRIMARY KEY (project_id, digest)
);

-- `ticketd rejected` goes through them in the order of receipt.
CREATE INDEX rejected_events_last ON vcc.rejected_events (last_event_id);

COMMENT ON TABLE  vcc.rejected_events IS 'Bodies that were set aside: answered 400 or 422, or refused by PostgreSQL alone. One row for each distinct body, until `ticketd rejected retry` succeeds with it';
COMMENT ON COLUMN vcc.rejected_events.body IS 'The body, byte for byte; encode(body, ''escape'') shows it';
COMMENT ON COLUMN vcc.rejected_events.reason IS 'Why it was refused the last time: each fault with a JSON pointer to its place, or PostgreSQL''s SQLSTATE and constraint';
COMMENT ON COLUMN vcc.rejected_events.first_received_at IS 'When it was received first';
COMMENT ON COLUMN vcc.rejected_events.last_received_at IS 'When it was received last';
COMMENT ON COLUMN vcc.rejected_events.attempts IS 'How many times it was received';
COMMENT ON COLUMN vcc.rejected_events.project_id IS 'Project that it speaks of; 0 where it does not say';
COMMENT ON COLUMN vcc.rejected_events.digest IS 'SHA-256 of body';
COMMENT ON COLUMN vcc.rejected_events.last_event_id IS 'Identifier given to it at the last receipt, a UUIDv7';

CREATE TABLE vcc.imports (
    digest      bytea PRIMARY KEY,
    started_at  timestamptz NOT NULL
);

COMMENT ON TABLE  vcc.imports IS 'Files that `ticketd import` was given: the same file again applies nothing twice';
COMMENT ON COLUMN vcc.imports.digest IS 'SHA-256 of the file';
COMMENT ON COLUMN vcc.imports.started_at IS 'When its import was first begun: the identifiers of its events follow from this and the number of the line';
