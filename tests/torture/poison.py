"""Triggers of a user's that do not bear some events, and neighbours who hold rows."""

import contextlib
import threading
import time

RAISED = ["own", "P0001", "20000", "21000", "55000", "XX000", "42703", "08006", "57P01", "58030"]
REFUSED = RAISED + [kind + ", deferred" for kind in RAISED]  # an ordinary refusal: at once, or at the commit
SLOW, CRASH = "sleep", "crash"

# Of an event that carries "poison". It is the journal that refuses it: every event comes there.
SQL = """
CREATE SEQUENCE public.never_used;
CREATE FUNCTION public.poison() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    kind text := NEW.payload -> 'ticket' ->> 'poison';
    n integer;
BEGIN
    IF kind IS NULL OR (kind LIKE '%, deferred') <> (TG_NAME = 'poison_deferred') THEN
        RETURN NULL;
    END IF;
    kind := split_part(kind, ',', 1);
    IF kind = 'own' THEN
        RAISE 'no' USING ERRCODE = 'TK001';
    ELSIF kind = 'P0001' THEN
        RAISE 'no';
    ELSIF kind = '20000' THEN
        CASE n WHEN 1 THEN n := 2; END CASE;
    ELSIF kind = '21000' THEN
        n := (SELECT v FROM (VALUES (1), (2)) AS two (v));
    ELSIF kind = '55000' THEN
        PERFORM currval('public.never_used');
    ELSIF kind IN ('XX000', '08006', '57P01', '58030') THEN
        RAISE 'no' USING ERRCODE = kind;
    ELSIF kind = '42703' THEN
        EXECUTE 'SELECT there_is_none';
    ELSIF kind = 'sleep' THEN
        PERFORM pg_sleep(3600);
    ELSIF kind = 'crash' THEN
        EXECUTE format('COPY (SELECT 1) TO PROGRAM ''kill -9 %s''', pg_backend_pid());
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER poison AFTER INSERT ON vcc.ticket_events FOR EACH ROW EXECUTE FUNCTION public.poison();
CREATE CONSTRAINT TRIGGER poison_deferred AFTER INSERT ON vcc.ticket_events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.poison();
"""


class Neighbour:
    """Holds the row of one ticket after the other, each for so many seconds, until the block ends."""

    def __init__(self, cluster, name, rng, keys, seconds):
        self.cluster, self.name, self.rng, self.keys, self.seconds = cluster, name, rng, keys, seconds
        self.held = []  # (key, from, until), by time.time()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def run(self):
        while not self.stopped.wait(self.rng.uniform(0.05, 0.3)):
            key, began = self.rng.choice(self.keys), time.time()
            with contextlib.suppress(Exception):  # the server ends, too
                self.hold(key)
            self.held.append((key, began, time.time()))

    def hold(self, key):
        with contextlib.closing(self.cluster.connect(self.name, autocommit=False)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT FROM vcc.tickets WHERE (project_id, ticket_id) = (%s, %s) FOR UPDATE", key)
            if cursor.rowcount == 0:  # nobody can make it, then
                cursor.execute("INSERT INTO vcc.tickets (project_id, ticket_id, first_event_at, last_event_at)"
                               " VALUES (%s, %s, now(), now()) ON CONFLICT DO NOTHING", key)  # fmt: skip
            self.stopped.wait(self.rng.uniform(*self.seconds))
            connection.rollback()
