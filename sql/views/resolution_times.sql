-- Lives of tickets, from being inserted to being deleted, of which closed is the end, or the state now. They are made
-- of comings and goings alone, which an index has; tickets, and the events that deleted some, are read only for the lives
-- that are asked for, and how tickets were when they were closed (vcc.ticket_spans) only where somebody asks for that.
CREATE OR REPLACE VIEW vcc.resolution_times AS
SELECT o.project_id, o.ticket_id, o.type, o.opened_at, o.closed_at,
       o.closed_at - CASE WHEN o.opened_at > o.closed_at THEN o.closed_at ELSE o.opened_at END AS resolution, o.reopened,
       CASE o.sub_status WHEN 'successful' THEN true WHEN 'unsuccessful' THEN false END AS successful,
       o.closed_at <= o.deadline AS deadline_met, o.agent_user_name, o.agent_name, o.applied_no
  FROM (SELECT r.*, coalesce(r.first_open_time, r.inserted_at) AS opened_at
          FROM (SELECT l.project_id, l.ticket_id, l.closed_at, l.reopened, l.applied_no, c.type COLLATE "default" AS type,
                       c.agent_user_name COLLATE "default" AS agent_user_name, c.agent_name COLLATE "default" AS agent_name, c.deadline,
                       coalesce(t.sub_status, l.gone -> 'sub_status' ->> 0) AS sub_status,
                       coalesce(t.first_open_time, (l.gone -> 'first_open_time' ->> 0)::timestamptz) AS first_open_time,
                       coalesce(l.inserted_at, t.first_event_at) AS inserted_at
                  FROM (SELECT f.project_id, f.ticket_id, f.life_no,
                               min(f.at) FILTER (WHERE f.was_open IS NULL) AS inserted_at,
                               max(f.at) FILTER (WHERE NOT f.is_open) AS closed_at,
                               max(f.applied_no) FILTER (WHERE NOT f.is_open) AS applied_no,
                               (count(*) FILTER (WHERE NOT f.was_open AND f.is_open))::integer AS reopened,
                               max(f.applied_no) FILTER (WHERE f.is_open IS NULL) AS deleted_no,
                               CASE WHEN bool_or(f.is_open IS NULL) THEN (  -- looked up once a life, and only if it ended
                                SELECT e.changes FROM vcc.ticket_events e
                                 WHERE e.project_id = f.project_id AND e.ticket_id = f.ticket_id
                                   AND e.received_at = max(f.received_at) FILTER (WHERE f.is_open IS NULL)
                                   AND e.applied_no = max(f.applied_no) FILTER (WHERE f.is_open IS NULL)
                                   AND e.was_open IS DISTINCT FROM e.is_open) END AS gone
                          FROM (SELECT e.project_id, e.ticket_id, e.received_at, e.was_open, e.is_open, e.applied_no,
                                       max(e.received_at) OVER life AS at,
                                       count(*) FILTER (WHERE e.was_open IS NULL) OVER life AS life_no
                                  FROM vcc.ticket_events e
                                 WHERE e.was_open IS DISTINCT FROM e.is_open
                                WINDOW life AS (PARTITION BY e.project_id, e.ticket_id ORDER BY e.applied_no)) f
                         GROUP BY f.project_id, f.ticket_id, f.life_no
                        -- Never closed: NULL. Deleted while open: opened or reopened later than closed.
                        HAVING max(f.applied_no) FILTER (WHERE NOT f.is_open)
                               > coalesce(max(f.applied_no) FILTER (WHERE f.is_open), 0)) l
                  LEFT JOIN vcc.tickets t ON t.project_id = l.project_id AND t.ticket_id = l.ticket_id AND l.deleted_no IS NULL
                  LEFT JOIN (SELECT s.project_id, s.ticket_id, s.life, (array_agg(s.type ORDER BY s.span_no DESC))[1] AS type,
                                    (array_agg(s.agent_user_name ORDER BY s.span_no DESC))[1] AS agent_user_name,
                                    (array_agg(s.agent_name ORDER BY s.span_no DESC))[1] AS agent_name,
                                    (array_agg(s.deadline ORDER BY s.span_no DESC))[1] AS deadline
                               FROM (SELECT s.*, CASE WHEN s.first THEN s.soft_deadline ELSE lag(s.soft_deadline) OVER (
                                                PARTITION BY s.project_id, s.ticket_id ORDER BY s.span_no) END AS deadline
                                       FROM vcc.ticket_spans s) s
                              WHERE NOT s.open AND s.before_open IS DISTINCT FROM false
                              GROUP BY s.project_id, s.ticket_id, s.life) c
                    ON c.project_id = l.project_id AND c.ticket_id = l.ticket_id AND c.life = l.life_no) r) o;

COMMENT ON VIEW   vcc.resolution_times IS
    'How long tickets took: one row for each that is closed, or was when it was deleted; added again after that, it '
    'has another. Ask for one project; over all a materialized view is quicker (sql/README.md)';
COMMENT ON COLUMN vcc.resolution_times.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.resolution_times.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.resolution_times.type IS
    'Ticket type when it was closed. The sub-status is that of now, or when the ticket was deleted';
COMMENT ON COLUMN vcc.resolution_times.opened_at IS
    'first_open_time of the ticket, or where that is not known when its first event was '
    'received; NULL: the journal no longer has that of a deleted ticket';
COMMENT ON COLUMN vcc.resolution_times.closed_at IS 'When it became closed the last time';
COMMENT ON COLUMN vcc.resolution_times.resolution IS 'From opened_at to closed_at; 0 where that is earlier';
COMMENT ON COLUMN vcc.resolution_times.reopened IS 'How many times it was closed and opened again before';
COMMENT ON COLUMN vcc.resolution_times.successful IS
    'Whether its sub-status is successful (true) or unsuccessful (false); NULL: another';
COMMENT ON COLUMN vcc.resolution_times.deadline_met IS 'Whether it was closed by its soft_deadline, as that was before (vcc.deadline_cycles); NULL: it had none';
COMMENT ON COLUMN vcc.resolution_times.agent_user_name IS 'Login of the agent in charge when it was closed';
COMMENT ON COLUMN vcc.resolution_times.agent_name IS 'Full name of that agent';
COMMENT ON COLUMN vcc.resolution_times.applied_no IS 'Of the event that closed it: tells the rows apart';
