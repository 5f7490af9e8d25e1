CREATE OR REPLACE VIEW vcc.deadline_moves AS
SELECT s.project_id, s.ticket_id, s.ended_at AS moved_at, s.soft_deadline AS old_deadline, s.next_deadline AS new_deadline,
       s.ended_at > s.soft_deadline AS after_breach,
       CASE WHEN e.user_id ~ '^-?\d{1,19}(\.0+)?$' THEN
           CASE WHEN abs(e.user_id::numeric) <= 9223372036854775807 THEN e.user_id::numeric::bigint END END AS user_id,
       s.next_agent AS agent_name, s.next_login AS agent_user_name, s.event_id
  FROM (SELECT n.project_id, n.ticket_id, n.ended_at, n.ended_by, n.open, n.after_open, n.soft_deadline, n.event_id,
               lead(n.soft_deadline) OVER span AS next_deadline, lead(n.agent_name) OVER span AS next_agent,
               lead(n.agent_user_name) OVER span AS next_login
          FROM vcc.ticket_spans n
        WINDOW span AS (PARTITION BY n.project_id, n.ticket_id ORDER BY n.span_no)) s
  JOIN (SELECT e.project_id, e.ticket_id, e.event_id, e.payload #>> '{ticket,userId}' AS user_id FROM vcc.ticket_events e) e
    ON e.project_id = s.project_id AND e.ticket_id = s.ticket_id AND e.event_id = s.event_id
 WHERE s.ended_by = 'change' AND s.open AND s.after_open AND s.next_deadline IS DISTINCT FROM s.soft_deadline
   AND s.soft_deadline IS NOT NULL;

COMMENT ON VIEW   vcc.deadline_moves IS
    'Deadlines that were moved or removed while their tickets were open: one row for each time. Ask for one project';
COMMENT ON COLUMN vcc.deadline_moves.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.deadline_moves.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.deadline_moves.moved_at IS 'When it was moved';
COMMENT ON COLUMN vcc.deadline_moves.old_deadline IS 'The deadline until then';
COMMENT ON COLUMN vcc.deadline_moves.new_deadline IS 'The deadline from then on; NULL: it was removed';
COMMENT ON COLUMN vcc.deadline_moves.after_breach IS 'Whether the old one had passed';
COMMENT ON COLUMN vcc.deadline_moves.user_id IS 'User who moved it (userId of the event); NULL: the event does not say';
COMMENT ON COLUMN vcc.deadline_moves.agent_name IS 'Full name of the agent in charge then; NULL: nobody';
COMMENT ON COLUMN vcc.deadline_moves.agent_user_name IS 'Login of that agent';
COMMENT ON COLUMN vcc.deadline_moves.event_id IS 'The event';
