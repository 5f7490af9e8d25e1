-- Keeps the rows of vcc.ticket_metrics and vcc.deadline_cycles, which take long over all projects, in tables: of the tickets that
-- changed since the last time, and of the open ones, whose times go on. A ticket has changed when another transaction
-- wrote its row (xmin): so nothing is missed of events that were late, or not yet committed the last time. The tables hold
-- moments and lengths of time, hence no time zone.
--
-- everything: all tickets, which is for after a change of a calendar. Returns how many were looked at; NULL: another session
-- is at it. Nobody waits for it, but for a second one.
CREATE OR REPLACE FUNCTION vcc.refresh_reports(everything boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off
AS $$
DECLARE
    project   bigint;
    changed   bigint[];
    versions  bigint[];
    most      boolean;  -- of the project: then it is read at once
    looked_at bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(824391007) THEN
        RETURN NULL;
    END IF;
    IF everything THEN
        DELETE FROM vcc.ticket_metrics_kept;
        DELETE FROM vcc.deadline_cycles_kept;
        DELETE FROM vcc.tickets_kept;
    END IF;
    FOR project IN SELECT t.project_id FROM vcc.tickets t UNION SELECT d.project_id FROM vcc.deleted_tickets d LOOP
        -- First, so that what changes meanwhile is looked at again the next time.
        SELECT array_agg(n.ticket_id) FILTER (WHERE n.changed), array_agg(n.version) FILTER (WHERE n.changed),
               count(*) < 2 * count(*) FILTER (WHERE n.changed)
          INTO changed, versions, most
          FROM (SELECT r.ticket_id, r.version, r.running OR k.version IS DISTINCT FROM r.version AS changed
                  FROM (SELECT t.project_id, t.ticket_id, t.xmin::text::bigint AS version, t.status IS DISTINCT FROM 'closed' AS running
                          FROM vcc.tickets t
                         WHERE t.project_id = project
                         UNION ALL
                        SELECT d.project_id, d.ticket_id, d.xmin::text::bigint, false
                          FROM vcc.deleted_tickets d
                         WHERE d.project_id = project) r
                  LEFT JOIN vcc.tickets_kept k ON k.project_id = r.project_id AND k.ticket_id = r.ticket_id) n;
        CONTINUE WHEN changed IS NULL;

        DELETE FROM vcc.ticket_metrics_kept k WHERE k.project_id = project AND k.ticket_id = ANY (changed);
        WITH shown AS MATERIALIZED (  -- else Citus 13.2 writes a wrong query of it
            SELECT m.* FROM vcc.ticket_metrics m WHERE m.project_id = project AND (most OR m.ticket_id = ANY (changed)))
        INSERT INTO vcc.ticket_metrics_kept SELECT s.* FROM shown s WHERE s.ticket_id = ANY (changed);
        DELETE FROM vcc.deadline_cycles_kept k WHERE k.project_id = project AND k.ticket_id = ANY (changed);
        WITH shown AS MATERIALIZED (
            SELECT c.* FROM vcc.deadline_cycles c WHERE c.project_id = project AND (most OR c.ticket_id = ANY (changed)))
        INSERT INTO vcc.deadline_cycles_kept SELECT s.* FROM shown s WHERE s.ticket_id = ANY (changed);
        INSERT INTO vcc.tickets_kept AS k (project_id, ticket_id, version, kept_at)
        SELECT project, u.ticket_id, u.version, now() FROM unnest(changed, versions) u (ticket_id, version)
            ON CONFLICT (project_id, ticket_id) DO UPDATE SET version = excluded.version, kept_at = excluded.kept_at;
        looked_at := looked_at + cardinality(changed);
    END LOOP;
    RETURN looked_at;
END
$$;
COMMENT ON FUNCTION vcc.refresh_reports IS 'Brings vcc.ticket_metrics_kept and vcc.deadline_cycles_kept up to date: of tickets that changed, of open ones, or of all; returns how many';
