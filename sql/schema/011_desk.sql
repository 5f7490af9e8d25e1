-- 011: which tickets were deleted, so that what is added again is told from what is new.
CREATE INDEX ticket_events_deletion ON vcc.ticket_events (project_id, ticket_id, applied_no)
    WHERE was_open IS DISTINCT FROM is_open AND is_open IS NULL;
