-- Spans of one agent that follow each other are one period: each that has another agent than the one before begins one.
CREATE OR REPLACE VIEW vcc.assignment_periods AS
SELECT p.project_id, p.ticket_id, p.agent_name, max(p.agent_user_name) FILTER (WHERE p.last) AS agent_user_name,
       min(p.started_at) FILTER (WHERE p.begins) AS started_at, max(p.ended_at) FILTER (WHERE p.last) AS ended_at, p.period_no
  FROM (SELECT b.*, count(*) FILTER (WHERE b.begins) OVER span AS period_no
          FROM (SELECT n.project_id, n.ticket_id, n.span_no, n.agent_name, n.agent_user_name, n.started_at, n.ended_at, n.open,
                       n.open AND n.agent_name IS NOT NULL AND (n.before_open AND lag(n.agent_name) OVER span = n.agent_name) IS NOT TRUE AS begins,
                       (n.after_open AND n.ended_by = 'change' AND lead(n.agent_name) OVER span = n.agent_name) IS NOT TRUE AS last
                  FROM vcc.ticket_spans n
                WINDOW span AS (PARTITION BY n.project_id, n.ticket_id ORDER BY n.span_no)) b
        WINDOW span AS (PARTITION BY b.project_id, b.ticket_id ORDER BY b.span_no)) p
 WHERE p.open AND p.agent_name IS NOT NULL
 GROUP BY p.project_id, p.ticket_id, p.period_no, p.agent_name;

COMMENT ON VIEW   vcc.assignment_periods IS
    'Who had an open ticket from when to when: one row for each time, until another agent had it, or nobody, or it was closed or '
    'deleted. Ask for one project';
COMMENT ON COLUMN vcc.assignment_periods.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.assignment_periods.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.assignment_periods.agent_name IS 'Full name of the agent';
COMMENT ON COLUMN vcc.assignment_periods.agent_user_name IS 'Login of the agent, as it was at the end';
COMMENT ON COLUMN vcc.assignment_periods.started_at IS 'When it began; NULL: the journal no longer tells';
COMMENT ON COLUMN vcc.assignment_periods.ended_at IS 'When it ended; NULL: it lasts';
COMMENT ON COLUMN vcc.assignment_periods.period_no IS 'Its number among those of the ticket: tells the rows apart';
