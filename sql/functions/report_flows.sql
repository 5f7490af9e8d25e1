-- What came and went since a moment, and who had it then: a part of the dashboard's other functions.
--
-- One row for each event that opened, closed, reopened or deleted a ticket, and, where an agent or type is asked for, for each that
-- handed one over. Agent and type are those of the moment: after the event, or before a deletion. The journal tells them by
-- what came later. An event's time is never before that of the one before it, of those that are read here; what waited for more
-- than a week, and took effect after `since`, is as if it had done so before.
-- Where no names are asked for, and no agent or type, an index answers.
--
-- counts: it is of this agent and type at the moment. opened, closed, reopened, deleted: as in vcc.daily_flow, and counts. came, went: it
-- is open and of them from then on, or was until then. shut: it became closed; NULL: it was only handed over.
CREATE OR REPLACE FUNCTION vcc.report_flows(
    since    timestamptz,
    project  bigint,
    agent    text,
    type     text,
    names    boolean
) RETURNS TABLE (
    project_id bigint, ticket_id bigint, applied_no bigint, at timestamptz, opened boolean, closed boolean, reopened boolean,
    deleted boolean, came boolean, went boolean, shut boolean, counts boolean, agent_name text, agent_user_name text
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    filtered  CONSTANT boolean := agent IS NOT NULL OR type IS NOT NULL;
    asked     CONSTANT boolean := names OR filtered;
BEGIN
    RETURN QUERY
    WITH told AS (  -- what an event says of the time before it, beginning with its number, as in vcc.ticket_spans
        SELECT e.project_id, e.ticket_id, e.applied_no, e.was_open, e.is_open,
               max(e.received_at) FILTER (WHERE filtered OR e.was_open IS DISTINCT FROM e.is_open)
                   OVER (PARTITION BY e.project_id, e.ticket_id ORDER BY e.applied_no) AS at,
               CASE WHEN asked AND (e.result <> 'updated' OR e.changes ? 'agent_name')
                    THEN concat(lpad(e.applied_no::text, 19, '0'), '=' || (e.changes -> 'agent_name' ->> 0)) END AS agent_name,
               CASE WHEN asked AND (e.result <> 'updated' OR e.changes ? 'agent_user_name')
                    THEN concat(lpad(e.applied_no::text, 19, '0'), '=' || (e.changes -> 'agent_user_name' ->> 0)) END AS login,
               CASE WHEN asked AND (e.result <> 'updated' OR e.changes ? 'type')
                    THEN concat(lpad(e.applied_no::text, 19, '0'), '=' || (e.changes -> 'type' ->> 0)) END AS type
          FROM vcc.ticket_events e
         WHERE e.received_at >= since - interval '1 week' AND (project IS NULL OR e.project_id = project)
           AND (e.was_open IS DISTINCT FROM e.is_open OR asked AND e.changes ?| '{agent_name,agent_user_name,type}')
    ), before AS (
        SELECT t.project_id, t.ticket_id, t.applied_no, t.at, t.was_open, t.is_open,
               min(t.agent_name COLLATE "C") OVER later AS agent_name, min(t.login COLLATE "C") OVER later AS login,
               min(t.type COLLATE "C") OVER later AS type
          FROM told t
        WINDOW later AS (PARTITION BY t.project_id, t.ticket_id ORDER BY t.applied_no DESC)
    ), after AS (
        SELECT b.*, lag(b.agent_name) OVER later AS next_agent, lag(b.login) OVER later AS next_login, lag(b.type) OVER later AS next_type
          FROM before b
        WINDOW later AS (PARTITION BY b.project_id, b.ticket_id ORDER BY b.applied_no DESC)
    ), moment AS (  -- what none tells is as it is now
        SELECT a.*, g.applied_no IS NOT NULL AS again,
               CASE WHEN a.agent_name IS NULL THEN t.agent_name ELSE substr(a.agent_name, 21) END AS old_agent,
               CASE WHEN a.type IS NULL THEN t.type ELSE substr(a.type, 21) END AS old_type,
               CASE WHEN a.next_agent IS NULL THEN t.agent_name ELSE substr(a.next_agent, 21) END AS new_agent,
               CASE WHEN a.next_login IS NULL THEN t.agent_user_name ELSE substr(a.next_login, 21) END AS new_login,
               CASE WHEN a.next_type IS NULL THEN t.type ELSE substr(a.next_type, 21) END AS new_type
          FROM after a
          LEFT JOIN vcc.tickets t ON t.project_id = a.project_id AND t.ticket_id = a.ticket_id
          LEFT JOIN (SELECT e.project_id, e.ticket_id, min(e.applied_no) AS applied_no
                       FROM vcc.ticket_events e
                      WHERE e.was_open IS DISTINCT FROM e.is_open AND e.is_open IS NULL AND (project IS NULL OR e.project_id = project)
                      GROUP BY 1, 2) g
            ON g.project_id = a.project_id AND g.ticket_id = a.ticket_id AND g.applied_no < a.applied_no
    ), fitting AS (
        SELECT m.*, (agent IS NULL OR coalesce(m.old_agent, '') = agent) AND (type IS NULL OR coalesce(m.old_type, '') = type) AS old_fits,
               (agent IS NULL OR coalesce(m.new_agent, '') = agent) AND (type IS NULL OR coalesce(m.new_type, '') = type) AS new_fits
          FROM moment m
    ), counted AS (
        SELECT f.*, CASE WHEN f.is_open IS NULL THEN f.old_fits ELSE f.new_fits END AS counts,
               f.was_open IS TRUE AND f.old_fits AS was_theirs, f.is_open IS TRUE AND f.new_fits AS is_theirs
          FROM fitting f
    )
    SELECT f.project_id, f.ticket_id, f.applied_no, f.at, f.counts AND f.was_open IS NULL AND NOT f.again,
           f.counts AND NOT f.is_open AND CASE WHEN f.was_open IS NULL THEN NOT f.again ELSE f.was_open END,
           f.counts AND NOT f.was_open AND f.is_open, f.counts AND f.is_open IS NULL,
           f.is_theirs AND NOT f.was_theirs, f.was_theirs AND NOT f.is_theirs,
           CASE WHEN f.was_open IS DISTINCT FROM f.is_open THEN f.is_open IS FALSE END, f.counts,
           nullif(f.new_agent, ''), nullif(f.new_login, '')
      FROM counted f
     WHERE f.at >= since;
END
$$;
COMMENT ON FUNCTION vcc.report_flows IS 'What came and went since a moment, by the agent and the type of the moment; a part of vcc.report and others';
