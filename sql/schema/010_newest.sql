-- 010: what arrived, newest first: vcc.deliveries page by page. It serves what the BRIN index did. Without event_id, by which
-- pages are ordered too: a plan made on an empty partition would take the index for event_id alone, and later read all of it.
CREATE INDEX ticket_events_newest ON vcc.ticket_events (received_at);
CREATE INDEX rejected_events_newest ON vcc.rejected_events (last_received_at);
DROP INDEX vcc.ticket_events_received;
