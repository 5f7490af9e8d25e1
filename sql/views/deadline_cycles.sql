-- A cycle is the open spans of a ticket between its opening, or a reopening, and its close: one of them ends it. Where first_open_time
-- is later than the first event, the ticket was there from that on nevertheless: it erases no breach.
CREATE OR REPLACE VIEW vcc.deadline_cycles AS
SELECT c.project_id, c.ticket_id, c.opened_at, c.closed_at, c.first_deadline, c.deadline,
       c.closed_at <= c.deadline AS met, c.closed_at > c.deadline AS breached, c.closed_at <= c.first_deadline AS met_first,
       c.ever_breached, c.cancelled, c.predates, c.moved_later, c.moved_earlier, c.moved_after_breach, c.removed,
       c.agent_name, c.type, c.agent_user_name, c.cycle_no
  FROM (SELECT s.project_id, s.ticket_id, s.cycle_no, max(s.begins_at) FILTER (WHERE s.begins) AS opened_at,
               max(s.ended_at) FILTER (WHERE s.closing) AS closed_at,
               (array_agg(s.soft_deadline ORDER BY s.span_no) FILTER (WHERE s.soft_deadline IS NOT NULL))[1] AS first_deadline,
               max(s.soft_deadline) FILTER (WHERE s.ends) AS deadline,
               coalesce(bool_or(s.ends_at > s.soft_deadline AND coalesce(least(s.started_at, s.begins_at) < s.ends_at, true)), false) AS ever_breached,
               bool_or(s.ends AND s.ended_by IS NOT NULL AND NOT s.closing) AS cancelled,
               coalesce(bool_or(s.begins AND s.soft_deadline < s.begins_at), false) AS predates,
               count(*) FILTER (WHERE NOT s.ends AND s.next_deadline > s.soft_deadline) AS moved_later,
               count(*) FILTER (WHERE NOT s.ends AND s.next_deadline < s.soft_deadline) AS moved_earlier,
               count(*) FILTER (WHERE NOT s.ends AND s.next_deadline <> s.soft_deadline AND s.ended_at > s.soft_deadline)
                   AS moved_after_breach,
               count(*) FILTER (WHERE NOT s.ends AND s.soft_deadline IS NOT NULL AND s.next_deadline IS NULL) AS removed,
               max(CASE WHEN s.closing THEN s.next_agent ELSE s.agent_name END) FILTER (WHERE s.ends) AS agent_name,
               max(CASE WHEN s.closing THEN s.next_login ELSE s.agent_user_name END) FILTER (WHERE s.ends) AS agent_user_name,
               max(CASE WHEN s.closing THEN s.next_type ELSE s.type END) FILTER (WHERE s.ends) AS type
          FROM (SELECT n.project_id, n.ticket_id, n.span_no, n.open, n.started_at, n.ended_at, n.ended_by, n.soft_deadline, n.agent_name,
                       n.agent_user_name, n.type, coalesce(n.ended_at, now()) AS ends_at,
                       coalesce(CASE WHEN n.first THEN first_value(n.first_open_time) OVER (
                            PARTITION BY n.project_id, n.ticket_id, n.life ORDER BY n.span_no DESC) END, n.started_at) AS begins_at,
                       n.first OR NOT n.before_open AS begins, coalesce(n.ended_by = 'change' AND NOT n.after_open, false) AS closing,
                       coalesce(n.ended_by = 'change' AND n.after_open, false) IS FALSE AS ends,
                       lead(n.soft_deadline) OVER span AS next_deadline, lead(n.agent_name) OVER span AS next_agent,
                       lead(n.agent_user_name) OVER span AS next_login, lead(n.type) OVER span AS next_type,
                       count(*) FILTER (WHERE n.open AND (n.first OR NOT n.before_open)) OVER span AS cycle_no
                  FROM vcc.ticket_spans n
                WINDOW span AS (PARTITION BY n.project_id, n.ticket_id ORDER BY n.span_no)) s
         WHERE s.open
         GROUP BY s.project_id, s.ticket_id, s.cycle_no) c;

COMMENT ON VIEW   vcc.deadline_cycles IS
    'Deadlines met and breached: one row for each time that a ticket was open, until it was closed or deleted; reopened it has '
    'another. A deadline is a date that was agreed: waiting does not move it. Ask for one project. The rate is met / (met + breached) '
    'of those closed in a period, without predates';
COMMENT ON COLUMN vcc.deadline_cycles.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.deadline_cycles.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.deadline_cycles.opened_at IS
    'When it was opened (first_open_time, or where that is not known its first event) or reopened; NULL: the journal no longer tells';
COMMENT ON COLUMN vcc.deadline_cycles.closed_at IS 'When it was closed; NULL: it is open, or was deleted';
COMMENT ON COLUMN vcc.deadline_cycles.first_deadline IS 'The first deadline that it had while it was open';
COMMENT ON COLUMN vcc.deadline_cycles.deadline IS
    'The deadline as it is, or stood before the event that closed or deleted it; NULL: none';
COMMENT ON COLUMN vcc.deadline_cycles.met IS 'Whether it was closed by the deadline; NULL: it was not closed, or had none';
COMMENT ON COLUMN vcc.deadline_cycles.breached IS 'Whether it was closed after the deadline; NULL: it was not closed, or had none';
COMMENT ON COLUMN vcc.deadline_cycles.met_first IS
    'Whether it was closed by first_deadline, which no move of the deadline changes; NULL: it was not closed, or had none';
COMMENT ON COLUMN vcc.deadline_cycles.ever_breached IS
    'Whether it was open at some moment after the deadline of that moment: a later move does not change that';
COMMENT ON COLUMN vcc.deadline_cycles.cancelled IS 'Whether the ticket was deleted: neither met nor breached';
COMMENT ON COLUMN vcc.deadline_cycles.predates IS 'Whether its deadline had passed before it was opened or reopened: count it apart';
COMMENT ON COLUMN vcc.deadline_cycles.moved_later IS 'How many times the deadline was moved to a later one (vcc.deadline_moves)';
COMMENT ON COLUMN vcc.deadline_cycles.moved_earlier IS 'How many times it was moved to an earlier one';
COMMENT ON COLUMN vcc.deadline_cycles.moved_after_breach IS 'How many of these moves came when it had passed';
COMMENT ON COLUMN vcc.deadline_cycles.removed IS 'How many times it was removed';
COMMENT ON COLUMN vcc.deadline_cycles.agent_name IS
    'Full name of the agent in charge after the event that closed it, before the deletion, or now; NULL: nobody';
COMMENT ON COLUMN vcc.deadline_cycles.type IS 'Ticket type, of the same moment';
COMMENT ON COLUMN vcc.deadline_cycles.agent_user_name IS 'Login of that agent';
COMMENT ON COLUMN vcc.deadline_cycles.cycle_no IS
    'Its number among those of the ticket, from 1: tells the rows apart; 0: the journal no longer has its beginning';
