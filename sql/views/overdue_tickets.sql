CREATE OR REPLACE VIEW vcc.overdue_tickets AS
SELECT o.project_id, o.ticket_id, o.ticket_no, o.title, o.status, o.sub_status, o.agent_name, o.age, o.soft_deadline,
       now() - o.soft_deadline AS overdue_by, o.project_name, o.agent_user_name
  FROM vcc.open_tickets o
 WHERE o.overdue;

COMMENT ON VIEW   vcc.overdue_tickets IS 'Tickets that are not closed and should be by now: one row for each';
COMMENT ON COLUMN vcc.overdue_tickets.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.overdue_tickets.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.overdue_tickets.ticket_no IS 'Ticket number that people quote';
COMMENT ON COLUMN vcc.overdue_tickets.title IS 'Title';
COMMENT ON COLUMN vcc.overdue_tickets.status IS 'Status; NULL: not known';
COMMENT ON COLUMN vcc.overdue_tickets.sub_status IS 'Sub-status';
COMMENT ON COLUMN vcc.overdue_tickets.agent_name IS 'Full name of the agent in charge';
COMMENT ON COLUMN vcc.overdue_tickets.age IS
    'Since it was first opened; where that is not known, since its first event';
COMMENT ON COLUMN vcc.overdue_tickets.soft_deadline IS 'When the ticket should have been done';
COMMENT ON COLUMN vcc.overdue_tickets.overdue_by IS 'How long ago that was';
COMMENT ON COLUMN vcc.overdue_tickets.project_name IS 'Name of the project';
COMMENT ON COLUMN vcc.overdue_tickets.agent_user_name IS 'Login of the agent in charge';
