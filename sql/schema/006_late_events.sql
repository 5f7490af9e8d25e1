-- 006: what late events need to know.

ALTER TABLE vcc.deleted_tickets ADD COLUMN erased boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN vcc.deleted_tickets.erased IS 'Whether vcc.erase_ticket was called for it: then nothing brings it back';

CREATE TABLE vcc.journal_horizon (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    before  timestamptz NOT NULL
);
COMMENT ON TABLE  vcc.journal_horizon IS 'From when on the journal is whole: one row, once vcc.drop_events_before was called';
COMMENT ON COLUMN vcc.journal_horizon.single IS 'That there is one row';
COMMENT ON COLUMN vcc.journal_horizon.before IS 'What was received before that may be missing from the journal';
