CREATE OR REPLACE VIEW vcc.ticket_history AS
SELECT e.project_id, e.ticket_id, e.received_at, e.action, nullif(a.key, '') AS attribute, a.value ->> 0 AS old_value,
       a.value ->> 1 AS new_value, e.event_id, e.result, e.applied_no
  FROM vcc.ticket_events e
 CROSS JOIN LATERAL jsonb_each(CASE e.result WHEN 'deleted' THEN '{"": null}' ELSE e.changes END) a
 WHERE a.key <> 'extra'
 UNION ALL
SELECT e.project_id, e.ticket_id, e.received_at, e.action,
       CASE  -- what got a column later is shown as that column
           WHEN x.key = ANY ('{{names}}') THEN '{column}'
           ELSE 'extra.' || x.key
       END, x.value ->> 0, x.value ->> 1, e.event_id, e.result, e.applied_no
  FROM vcc.ticket_events e
 CROSS JOIN LATERAL jsonb_each(e.changes -> 'extra') x
 WHERE e.changes ? 'extra' AND e.result <> 'deleted';

COMMENT ON VIEW   vcc.ticket_history IS
    'What events changed: one row for each attribute that an event gave another value, and one without an attribute for a '
    'deletion. Ask for one ticket, and order by applied_no';
COMMENT ON COLUMN vcc.ticket_history.project_id IS 'Project of the ticket';
COMMENT ON COLUMN vcc.ticket_history.ticket_id IS 'Ticket within the project';
COMMENT ON COLUMN vcc.ticket_history.received_at IS 'When the event was received';
COMMENT ON COLUMN vcc.ticket_history.action IS 'What the sender said happened: add, update or delete';
COMMENT ON COLUMN vcc.ticket_history.attribute IS
    'Column of vcc.tickets, or extra. and the name of an attribute without a column; NULL: the ticket was deleted';
COMMENT ON COLUMN vcc.ticket_history.old_value IS 'Value before the event; NULL: none';
COMMENT ON COLUMN vcc.ticket_history.new_value IS 'Value after the event; NULL: none';
COMMENT ON COLUMN vcc.ticket_history.event_id IS 'The event';
COMMENT ON COLUMN vcc.ticket_history.result IS 'What it did to the ticket: inserted, updated or deleted';
COMMENT ON COLUMN vcc.ticket_history.applied_no IS 'Order in which the events of a ticket took effect';
