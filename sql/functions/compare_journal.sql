-- Whether the tables are what the journal says, for `ticketd verify`; and how one ticket is made so again. The journal is
-- folded and not applied once more: each value in `changes` must be what the row before left, the last is the ticket's.

-- Of a project's tickets behind that one (NULL: from the first) up to that one (NULL: to the last):
--   known     whether the journal has all of it: not of one that was erased, and behind the horizon of drop_events_before
--             only where nothing shows that rows are gone
--   linked    whether each row of the journal begins where the one before it of the ticket ended
--   should    its row as the journal says, names in extra as extra.NAME; NULL: there is to be none
--   held      its row as it is, in the same form
--   gone_at   when it was deleted, as the journal says; deleted_at: as vcc.deleted_tickets has it
--   adds      digests that it has; the journal knows of `adds_least` to `adds_most`
--   events    rows of the journal
-- What waited in extra and got a column later counts as that column: `ticketd migrate` moved it, without an event.
CREATE OR REPLACE FUNCTION vcc.fold_journal(project bigint, after bigint, upto bigint, zone text)
RETURNS TABLE (ticket_id bigint, known boolean, linked boolean, should jsonb, held jsonb, gone_at timestamptz,
               deleted_at timestamptz, adds bigint, adds_least bigint, adds_most bigint, events bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET plan_cache_mode = force_custom_plan SET jit = off SET enable_sort = on
AS $$
#variable_conflict use_column
DECLARE
    horizon     CONSTANT timestamptz := (SELECT h.before FROM vcc.journal_horizon h);
    attributes  CONSTANT jsonb := '[
        ["{column}", "{type}", "{names}"],
        null]';
