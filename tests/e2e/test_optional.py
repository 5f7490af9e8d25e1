"""sql/optional: what a site may add by hand, shown by a second client that really listens or subscribes."""

import contextlib
import json

import fastcgi
import psycopg2
import pytest
from cluster import Cluster
from conftest import ROOT, Database, Handler, event, temporary_folder, wait_until

NOTIFY = ROOT / "sql/optional/notify.sql"
PUBLICATION = ROOT / "sql/optional/publication.sql"


def submit(handler, *events):
    """Sends events one after another and returns their results. Each is answered 200."""
    results = []
    with fastcgi.Connection(handler.socket) as c:
        for each in events:
            c.send(fastcgi.request(each))
            answer = c.answer()
            assert answer.startswith("Status: 200"), answer
            results.append(json.loads(answer.partition("\r\n\r\n")[2])["result"])
    return results


@contextlib.contextmanager
def stopping(handler):
    """Stops it at the end, where it must end well."""
    try:
        yield handler
    finally:
        status = handler.stop()
    assert status == 0, handler.log.read_text()


# -- notifications --------------------------------------------------------------------------------------------------


class Listener:
    def __init__(self, database):
        self.connection = psycopg2.connect(database.owner)
        self.connection.autocommit = True
        self.execute("LISTEN vcc_tickets")

    def execute(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    def heard(self):
        """The tickets of the notifications since the last call, in their order. A mark of our own comes behind all that
        is committed."""
        self.execute("NOTIFY vcc_tickets, 'mark'")  # our own come with the answer, and those before them
        found = [notification.payload for notification in self.connection.notifies]
        self.connection.notifies.clear()
        assert found.pop() == "mark"
        found = [json.loads(payload) for payload in found]
        assert all(sorted(each) == ["project_id", "ticket_id"] and each["project_id"] == 130 for each in found), found
        return [each["ticket_id"] for each in found]


@pytest.fixture
def listener(database):
    listener = Listener(database)
    yield listener
    listener.connection.close()


def notify_on(database, file=NOTIFY):
    database.cluster.psql("-f", str(file), dbname=database.name)


def test_nothing_is_notified_unless_asked_for(handler, listener):
    assert submit(handler, event("add", 1), event("delete", 1)) == ["inserted", "deleted"]
    assert listener.heard() == []


def test_a_notification_for_each_changed_ticket(handler, database, listener):
    notify_on(database)
    notify_on(database)  # twice does no harm
    for each, result, heard in [
        (event("add", 1, title="a"), "inserted", [1]),
        (event("add", 1, title="a"), "unchanged", []),
        (event("update", 1, title="a"), "unchanged", []),
        (event("update", 1, title="b"), "updated", [1]),
        (event("update", 1, priority=3), "updated", [1]),
        (event("update", 2), "inserted", [2]),  # a row of the key alone
        (event("delete", 2), "deleted", [2]),
        (event("delete", 2), "unchanged", []),  # which makes a row and deletes it
        (event("delete", 3), "unchanged", []),
        (event("update", 3, title="late"), "ignored", []),
        (event("delete", 1), "deleted", [1]),
        (event("add", 1, title="a"), "ignored", []),
        (event("add", 1, title="again"), "inserted", [1]),
    ]:  # fmt: skip
        assert (submit(handler, each), listener.heard()) == ([result], heard), each


def test_a_ticket_is_notified_once_a_commit(handler, database, listener):
    """However many events it had in there."""
    notify_on(database)
    submit(handler, event("add", 9))
    assert listener.heard() == [9]
    database.query("BEGIN")
    database.query("LOCK TABLE vcc.tickets IN EXCLUSIVE MODE")
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(fastcgi.Connection(handler.socket)) for _ in range(41)]
        connections[0].send(fastcgi.request(event("update", 9, title="waits")))
        wait_until(database.handler_waits_for_a_lock, what="the first batch")
        for n, c in enumerate(connections[1:]):
            c.send(fastcgi.request(event("update", n % 2, title=str(n))))
        database.query("COMMIT")
        for c in connections:
            assert c.answer().startswith("Status: 200")
    journal = database.query("SELECT ticket_id, xmin::text FROM vcc.ticket_events WHERE ticket_id < 9")
    assert len(journal) == 40 and len(set(journal)) < 10, "the commits had hardly more than one event each"
    assert sorted(listener.heard()) == sorted([ticket for ticket, _ in set(journal)] + [9])


def test_nothing_is_notified_of_what_is_undone(handler, database, listener):
    notify_on(database)
    database.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'refused')")
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(event("update", 1, title="refused")))
        assert c.answer().startswith("Status: 422")
    assert listener.heard() == []


def test_notifications_survive_a_migrate_and_can_be_taken_off(handler, database, listener):
    notify_on(database)
    database.migrate()
    assert submit(handler, event("add", 1)) == ["inserted"]
    assert listener.heard() == [1]
    off = [line.strip("- ") for line in NOTIFY.read_text().splitlines() if "DROP FUNCTION" in line]
    assert len(off) == 1
    database.query(off[0])
    assert submit(handler, event("delete", 1)) == ["deleted"]
    assert listener.heard() == []


