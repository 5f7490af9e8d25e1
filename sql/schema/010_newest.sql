-- 010: what arrived, newest first: vcc.deliveries page by page. It serves what the BRIN index did.
CREATE INDEX ticket_events_newest ON vcc.ticket_events (received_at, event_id);
CREATE INDEX rejected_events_newest ON vcc.rejected_events (last_received_at, last_event_id);
DROP INDEX vcc.ticket_events_received;
