-- What an event does. All that changes a ticket because of an event is in this file.
--
--            | the ticket has a row                                   | it has none
--   ---------+--------------------------------------------------------+-------------------------------------------------
--   add      | the first add to reach the row fills what is still     | inserts. After a delete: inserts only if the
--            | unknown (updates overtook it); the same add again      | ticket had had an add and this one is new; else
--            | changes nothing; another one overwrites like an update | it was overtaken or is a repeat: ignored
--   update   | overwrites what it carries, clears explicit nulls      | inserts; after a delete: ignored
--   delete   | deletes                                                | remembers the deletion: unchanged
--
-- "The same add" has the same bytes as any add that the ticket ever had. An event that waited (in a spool, overtaken,
-- set aside, imported) changes nothing that an event received later carried, fills only where the journal no longer
-- tells, is ignored if it was received before a deletion, and does not delete a ticket that was added again after it.
-- One that was applied before, or set aside and not `retried`, does nothing. All events of an erased ticket are ignored.
-- Parameters have an element for each event; no ticket is there twice. One that is NULL says nothing of any event.
--   payload      the body as it was received; digest: its SHA-256, if the caller has it
--   waited       whether it waited; retried: it was set aside; cleared: columns that it sets to NULL: '{"title","cc"}'
--   extra_names  attributes without a column: merged into extra by name, the values are the body's
--   after        the ticket's event that must have been applied before: else this one is held too
--   project      the project of all, in place of project_id (on Citus it must be there)
-- Returns a row for each: what it did, as the journal has it; or
-- held: the ticket cannot be written now, and nothing was, try again; or refused: never, see detail.
-- What else PostgreSQL refuses fails the whole call. With psql:
--   SELECT * FROM vcc.apply_events(project => 130, ticket_id => '{21}', action => '{update}', title => '{bug}',
--       payload => ARRAY['{"action": "update", "ticket": {"projectId": 130, "ticketId": 21, "title": "bug"}}']);
-- Plans are cached; one made on an empty table must not scan all of it later: enable_seqscan, and rows are found by index in
-- subqueries that stay subqueries (OFFSET 0), or by ctid for few events: unnest counts as 10 rows, of generate_subscripts 1000.
CREATE OR REPLACE FUNCTION vcc.apply_events(
    event_id uuid[] DEFAULT NULL, received_at timestamptz[] DEFAULT NULL, action text[] DEFAULT NULL,
    project_id bigint[] DEFAULT NULL, ticket_id bigint[] DEFAULT NULL, payload text[] DEFAULT NULL,
    digest bytea[] DEFAULT NULL, waited boolean[] DEFAULT NULL, cleared text[] DEFAULT NULL, extra_names text[] DEFAULT NULL,
    after uuid[] DEFAULT NULL, retried boolean[] DEFAULT NULL, project bigint DEFAULT NULL
    , {column} {type}[] DEFAULT NULL
) RETURNS TABLE (n integer, result text, detail text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'  -- of the times in changes
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    locked   boolean[];  -- the ticket's row is there, and ours until the end of the transaction
    barred   boolean[];  -- it has none, and another session deletes one in its part of all tickets; or `after` is missing
    earlier  text[]; later text[]; behind boolean[]; over boolean[];  -- of those that waited: see vcc.late_events
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN  -- a look after a lock must show what others did
        RAISE feature_not_supported USING MESSAGE = 'ticketd needs default_transaction_isolation = ''read committed''';
    END IF;
    IF current_setting('synchronous_commit') = 'off' THEN  -- what is answered 200 is on disk
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    IF project_id IS NULL THEN
        project_id := array_fill(project, ARRAY[cardinality(ticket_id)]);
    END IF;
    IF event_id IS NULL THEN  -- a UUIDv7 of now
        received_at := coalesce(received_at, array_fill(statement_timestamp(), ARRAY[cardinality(ticket_id)]));
        event_id := ARRAY(SELECT (left(vcc.first_event_id(r)::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid
                            FROM unnest(received_at) r);
    END IF;
    IF cardinality(ticket_id) > 1 THEN  -- an IF of its own: a condition with a query in it costs that query
        IF EXISTS (SELECT FROM (SELECT unnest(project_id) AS p, unnest(ticket_id) AS t) k
                    GROUP BY k.p, k.t HAVING count(*) > 1) THEN
            RAISE invalid_parameter_value USING MESSAGE = 'a ticket is there twice in one call of vcc.apply_events';
        END IF;
    END IF;

    -- Lock. What another session has is skipped: rows never wait for each other.
    locked := ARRAY(SELECT (SELECT true FROM vcc.tickets t
                             WHERE t.project_id = e.project_id AND t.ticket_id = e.ticket_id FOR UPDATE SKIP LOCKED)
                      FROM (SELECT unnest(project_id) AS project_id, unnest(ticket_id) AS ticket_id) e);

    -- Where there is no row to lock: a delete waits until nobody is making one in that part of all tickets, and nobody
    -- begins to meanwhile. So one of the two sees what the other did. Who comes to a deleted ticket has its deletion alone:
    -- an update would be ignored beside an add that is under way.
    IF array_position(locked, NULL) IS NOT NULL THEN
        IF 'delete' = ANY (action) THEN
            PERFORM pg_advisory_xact_lock(824391005, b.part)
               FROM (SELECT DISTINCT (hashint8extended(e.ticket_id, e.project_id) & 63)::integer AS part
                       FROM unnest(project_id, ticket_id, locked, action) e (project_id, ticket_id, locked, action)
                      WHERE e.locked IS NULL AND e.action = 'delete' ORDER BY part) b;
        END IF;
        barred := ARRAY(SELECT CASE WHEN e.locked IS NULL THEN NOT pg_try_advisory_xact_lock_shared(
                824391005, (hashint8extended(e.ticket_id, e.project_id) & 63)::integer) OR e.action <> 'delete' AND
                (SELECT true FROM vcc.deleted_tickets d WHERE d.project_id = e.project_id AND d.ticket_id = e.ticket_id) AND
                (SELECT true FROM vcc.deleted_tickets d
                  WHERE d.project_id = e.project_id AND d.ticket_id = e.ticket_id FOR UPDATE SKIP LOCKED) IS NULL END
                          FROM unnest(project_id, ticket_id, locked, action) e (project_id, ticket_id, locked, action));
    END IF;
    IF after IS NOT NULL THEN
        barred := ARRAY(SELECT e.barred OR e.after IS NOT NULL AND (SELECT count(*) = 0 FROM vcc.ticket_events j
                                WHERE j.project_id = e.project_id AND j.ticket_id = e.ticket_id AND j.event_id = e.after)
                          FROM unnest(project_id, ticket_id, after, barred) e (project_id, ticket_id, after, barred));
    END IF;
    IF true = ANY (waited) THEN
        SELECT * INTO earlier, later, behind, over
          FROM vcc.late_events(event_id, received_at, action, project_id, ticket_id, payload, digest, waited, retried);
    END IF;
    RETURN QUERY WITH e AS (  -- the events
        SELECT k.n::integer AS n, event_id[k.n] AS event_id, received_at[k.n] AS received_at, action[k.n] AS action,
               project_id[k.n] AS project_id, ticket_id[k.n] AS ticket_id, payload[k.n]::jsonb AS body,
               CASE action[k.n] WHEN 'add' THEN coalesce(digest[k.n], sha256(convert_to(payload[k.n], 'UTF8'))) END AS digest,
               CASE action[k.n] WHEN 'delete' THEN ARRAY['extra'
                   , '{column}'
               ] ELSE cleared[k.n]::text[] END AS cleared, extra_names[k.n]::text[] AS extra_names, locked[k.n] AS present,
               earlier[k.n] AS earlier, later[k.n]::text[] AS later, over[k.n] AS over, behind[k.n] AS behind, waited[k.n] AS waited
               , apply_events.{column}[k.n] AS {column}
          FROM unnest(ticket_id) WITH ORDINALITY k (id, n) OFFSET 0
    ), s AS (    -- beside what there is of their tickets
        SELECT e.*, d.ctid AS deletion, d.erased, e.waited AND d.deleted_at > e.received_at AS deleted_later,
               barred[e.n] OR e.present IS NULL AND
                   (SELECT true FROM vcc.tickets t WHERE t.project_id = e.project_id AND t.ticket_id = e.ticket_id) AS held,
               (SELECT bool_or(a.digest = e.digest) FROM vcc.ticket_adds a  -- NULL: it had no add yet
                 WHERE e.action = 'add' AND a.project_id = e.project_id AND a.ticket_id = e.ticket_id) AS add_seen
          FROM e LEFT JOIN LATERAL (
               SELECT d.ctid, d.erased, d.deleted_at FROM vcc.deleted_tickets d
                WHERE e.present IS NULL AND d.project_id = e.project_id AND d.ticket_id = e.ticket_id OFFSET 0) d ON true OFFSET 0
    ), v AS (    -- verdicts
        SELECT s.*, s.action = 'add' AND s.add_seen IS NULL OR s.behind AS fills,
               CASE WHEN (s.action IN ('add', 'update', 'delete')) IS NOT TRUE THEN 'refused'
                    WHEN s.held THEN 'held'
                    WHEN s.earlier IS NOT NULL THEN 'repeated'
                    WHEN s.erased THEN 'ignored'
                    WHEN s.action = 'delete' AND s.present IS NULL THEN 'unchanged'
                    WHEN s.over OR s.deleted_later THEN 'ignored'
                    WHEN s.action = 'delete' THEN 'deleted'
                    WHEN s.present AND s.add_seen THEN 'unchanged'
                    WHEN s.present THEN 'updated'
                    WHEN s.deletion IS NULL OR s.add_seen = false THEN 'inserted'
                    ELSE 'ignored' END AS verdict
          FROM s OFFSET 0
    ), r AS (    -- rows as they will be
        SELECT e.n, e.event_id, e.project_id, e.ticket_id, e.action, e.received_at, e.body, e.verdict, e.earlier, e.erased,
               e.deletion, CASE WHEN e.add_seen IS NOT TRUE AND e.erased IS NOT TRUE THEN e.digest END AS digest,
               t.ctid AS place, t.extra AS old_extra, greatest(t.last_event_at, e.received_at) AS last_event_at,
               CASE WHEN e.verdict = 'deleted' THEN '{}' WHEN e.extra_names IS NULL THEN coalesce(t.extra, '{}')
                    ELSE vcc.merge_extra(coalesce(t.extra, '{}'), e.body, e.extra_names, e.later, e.fills) END AS extra
               , t.{column} AS old_{column}
               , CASE WHEN e.later && '{{names}}' THEN t.{column} WHEN e.fills THEN COALESCE(t.{column}, e.{column}) WHEN '{column}' = ANY (e.cleared) THEN NULL ELSE COALESCE(e.{column}, t.{column}) END AS {column}
          FROM v e LEFT JOIN LATERAL (
               SELECT t.ctid, t.extra, t.last_event_at
                      , t.{column}
                 FROM vcc.tickets t WHERE e.present AND t.project_id = e.project_id AND t.ticket_id = e.ticket_id OFFSET 0) t ON true OFFSET 0
    ), n AS MATERIALIZED (  -- and what that changes: text, of which only what is needed is made, takes a quarter of jsonb
        SELECT r.n, r.event_id, r.project_id, r.ticket_id, r.received_at, r.action, r.body, r.earlier, r.erased, r.deletion,
               r.digest, r.place, r.extra, r.last_event_at, r.old_status,
               CASE WHEN r.extra IS NULL AND r.verdict IN ('inserted', 'updated') THEN 'refused' ELSE r.verdict END AS verdict,
               CASE WHEN r.verdict IN ('inserted', 'updated', 'deleted') THEN array_to_string(ARRAY[
                   CASE WHEN coalesce(r.old_extra, '{}') <> r.extra THEN concat('"extra":', vcc.changed_extra(r.old_extra, r.extra)) END
                   , CASE WHEN r.old_{column} IS DISTINCT FROM r.{column} THEN concat('"{column}":', json_build_array(r.old_{column}, r.{column})) END
                   ], ',') END AS changes
               , r.{column}
          FROM r
    ), changed AS (  -- first, for it may give up what a unique index of the user's holds
        UPDATE vcc.tickets t SET extra = e.extra, last_event_at = e.last_event_at
               , {column} = e.{column}
          FROM n e WHERE e.verdict = 'updated' AND e.changes <> '' AND t.project_id = e.project_id AND t.ctid = e.place RETURNING 1
    ), dropped AS (
        DELETE FROM vcc.tickets t USING n e WHERE e.verdict = 'deleted' AND t.project_id = e.project_id AND t.ctid = e.place RETURNING 1
    ), made AS (
        INSERT INTO vcc.tickets (project_id, ticket_id, extra, first_event_at, last_event_at
               , {column}
        )
        SELECT e.project_id, e.ticket_id, e.extra, e.received_at, e.received_at
               , e.{column}
          FROM n e
         WHERE e.verdict = 'inserted' AND (SELECT count(*) FROM (SELECT FROM changed UNION ALL SELECT FROM dropped) first) >= 0
            ON CONFLICT (project_id, ticket_id) DO NOTHING RETURNING project_id, ticket_id  -- not where another was faster
    ), done AS MATERIALIZED (
        SELECT n.n, n.event_id, n.project_id, n.ticket_id, n.action, n.received_at, n.deletion, n.digest, n.earlier,
               CASE WHEN n.verdict = 'updated' AND n.changes = '' THEN 'unchanged'
                    WHEN n.verdict = 'inserted' AND (n.project_id, n.ticket_id) NOT IN (SELECT * FROM made) THEN 'held'
                    ELSE n.verdict END AS result,
               CASE WHEN n.erased THEN '{}' ELSE n.body END AS body,
               CASE WHEN n.changes <> '' OR n.verdict <> 'updated' THEN ('{' || n.changes || '}')::jsonb END AS changes,
               CASE WHEN n.verdict = 'deleted' OR n.verdict = 'updated' AND n.changes <> '' THEN n.old_status IS DISTINCT FROM 'closed' END AS was_open,
               CASE WHEN n.verdict = 'inserted' OR n.verdict = 'updated' AND n.changes <> '' THEN n.status IS DISTINCT FROM 'closed' END AS is_open
          FROM n
    ), forgotten AS (
        DELETE FROM vcc.deleted_tickets d USING done e
         WHERE e.result = 'inserted' AND d.project_id = e.project_id AND d.ctid = e.deletion
    ), remembered AS (
        INSERT INTO vcc.deleted_tickets (project_id, ticket_id, deleted_at)
        SELECT e.project_id, e.ticket_id, e.received_at FROM done e
         WHERE e.action = 'delete' AND e.deletion IS NULL AND e.result IN ('deleted', 'unchanged')
    ), added AS (
        INSERT INTO vcc.ticket_adds (project_id, ticket_id, digest)
        SELECT e.project_id, e.ticket_id, e.digest FROM done e
         WHERE e.digest IS NOT NULL AND e.result NOT IN ('held', 'refused', 'repeated') ON CONFLICT DO NOTHING
    ), journal AS (
        INSERT INTO vcc.ticket_events (
               event_id, project_id, ticket_id, action, received_at, result, payload, changes, was_open, is_open)
        SELECT e.event_id, e.project_id, e.ticket_id, e.action, e.received_at, e.result, e.body, e.changes, e.was_open, e.is_open
          FROM done e WHERE e.result NOT IN ('held', 'refused', 'repeated')
    )
    SELECT e.n, CASE e.result WHEN 'repeated' THEN e.earlier ELSE e.result END,
           CASE WHEN e.earlier = 'refused' THEN 'it was set aside before'
                WHEN e.result = 'refused' AND e.action IN ('add', 'update') THEN 'extra would be larger than 1048576 bytes'
                WHEN e.result = 'refused' THEN format('there is no action "%s"', e.action) END
      FROM done e;
    -- Since the statement began others may have made such a row, and deleted it.
    IF array_position(locked, NULL) IS NOT NULL THEN
        IF true = ANY (ARRAY(
            SELECT (SELECT true FROM vcc.deleted_tickets d WHERE d.project_id = e.project_id AND d.ticket_id = e.ticket_id)
                   AND (SELECT true FROM vcc.tickets t WHERE t.project_id = e.project_id AND t.ticket_id = e.ticket_id)
              FROM unnest(project_id, ticket_id, locked) e (project_id, ticket_id, locked) WHERE e.locked IS NULL)) THEN
            RAISE serialization_failure USING MESSAGE = 'a ticket was deleted while its row was being made';
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION vcc.apply_events IS 'Applies events of different tickets and journals them; returns what each did';