BEGIN
    RETURN QUERY WITH j AS (  -- the journal: life counts how often the ticket was made
        SELECT e.ticket_id, e.applied_no, e.event_id, e.received_at, e.action, e.result, e.changes,
               CASE e.action WHEN 'add' THEN e.payload END AS payload,
               e.result IN ('inserted', 'updated', 'deleted') AS effective,
               count(*) FILTER (WHERE e.result = 'inserted') OVER (PARTITION BY e.ticket_id ORDER BY e.applied_no, e.event_id) AS life,
               count(*) FILTER (WHERE e.result = 'inserted') OVER (PARTITION BY e.ticket_id) AS lives
          FROM vcc.ticket_events e
         WHERE e.project_id = project AND (after IS NULL OR e.ticket_id > after) AND (upto IS NULL OR e.ticket_id <= upto)
    ), s AS (    -- a ticket is made, changed and deleted, in this order
        SELECT c.ticket_id, bool_and((c.result = 'inserted') = (c.before IS NULL OR c.before = 'deleted')) AS in_order,
               bool_or(c.first AND c.result = 'inserted') AS begins, bool_or(c.last AND c.result <> 'deleted') AS present
          FROM (SELECT j.ticket_id, j.result, lag(j.result) OVER w AS before, lag(j.result) OVER w IS NULL AS first,
                       lead(j.result) OVER w IS NULL AS last
                  FROM j WHERE j.effective
                WINDOW w AS (PARTITION BY j.ticket_id ORDER BY j.applied_no, j.event_id)) c
         GROUP BY c.ticket_id
    ), g AS (
        SELECT j.ticket_id, count(*) AS events, count(*) FILTER (WHERE j.action = 'add') AS adds_most,
               greatest(count(DISTINCT j.payload), count(*) FILTER (WHERE j.action = 'add' AND j.effective)) AS adds_least,
               min(j.received_at) FILTER (WHERE j.life = j.lives AND j.result = 'inserted') AS first_event_at,
               max(j.received_at) FILTER (WHERE j.life = j.lives AND j.result IN ('inserted', 'updated')) AS last_event_at,
               (array_agg(j.received_at ORDER BY j.applied_no, j.event_id) FILTER (
                    WHERE j.life = j.lives AND j.action = 'delete' AND j.result IN ('deleted', 'unchanged')))[1] AS gone_at
          FROM j GROUP BY j.ticket_id
    ), later AS (  -- names in extra that are columns now
        SELECT 'extra.' || n.name AS name, n.name AS attribute, a.value ->> 0 AS column, a.value ->> 1 AS type
          FROM jsonb_array_elements(attributes) a, unnest(string_to_array(a.value ->> 2, ',')) n (name)
    ), c AS (    -- each change, beside the one before it of the same value
        SELECT u.*, lag(u.new) OVER w AS before, lead(u.applied_no) OVER w IS NULL AS last
          FROM (SELECT j.ticket_id, j.applied_no, j.event_id, x.name, nullif(x.change -> 0, 'null') AS old,
                       nullif(x.change -> 1, 'null') AS new
                  FROM j CROSS JOIN LATERAL (
                       SELECT a.key, a.value FROM jsonb_each(j.changes) a WHERE a.key <> 'extra'
                        UNION ALL
                       SELECT 'extra.' || a.key, a.value FROM jsonb_each(j.changes -> 'extra') a) x (name, change)
                 WHERE j.effective) u
        WINDOW w AS (PARTITION BY u.ticket_id, u.name ORDER BY u.applied_no, u.event_id)
    ), moved AS (  -- columns of tickets that had a value for them in extra
        SELECT DISTINCT c.ticket_id, l.column, l.name FROM c JOIN later l ON l.name = c.name
    ), b AS (
        SELECT c.ticket_id, true AS broken
          FROM c WHERE c.before IS DISTINCT FROM c.old AND NOT EXISTS (
               SELECT FROM moved m WHERE m.ticket_id = c.ticket_id AND c.name IN (m.column, m.name))
         GROUP BY c.ticket_id
    ), v AS (    -- the last value of each name
        SELECT DISTINCT ON (c.ticket_id, p.name) c.ticket_id, p.name, p.value
          FROM c LEFT JOIN vcc.tickets t ON t.project_id = project AND t.ticket_id = c.ticket_id
          LEFT JOIN later l ON l.name = c.name AND (t.extra ? l.attribute) IS NOT TRUE
         CROSS JOIN LATERAL (VALUES (coalesce(l.column, c.name), CASE
                   WHEN l.column IS NULL OR c.new IS NULL THEN c.new
                   WHEN l.type = 'bigint' THEN to_jsonb((vcc.from_extra(c.new, l.type, zone)).result::bigint)
                   WHEN l.type = 'timestamptz' THEN to_jsonb((vcc.from_extra(c.new, l.type, zone)).result::timestamptz)
                   ELSE to_jsonb((vcc.from_extra(c.new, l.type, zone)).result) END)) p (name, value)
         WHERE c.last
         ORDER BY c.ticket_id, p.name, (l.column IS NULL AND p.value IS NOT NULL) DESC, c.applied_no DESC
    ), w AS (
        SELECT v.ticket_id, jsonb_object_agg(v.name, v.value) FILTER (WHERE v.value IS NOT NULL) AS attributes,
               array_agg(v.name) || '{first_event_at, last_event_at}' AS names
          FROM v GROUP BY v.ticket_id
    ), t AS (
        SELECT t.ticket_id, t.first_event_at, coalesce((SELECT jsonb_object_agg('extra.' || x.key, x.value) FROM jsonb_each(t.extra) x), '{}')
               || jsonb_strip_nulls(jsonb_build_object(
               '{column}', t.{column},
               'first_event_at', t.first_event_at, 'last_event_at', t.last_event_at)) AS held
          FROM vcc.tickets t
         WHERE t.project_id = project AND (after IS NULL OR t.ticket_id > after) AND (upto IS NULL OR t.ticket_id <= upto)
    ), d AS (
        SELECT d.ticket_id, d.deleted_at, d.erased FROM vcc.deleted_tickets d
         WHERE d.project_id = project AND (after IS NULL OR d.ticket_id > after) AND (upto IS NULL OR d.ticket_id <= upto)
    ), a AS (
        SELECT a.ticket_id, count(*) AS adds FROM vcc.ticket_adds a
         WHERE a.project_id = project AND (after IS NULL OR a.ticket_id > after) AND (upto IS NULL OR a.ticket_id <= upto)
         GROUP BY a.ticket_id
    )
    SELECT ticket_id, d.erased IS NOT TRUE AND (horizon IS NULL OR (
               s.begins AND s.in_order AND b.broken IS NULL AND coalesce(a.adds, 0) <= coalesce(g.adds_most, 0)
               AND least(t.first_event_at, d.deleted_at, g.first_event_at, g.gone_at) >= horizon
               -- A late event, whose row is gone, gave it what no later one carried.
               AND coalesce(t.held - coalesce(w.names, '{first_event_at, last_event_at}'), '{}') = '{}') IS TRUE),
           coalesce(s.begins AND s.in_order AND b.broken IS NULL, s.ticket_id IS NULL),
           CASE WHEN s.present THEN coalesce(w.attributes, '{}')
               || jsonb_build_object('first_event_at', g.first_event_at, 'last_event_at', g.last_event_at) END,
           t.held, g.gone_at, d.deleted_at, coalesce(a.adds, 0), coalesce(g.adds_least, 0), coalesce(g.adds_most, 0), coalesce(g.events, 0)
      FROM g LEFT JOIN s USING (ticket_id) LEFT JOIN b USING (ticket_id) LEFT JOIN w USING (ticket_id)
      FULL JOIN t USING (ticket_id) FULL JOIN d USING (ticket_id) FULL JOIN a USING (ticket_id);
