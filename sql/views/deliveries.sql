-- `shard` is there for Citus: where both parts have the project by which they are distributed, its nodes are asked for what is
-- wanted, and not for all.
CREATE OR REPLACE VIEW vcc.deliveries AS
SELECT d.received_at, d.result, d.action, d.project_id, d.ticket_id, d.reason, d.attempts, d.event_id
  FROM (SELECT e.project_id AS shard, e.received_at, e.result, e.action, e.project_id, e.ticket_id, NULL::text AS reason,
               1 AS attempts, e.event_id
          FROM vcc.ticket_events e
         UNION ALL
        SELECT r.project_id, r.last_received_at, 'rejected', NULL, nullif(r.project_id, 0), NULL, r.reason, r.attempts,
               r.last_event_id
          FROM vcc.rejected_events r) d;

COMMENT ON VIEW   vcc.deliveries IS
    'What arrived and what came of it: one row for each event, and one for each body that was set aside. '
    'Ask for a time, such as received_at > now() - interval ''1 hour'', or for pages, newest first: ORDER BY received_at DESC, '
    'event_id DESC LIMIT 50, and of the next page (received_at, event_id) < those of the last row: an index fits that';
COMMENT ON COLUMN vcc.deliveries.received_at IS 'When it was received; a refused body: the last time';
COMMENT ON COLUMN vcc.deliveries.result IS
    'inserted, updated, unchanged, deleted or ignored (vcc.ticket_events), or rejected (vcc.rejected_events)';
COMMENT ON COLUMN vcc.deliveries.action IS 'What the sender said happened: add, update or delete; NULL: refused';
COMMENT ON COLUMN vcc.deliveries.project_id IS 'Project of the ticket; NULL: a refused body does not say';
COMMENT ON COLUMN vcc.deliveries.ticket_id IS 'Ticket within the project; NULL: refused';
COMMENT ON COLUMN vcc.deliveries.reason IS 'Why it was refused; NULL: it was not';
COMMENT ON COLUMN vcc.deliveries.attempts IS 'How many times the refused body was received; an event is received once';
COMMENT ON COLUMN vcc.deliveries.event_id IS 'Identifier given at receipt; a refused body''s at the last';
