-- Optional: publication vcc, for a copy of the tickets in another database by logical replication.
--
--     psql -d tickets -f publication.sql
--
-- `ticketd migrate` neither runs nor removes this. Run it as the owner of schema vcc, who must be allowed to create
-- in the database; twice does no harm. The server needs wal_level = logical (postgresql.conf, then a restart).
--
-- The subscriber:
--     1. Here:   CREATE ROLE copy LOGIN REPLICATION PASSWORD '...' IN ROLE vcc_reader;  and a line in pg_hba.conf
--     2. There:  ticketd migrate, or pg_dump --schema-only --schema=vcc | psql. Now, and before each upgrade here: an
--                unknown column stops the copying until it is there.
--     3. There:  CREATE SUBSCRIPTION vcc CONNECTION 'host=... dbname=tickets user=copy password=...' PUBLICATION vcc;
-- What is there already is copied first. The journal comes as one table, whatever its partitions here; for those of
-- the copy somebody calls vcc.prepare_journal() once a month. Months that vcc.drop_events_before drops here stay
-- there: call it there too. vcc.erase_ticket reaches the copy by itself.
--
-- The copy is to be read. No handler may write to it: vcc.ticket_adds and the sequence are not there.
--
-- A subscriber that is away keeps the server from removing its WAL, until the disk is full and PostgreSQL stops
-- (ticketd then spools). Set max_slot_wal_keep_size to what the disk can spare: past it the subscriber must start
-- anew. Watch
--     SELECT slot_name, active, pg_size_pretty(pg_current_wal_lsn() - restart_lsn) FROM pg_replication_slots;
-- and remove the slot of one that will not come back: SELECT pg_drop_replication_slot('vcc');
--
-- To take it off again: DROP SUBSCRIPTION vcc there, then here
--     DROP PUBLICATION IF EXISTS vcc;

\set ON_ERROR_STOP on
DO $$
DECLARE
    tables  text := 'vcc.tickets, vcc.ticket_events, vcc.deleted_tickets, vcc.rejected_events';
BEGIN
    IF current_setting('wal_level') <> 'logical' THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('a subscriber needs wal_level = logical; it is %s', current_setting('wal_level')),
            HINT = 'ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'vcc') THEN
        CREATE PUBLICATION vcc;
        COMMENT ON PUBLICATION vcc IS 'The tickets and their journal, for subscribers: sql/optional/publication.sql';
    END IF;
    -- Through the root a subscriber needs not the same partitions.
    ALTER PUBLICATION vcc SET (publish_via_partition_root = true);
    EXECUTE 'ALTER PUBLICATION vcc SET TABLE ' || tables;
END
$$;