END
$$;
COMMENT ON FUNCTION vcc.fold_journal IS 'Tickets as the journal says, beside what the tables have; a part of vcc.compare_journal';

-- Compares the tickets behind that one (NULL: from the first): as many as have `most` rows in a table. A row for each
-- difference; the last one, whose `what` is NULL, has in ticket_id up to where (NULL: to the project's end), and the numbers of
-- tickets and of rows of the journal. One statement, hence one snapshot. Values of texts and of extra are not told, for they
-- may be of persons: only how long they are.
CREATE OR REPLACE FUNCTION vcc.compare_journal(project bigint, after bigint, most integer, zone text)
RETURNS TABLE (ticket_id bigint, what text, journal text, held text, equal bigint, differ bigint, unknown bigint, events bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET plan_cache_mode = force_custom_plan SET jit = off
SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off  -- where a portion ends: by the key
AS $$
#variable_conflict use_column
DECLARE
    shown  CONSTANT text[] := ARRAY['first_event_at', 'last_event_at',
        CASE '{type}' WHEN 'text' THEN NULL ELSE '{column}' END,
        NULL];
    upto   CONSTANT bigint := least(
        (SELECT x.ticket_id FROM vcc.ticket_events x WHERE x.project_id = project AND (after IS NULL OR x.ticket_id > after)
          ORDER BY x.ticket_id OFFSET compare_journal.most - 1 LIMIT 1),
        (SELECT x.ticket_id FROM vcc.tickets x WHERE x.project_id = project AND (after IS NULL OR x.ticket_id > after)
          ORDER BY x.ticket_id OFFSET compare_journal.most - 1 LIMIT 1),
        (SELECT x.ticket_id FROM vcc.deleted_tickets x WHERE x.project_id = project AND (after IS NULL OR x.ticket_id > after)
          ORDER BY x.ticket_id OFFSET compare_journal.most - 1 LIMIT 1),
        (SELECT x.ticket_id FROM vcc.ticket_adds x WHERE x.project_id = project AND (after IS NULL OR x.ticket_id > after)
          ORDER BY x.ticket_id OFFSET compare_journal.most - 1 LIMIT 1));
BEGIN
    RETURN QUERY WITH f AS MATERIALIZED (
        SELECT f.* FROM vcc.fold_journal(project, after, upto, zone) f
    ), differences AS MATERIALIZED (
        SELECT f.ticket_id, x.what, x.journal, x.held
          FROM f CROSS JOIN LATERAL (
               SELECT 'row', CASE WHEN f.should IS NULL THEN 'none' ELSE 'one' END, CASE WHEN f.held IS NULL THEN 'none' ELSE 'one' END
                WHERE (f.should IS NULL) <> (f.held IS NULL)
                UNION ALL
               SELECT name, vcc.describe_value(s.value, name = ANY (shown)), vcc.describe_value(h.value, name = ANY (shown))
                 FROM jsonb_each(f.should) s (name, value) FULL JOIN jsonb_each(f.held) h (name, value) USING (name)
                WHERE f.should <> f.held AND s.value IS DISTINCT FROM h.value
                UNION ALL
               SELECT 'deletion', coalesce(to_jsonb(f.gone_at) #>> '{}', 'none'), coalesce(to_jsonb(f.deleted_at) #>> '{}', 'none')
                WHERE f.gone_at IS DISTINCT FROM f.deleted_at
                UNION ALL
               SELECT 'digests of adds', CASE WHEN f.adds_least = f.adds_most THEN f.adds_most::text ELSE format('%s to %s', f.adds_least, f.adds_most) END, f.adds::text
                WHERE f.adds NOT BETWEEN f.adds_least AND f.adds_most
                UNION ALL
               SELECT 'journal', 'rows are missing or changed, or the table was before an event', NULL
                WHERE NOT f.linked) x (what, journal, held)
         WHERE f.known
    )
    SELECT d.*, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint
      FROM (SELECT * FROM differences d ORDER BY d.ticket_id, d.what) d
     UNION ALL
    SELECT upto, NULL, NULL, NULL, count(*) FILTER (WHERE f.known) - max(n.differ), max(n.differ),
           count(*) FILTER (WHERE NOT f.known), coalesce(sum(f.events), 0)::bigint
      FROM (SELECT count(DISTINCT d.ticket_id) AS differ FROM differences d) n LEFT JOIN f ON true;
END
$$;
COMMENT ON FUNCTION vcc.compare_journal IS 'How a portion of a project''s tickets differ from what the journal says, for `ticketd verify`';

-- The value of a number or time, of others what they are.
CREATE OR REPLACE FUNCTION vcc.describe_value(value jsonb, shown boolean) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN value IS NULL THEN 'nothing' WHEN shown THEN value #>> '{}'
                ELSE format('a %s of %s characters', jsonb_typeof(value), length(value #>> '{}')) END
$$;
COMMENT ON FUNCTION vcc.describe_value IS 'A value without what it says of persons; a part of vcc.compare_journal';

-- Makes a ticket's row, and the memory of its deletion, what the journal says, under the locks of vcc.apply_events. Returns
-- 'rebuilt', or why it is left as it is. It is no event: the journal does not tell of it. Digests of adds that are missing stay
-- so: the journal does not have the bytes. Waits for others at most five seconds; then nothing has changed.
CREATE OR REPLACE FUNCTION vcc.rebuild_ticket(project bigint, ticket bigint, zone text) RETURNS TABLE (answer text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s'
AS $$
DECLARE
    f     record;
    made  vcc.tickets;
BEGIN
    PERFORM FROM vcc.tickets t WHERE t.project_id = project AND t.ticket_id = ticket FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM pg_advisory_xact_lock(824391005, (hashint8extended(ticket, project) & 63)::integer);
        PERFORM FROM vcc.tickets t WHERE t.project_id = project AND t.ticket_id = ticket FOR UPDATE;
    END IF;
    SELECT * INTO f FROM vcc.fold_journal(project, CASE WHEN ticket > -9223372036854775808 THEN ticket - 1 END, ticket, zone);
    answer := CASE WHEN f.known IS NOT TRUE THEN 'the journal does not have all of it'
                   WHEN NOT f.linked THEN 'the journal itself is damaged'
                   WHEN f.should IS DISTINCT FROM f.held OR f.gone_at IS DISTINCT FROM f.deleted_at THEN 'rebuilt'
                   WHEN f.adds BETWEEN f.adds_least AND f.adds_most THEN 'it is as the journal says now'
                   ELSE 'the journal does not have the bytes of its adds' END;
    RETURN NEXT;
    IF answer <> 'rebuilt' THEN
        RETURN;
    END IF;
    made := jsonb_populate_record(NULL::vcc.tickets, f.should || jsonb_build_object('extra', (
        SELECT coalesce(jsonb_object_agg(substr(a.key, 7), a.value), '{}') FROM jsonb_each(f.should) a WHERE a.key LIKE 'extra.%')));
    IF f.should IS NULL THEN
        DELETE FROM vcc.tickets t WHERE t.project_id = project AND t.ticket_id = ticket;
    ELSIF f.held IS NOT NULL THEN
        UPDATE vcc.tickets t SET extra = made.extra, first_event_at = made.first_event_at, last_event_at = made.last_event_at
               , {column} = made.{column}
         WHERE t.project_id = project AND t.ticket_id = ticket;
    ELSE
        INSERT INTO vcc.tickets (project_id, ticket_id, extra, first_event_at, last_event_at
               , {column}
        ) VALUES (project, ticket, made.extra, made.first_event_at, made.last_event_at
               , made.{column}
        );
    END IF;
    IF f.gone_at IS NULL THEN
        DELETE FROM vcc.deleted_tickets d WHERE d.project_id = project AND d.ticket_id = ticket;
    ELSIF f.gone_at IS DISTINCT FROM f.deleted_at THEN
        INSERT INTO vcc.deleted_tickets AS d (project_id, ticket_id, deleted_at) VALUES (project, ticket, f.gone_at)
            ON CONFLICT (project_id, ticket_id) DO UPDATE SET deleted_at = excluded.deleted_at;
    END IF;
END
$$;
COMMENT ON FUNCTION vcc.rebuild_ticket IS 'Makes the row of one ticket what the journal says, for `ticketd verify --rebuild`';