def test_a_listener_that_does_not_read_stops_no_event(handler, database, listener, folder):
    """A full queue fails the commits of all who notify. We stop in time: here at a few pages, not at six of 8 GB."""
    text = NOTIFY.read_text()
    assert text.count("< 0.75") == 1
    early = folder / "notify.sql"
    early.write_text(text.replace("< 0.75", "< 0.000005"))
    notify_on(database, early)
    assert submit(handler, event("add", 1)) == ["inserted"]
    assert listener.heard() == [1]

    listener.execute("BEGIN; SELECT 1")
    for n in range(10):
        database.query("SELECT pg_notify('other', %s)", str(n).ljust(7000, "x"))
    assert submit(handler, event("update", 1, title="full"), event("add", 2)) == ["updated", "inserted"]
    listener.execute("COMMIT")
    assert listener.heard() == []
    assert submit(handler, event("delete", 2)) == ["deleted"]
    assert listener.heard() == [2]


# -- a subscriber ---------------------------------------------------------------------------------------------------

MONTHS = """SELECT inhrelid::regclass::text FROM pg_inherits
    WHERE inhparent = 'vcc.ticket_events'::regclass AND inhrelid <> 'vcc.ticket_events_default'::regclass"""
COPIED = ["tickets", "ticket_events", "deleted_tickets", "rejected_events"]


@pytest.fixture(scope="module")
def publisher():
    with Cluster(settings={"wal_level": "logical"}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def subscriber():
    with Cluster() as cluster:
        yield cluster


def rows(database):
    return {table: sorted(row for row, in database.query(f"SELECT t::text FROM vcc.{table} t")) for table in COPIED}


def same_rows(source, copy):
    wait_until(lambda: rows(source) == rows(copy), what="the copy")
    return {table: len(found) for table, found in rows(copy).items()}


def test_a_subscriber_has_the_same_rows(publisher, subscriber):
    """Those that were there, and what comes, through the journal's root: its partitions are not those of the copy."""
    source, copy = Database(publisher, "source"), Database(subscriber, "copy")
    with contextlib.ExitStack() as stack:
        stack.callback(copy.connection.close)
        stack.callback(source.connection.close)
        folder = stack.enter_context(temporary_folder())
        for partition, in copy.query(MONTHS):
            copy.query(f"DROP TABLE {partition}")
        handler = stack.enter_context(stopping(Handler(folder, source)))
        results = submit(handler, event("add", 1, title="a", priority=3), event("add", 2), event("delete", 2))
        assert results == ["inserted", "inserted", "deleted"]
        for _ in range(2):  # twice does no harm
            publisher.psql("-f", str(PUBLICATION), dbname="source")
        source.query("CREATE ROLE copy LOGIN REPLICATION IN ROLE vcc_reader")
        copy.query(f"CREATE SUBSCRIPTION vcc CONNECTION '{publisher.conninfo('source', 'copy')}' PUBLICATION vcc")
        stack.callback(copy.query, "DROP SUBSCRIPTION vcc")  # which waits for the publisher to end its sender
        assert same_rows(source, copy) == {"tickets": 1, "ticket_events": 3, "deleted_tickets": 1, "rejected_events": 0}

        results = submit(handler, event("update", 1, title="b"), event("add", 3, title="x" * 100_000), event("add", 4),
                         event("delete", 4), event("update", 1, title="b"))  # fmt: skip
        assert results == ["updated", "inserted", "inserted", "deleted", "unchanged"]
        with fastcgi.Connection(handler.socket) as c:
            c.send(fastcgi.request({}))
            assert c.answer().startswith("Status: 422")
        # The large text is not sent again with an update of another column.
        assert submit(handler, event("update", 3, cc="office@example.com")) == ["updated"]
        assert same_rows(source, copy) == {"tickets": 2, "ticket_events": 9, "deleted_tickets": 2, "rejected_events": 1}
        assert source.query("SELECT * FROM ONLY vcc.ticket_events_default") == []
        assert len(copy.query("SELECT * FROM ONLY vcc.ticket_events_default")) == 9

        source.query("SELECT vcc.erase_ticket(130, 3)")
        assert same_rows(source, copy) == {"tickets": 1, "ticket_events": 7, "deleted_tickets": 3, "rejected_events": 1}

        # What moves from the default partition to that of its month is not lost, nor is anybody told of it again.
        publisher.psql("-f", str(NOTIFY), dbname="source")
        for n in range(3):
            source.query("SELECT vcc.apply_events(project => 130, ticket_id => '{9}', action => '{update}', payload => "
                         "ARRAY['{}'], received_at => ARRAY['2024-02-15Z'::timestamptz + %s * interval '1 second'])", n)
        listener = Listener(source)
        stack.callback(listener.connection.close)
        assert source.value("SELECT vcc.prepare_journal('2024-02-29Z')") == 1
        assert source.value("SELECT count(*) FROM vcc.ticket_events_2024_02") == 3
        assert listener.heard() == []
        assert submit(handler, event("add", 5)) == ["inserted"]
        assert same_rows(source, copy) == {
            "tickets": 3, "ticket_events": 11, "deleted_tickets": 3, "rejected_events": 1}


def test_a_publication_needs_wal_level_logical(database):
    with pytest.raises(RuntimeError) as failure:
        database.cluster.psql("-f", str(PUBLICATION), dbname=database.name)
    assert "needs wal_level = logical; it is replica" in str(failure.value)
    assert "ALTER SYSTEM SET wal_level = logical; then restart" in str(failure.value)
    assert database.query("SELECT * FROM pg_publication") == []


def test_the_files_are_neither_embedded_nor_run(database):
    assert database.query("SELECT * FROM pg_trigger WHERE NOT tgisinternal AND tgfoid <> 'vcc.calendars_changed'::regproc") == []
    assert database.query("SELECT * FROM pg_publication") == []
