-- 012: the ticket of what was set aside, where the handler could read it: SQL cannot read what is compressed or encrypted, and
-- vcc.erase_ticket asks.
ALTER TABLE vcc.rejected_events ADD COLUMN ticket_id bigint;
COMMENT ON COLUMN vcc.rejected_events.ticket_id IS 'Ticket that it speaks of; NULL: it does not say, or it was set aside before there was this column';
