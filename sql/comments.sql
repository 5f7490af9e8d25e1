-- What is not said where the thing is made: the columns of attributes, from handler/event/fields.def, and what
-- 000_schema.sql makes. A definition like the functions: `ticketd migrate` runs it where its text is new.
COMMENT ON SCHEMA vcc IS 'Tickets of VCC Live, kept by ticketd';

COMMENT ON TABLE  vcc.migrations IS 'The numbered files that `ticketd migrate` applied';
COMMENT ON COLUMN vcc.migrations.version IS 'Number of the file';
COMMENT ON COLUMN vcc.migrations.name IS 'Name of the file';
COMMENT ON COLUMN vcc.migrations.applied_at IS 'When it was applied';

COMMENT ON TABLE  vcc.definitions IS 'The functions and views that `ticketd migrate` made: what has another text in its program is made anew';
COMMENT ON COLUMN vcc.definitions.name IS 'Folder and name of the file';
COMMENT ON COLUMN vcc.definitions.digest IS 'SHA-256 of the text that was applied last';
COMMENT ON COLUMN vcc.definitions.objects IS 'The functions and views that it makes';
COMMENT ON COLUMN vcc.definitions.applied_at IS 'When it was applied last';

COMMENT ON COLUMN vcc.tickets.{column} IS '{meaning} ({names})';
