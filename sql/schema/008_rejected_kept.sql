-- 008: what a body that was set aside needs to be read again, and that an import came to its end.

ALTER TABLE vcc.rejected_events ADD COLUMN iv text, ADD COLUMN coding text;
COMMENT ON COLUMN vcc.rejected_events.iv IS 'Parameter iv of the URL it first came with, hexadecimal; NULL: there was none';
COMMENT ON COLUMN vcc.rejected_events.coding IS 'Content-Encoding it first came with; NULL: there was none';
COMMENT ON COLUMN vcc.rejected_events.digest IS 'SHA-256 of body, without the byte order mark where it begins with one';

-- The digest was that of the whole body. Where the same body is there without the mark too both rows stay.
UPDATE vcc.rejected_events r SET digest = sha256(substr(r.body, 4))
 WHERE substr(r.body, 1, 3) = decode('efbbbf', 'hex')
   AND NOT EXISTS (SELECT FROM vcc.rejected_events o
                    WHERE o.project_id = r.project_id AND o.digest = sha256(substr(r.body, 4)));

ALTER TABLE vcc.imports ADD COLUMN finished_at timestamptz;
COMMENT ON COLUMN vcc.imports.finished_at IS 'When it was imported to its end: from then on the same file applies nothing; NULL: it was not, and goes on';
