-- Optional: a notification on channel vcc_tickets for each ticket that an event has changed.
--
--     psql -d tickets -f notify.sql
--
-- `ticketd migrate` neither runs nor removes this. Run it as the owner of schema vcc; twice does no harm. A listener
-- says LISTEN vcc_tickets, in a session of its own (not through a pooler that shares sessions, nor on a standby),
-- and gets {"project_id":130,"ticket_id":21} after the commit, once for each ticket and commit, however many events
-- it had there. What the ticket is now, or that it is gone, the listener looks up. Events without an effect
-- (unchanged, ignored) notify nobody. Neither does what is no event: vcc.erase_ticket, a restore, changes by hand.
-- Say it yourself, beside the change:
--     SELECT pg_notify('vcc_tickets', '{"project_id":130,"ticket_id":21}');
--
-- A notification is a hint, not a queue: who was away, or has too much waiting, gets none of it. After each connect,
-- and now and then, read what has changed since last time, by last_event_at or from the journal.
--
-- What it costs: PostgreSQL's processor time for an event is 1.05 times that without, 1.06 times with a listener;
-- with one event a commit 1.05 and 1.14 times (medians of imports of 50,000 lines made by tests/bench/load.py, and
-- of 10,000 with TICKETD_BATCH=1). Commits with notifications also go one after another in the whole server, their
-- fsync included: with this, TICKETD_WRITERS over 1 gains little, and so does another database there that notifies.
--
-- A listener that does not read, or stays in a transaction, keeps all later notifications of the whole server in the
-- queue (8 GB). Were that full, every commit with a notification would fail, and ticketd would set the events aside
-- as refused by PostgreSQL (SQLSTATE 54000), not spool them. So from three quarters on nothing more is notified
-- here, and events go on. From half on the server's log has warnings, with the listener's PID. Watch
--     SELECT pg_notification_queue_usage();
--
-- To take it off again:
--     DROP FUNCTION IF EXISTS vcc.notify_of_changes CASCADE;

\set ON_ERROR_STOP on
BEGIN;
SET LOCAL lock_timeout = '5s';  -- the trigger waits for the batches under way, and others for it

CREATE OR REPLACE FUNCTION vcc.notify_of_changes() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_notification_queue_usage() < 0.75 THEN
        -- PostgreSQL drops what is the same again in this transaction.
        PERFORM pg_notify('vcc_tickets', format('{"project_id":%s,"ticket_id":%s}', project_id, ticket_id))
           FROM received WHERE result IN ('inserted', 'updated', 'deleted');
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION vcc.notify_of_changes IS 'Notifies of changed tickets on vcc_tickets: sql/optional/notify.sql';
REVOKE ALL ON FUNCTION vcc.notify_of_changes FROM PUBLIC;

-- On the journal, which says what an event has done: once a call of vcc.apply_events. vcc.tickets also has rows that
-- are made and deleted within a call, to hold the key of a ticket that is not there.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = 'vcc.ticket_events'::regclass AND tgname = 'notify_of_changes') THEN
        CREATE TRIGGER notify_of_changes AFTER INSERT ON vcc.ticket_events REFERENCING NEW TABLE AS received
            FOR EACH STATEMENT EXECUTE FUNCTION vcc.notify_of_changes();
    END IF;
END
$$;
COMMIT;
