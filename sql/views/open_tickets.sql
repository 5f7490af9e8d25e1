CREATE OR REPLACE VIEW vcc.open_tickets AS
SELECT t.project_id, t.ticket_id, t.ticket_no, t.title, t.status, t.sub_status, t.agent_name,
       now() - least(coalesce(t.first_open_time, t.first_event_at), now()) AS age,
       coalesce(t.soft_deadline < now(), false) AS overdue,
       t.soft_deadline, t.project_name, t.agent_user_name
  FROM vcc.tickets t
 WHERE t.status IS DISTINCT FROM 'closed';

COMMENT ON VIEW   vcc.open_tickets IS
    'Tickets that are not closed, those without a status among them: one row for each';
COMMENT ON COLUMN vcc.open_tickets.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.open_tickets.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.open_tickets.ticket_no IS 'Ticket number that people quote';
COMMENT ON COLUMN vcc.open_tickets.title IS 'Title';
COMMENT ON COLUMN vcc.open_tickets.status IS 'Status; NULL: not known';
COMMENT ON COLUMN vcc.open_tickets.sub_status IS 'Sub-status';
COMMENT ON COLUMN vcc.open_tickets.agent_name IS 'Full name of the agent in charge';
COMMENT ON COLUMN vcc.open_tickets.age IS 'Since it was first opened; where that is not known, since its first event';
COMMENT ON COLUMN vcc.open_tickets.overdue IS 'Whether soft_deadline has passed; false where there is none';
COMMENT ON COLUMN vcc.open_tickets.soft_deadline IS 'When the ticket should be done';
COMMENT ON COLUMN vcc.open_tickets.project_name IS 'Name of the project';
COMMENT ON COLUMN vcc.open_tickets.agent_user_name IS 'Login of the agent in charge';
