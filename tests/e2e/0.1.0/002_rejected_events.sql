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

-- Sets a body aside. Called again for the same receipt (the answer to its commit was lost, or its retry was refused)
-- it counts once.
CREATE FUNCTION vcc.reject_event(
    event_id     uuid,
    received_at  timestamptz,
    project_id   bigint,
    body         bytea,
    reason       text
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO vcc.rejected_events AS r
           (body, reason, first_received_at, last_received_at, attempts, project_id, digest, last_event_id)
    VALUES (body, reason, received_at, received_at, 1, project_id, sha256(body), event_id)
    ON CONFLICT (project_id, digest) DO UPDATE SET
        reason            = excluded.reason,
        first_received_at = least(r.first_received_at, excluded.first_received_at),
        last_received_at  = greatest(r.last_received_at, excluded.last_received_at),
        attempts          = r.attempts + (excluded.last_event_id > r.last_event_id)::integer,
        last_event_id     = greatest(r.last_event_id, excluded.last_event_id)
     WHERE excluded.last_event_id > r.last_event_id OR excluded.reason <> r.reason
$$;

COMMENT ON FUNCTION vcc.reject_event IS 'Sets a refused body aside in vcc.rejected_events, once for each distinct body, with a count';

-- A page of what was last received from `since` on and before `until`, behind the event `after`.
CREATE FUNCTION vcc.list_rejected(
    since  timestamptz,
    until  timestamptz,
    after  uuid,
    most   integer
) RETURNS SETOF vcc.rejected_events
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM vcc.rejected_events r
     WHERE r.last_event_id > after AND r.last_received_at >= since AND r.last_received_at < until
     ORDER BY r.last_event_id LIMIT most
$$;

COMMENT ON FUNCTION vcc.list_rejected IS 'A page of vcc.rejected_events in the order of receipt, for `ticketd rejected`';

-- Forgets a body whose retry succeeds, in the transaction that applies it. One that came again meanwhile stays: that is
-- another event.
CREATE FUNCTION vcc.forget_rejected(event_id uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM vcc.rejected_events r WHERE r.last_event_id = event_id
$$;

COMMENT ON FUNCTION vcc.forget_rejected IS 'Removes from vcc.rejected_events the body of an event that is applied now';

CREATE TABLE vcc.imports (
    digest      bytea PRIMARY KEY,
    started_at  timestamptz NOT NULL
);

COMMENT ON TABLE  vcc.imports IS 'Files that `ticketd import` was given: the same file again applies nothing twice';
COMMENT ON COLUMN vcc.imports.digest IS 'SHA-256 of the file';
COMMENT ON COLUMN vcc.imports.started_at IS 'When its import was first begun: the identifiers of its events follow from this and the number of the line';

CREATE FUNCTION vcc.begin_import(digest bytea, now timestamptz) RETURNS timestamptz
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO vcc.imports AS i VALUES (digest, now)
    ON CONFLICT ON CONSTRAINT imports_pkey DO UPDATE SET started_at = i.started_at
    RETURNING i.started_at
$$;

COMMENT ON FUNCTION vcc.begin_import IS 'Notes that a file is imported; returns when that was first begun';
