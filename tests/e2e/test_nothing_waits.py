"""One event never stops the others: what cannot be stored holds back its own ticket, whatever is wrong with it. Beside it
the events of other tickets are answered as if it were not there."""

import concurrent.futures
import contextlib
import itertools
import threading
import time

import fastcgi
import psycopg2
import pytest
from conftest import Handler, body, command, wait_until
from test_spool import ask, old_record, result, waiting

TIMEOUT = 1.0  # seconds: TICKETD_DB_TIMEOUT_MS
INNOCENT = 2 * TIMEOUT  # the longest that an event of another ticket may wait


class Server:
    """A handler, with a spool or without, and what else the tests ask."""

    def __init__(self, folder, database, with_spool=True, **settings):
        self.folder, self.database, self.with_spool = folder, database, with_spool
        self.spool = folder / "spool"
        self.settings = {"TICKETD_DB_TIMEOUT_MS": int(TIMEOUT * 1000), **settings}
        if with_spool:
            self.settings["TICKETD_SPOOL_DIR"] = self.spool
        self.handler = None

    def start(self, **settings):
        self.handler = Handler(self.folder, self.database, **{**self.settings, **settings})

    def stop(self):
        assert self.handler.stop() == 0, self.handler.log.read_text()
        assert "Sanitizer" not in self.handler.log.read_text(errors="replace")

    def send(self, ticket, title):
        """The status, the result or None, and the seconds that it took."""
        began = time.monotonic()
        status, answer, _ = ask(self.handler.socket, body(ticket, title))
        return status, answer.get("result"), time.monotonic() - began

    def command(self, *arguments):
        return command(*arguments, **{"TICKETD_DATABASE": self.database.handler, "TICKETD_AUTH": "none", **self.settings})

    def waiting(self):
        return waiting(self.spool) if self.with_spool else 0

    def wait_until_empty(self, seconds=20):
        wait_until(lambda: self.waiting() == 0, seconds, "an empty spool")

    def journal(self, ticket):
        """The ticket's titles in the order in which they took effect."""
        return [row[0] for row in self.database.query(
            "SELECT payload -> 'ticket' ->> 'title' FROM vcc.ticket_events WHERE ticket_id = %s ORDER BY applied_no", ticket)]

    def rejected(self):
        return [row[0] for row in self.database.query("SELECT reason FROM vcc.rejected_events ORDER BY last_event_id")]

    @contextlib.contextmanager
    def others(self, may_be_spooled=False, clients=4):
        """Events of other tickets come all the time. None is refused, none waits for long, and none is lost."""
        stop, answers = threading.Event(), []

        def talk(client):
            with fastcgi.Connection(self.handler.socket) as c:
                for n in itertools.count():
                    began = time.monotonic()
                    c.send(fastcgi.request(body(100000 + 10 * client + n % 10, f"{client} {n}")))
                    answer = c.answer()
                    answers.append((answer.split("\r\n")[0], '"spooled"' in answer, time.monotonic() - began))
                    if stop.wait(0.01):
                        return
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            running = [pool.submit(talk, client) for client in range(clients)]
            try:
                time.sleep(0.1)
                yield answers
                time.sleep(0.1)
            finally:
                stop.set()
            [each.result() for each in running]
        assert len(answers) > 20 and {status for status, *_ in answers} == {"Status: 200 OK"}, answers
        assert max(seconds for *_, seconds in answers) < INNOCENT
        spooled = sum(was_spooled for _, was_spooled, _ in answers)
        assert may_be_spooled or spooled == 0, f"{spooled} of {len(answers)} were spooled\n{self.handler.log.read_text()}"
        if may_be_spooled:
            wait_until(lambda: self.count_others() == len(answers), 30, "the others' events")
        assert self.count_others() == len(answers)

    def count_others(self):
        return self.database.value("SELECT count(*) FROM vcc.ticket_events WHERE ticket_id >= 100000")


@pytest.fixture
def serve(folder, database):
    """Starts a Server."""
    servers = []

    def serve(*arguments, **settings):
        servers.append(Server(folder, database, *arguments, **settings))
        servers[-1].start()
        return servers[-1]
    yield serve
    for server in servers:
        server.stop()


@contextlib.contextmanager
def neighbour(database, *statements):
    """Another session in a transaction, until the end of the block or its commit()."""
    connection = psycopg2.connect(database.owner)
    try:
        for statement in statements:
            connection.cursor().execute(statement)
        yield connection
    finally:
        connection.close()


def trigger(database, statement, when="NEW.title = 'poison'", deferred=False):
    """A trigger of the user's; not before the rows are there where it is deferred to the commit."""
    database.query(f"""
        CREATE SCHEMA crm; GRANT USAGE ON SCHEMA crm TO PUBLIC;
        CREATE FUNCTION crm.look() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $f$
        BEGIN
            {statement};
            RETURN NULL;
        END $f$;
        CREATE {"CONSTRAINT" if deferred else ""} TRIGGER crm AFTER INSERT OR UPDATE ON vcc.tickets
           {"DEFERRABLE INITIALLY DEFERRED" if deferred else ""}
           FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION crm.look()""")


# Events that PostgreSQL refuses

def raised(state):
    return f"RAISE EXCEPTION 'not %, please', NEW.title USING ERRCODE = '{state}'"


REFUSALS = {
    "ZX001": raised("ZX001"),
    "20000": "CASE NEW.title WHEN 'park' THEN NULL; END CASE",
    "21000": "PERFORM (SELECT g FROM pg_catalog.generate_series(1, 2) g)",
    "55000": "PERFORM pg_catalog.currval('public.unused')",
    "XX000": raised("XX000"),
    "42703": "IF NEW.no_such_column THEN NULL; END IF",
    # An outage, where the server says so of all: of a remote database that a trigger asks, of a block of one table.
    **{state: raised(state) for state in ("08006", "25006", "26000", "53300", "57P01", "58030")},
}


@pytest.mark.parametrize("deferred", [False, True], ids=["at once", "deferred"])
@pytest.mark.parametrize("state", REFUSALS)
def test_a_trigger_that_refuses_one_event(serve, database, state, deferred):
    """Alone it is proven by a made-up event, in company by the commit of another."""
    database.query("CREATE SEQUENCE public.unused")
    trigger(database, REFUSALS[state], deferred=deferred)
    server = serve()
    assert server.send(1, "poison")[:2] == (422, None)
    with server.others():
        for ticket in 1, 2, 3:
            assert server.send(ticket, "poison")[0] == 422
            assert server.send(ticket, "good")[:2] == (200, "inserted")
    assert server.rejected() == [f"PostgreSQL refuses it with SQLSTATE {state}"] * 3  # the same body was counted
    assert database.query("SELECT max(attempts), count(*) FROM vcc.rejected_events") == [(2, 3)]
    assert server.waiting() == 0
    assert "please" not in server.handler.log.read_text()


def test_a_trigger_that_refuses_one_event_without_a_spool(serve, database):
    trigger(database, REFUSALS["ZX001"])
    server = serve(False)
    with server.others():
        assert server.send(1, "poison")[0] == 422
        assert server.send(1, "good")[:2] == (200, "inserted")
    assert server.rejected() == ["PostgreSQL refuses it with SQLSTATE ZX001"]


def test_a_disk_that_has_no_room_for_one_event(serve, database):
    """Which is not at fault: it waits, and its ticket with it."""
    trigger(database, raised("53100"))
    server = serve()
    assert server.send(1, "poison")[:2] == (200, "spooled")
    with server.others():
        assert server.send(1, "next")[:2] == (200, "spooled")
        time.sleep(2)
    assert server.rejected() == [] and server.waiting() == 2
    assert "PostgreSQL refuses it with SQLSTATE 53100" in server.command("spool", "list").stdout
    database.query("DROP TRIGGER crm ON vcc.tickets")
    server.wait_until_empty()
    assert server.journal(1) == ["poison", "next"]


def test_refused_events_that_wait_in_the_spool(serve, database):
    """Poison of each tenth ticket, drained beside others."""
    trigger(database, REFUSALS["ZX001"])
    server = serve(TICKETD_DATABASE="host=/nonexistent")
    for ticket in range(1, 41):
        assert server.send(ticket, "good" if ticket % 10 else "poison")[1] == "spooled"
        assert server.send(ticket, "better")[1] == "spooled"
    server.stop()
    server.start(TICKETD_DATABASE=database.handler)
    with server.others():
        server.wait_until_empty()
    for ticket in range(1, 41):
        assert server.journal(ticket) == (["good", "better"] if ticket % 10 else ["better"])
    assert len(server.rejected()) == 4


@pytest.mark.parametrize("state, with_spool", [("ZX001", True), ("ZX001", False), ("08006", True), ("53100", True)])
def test_a_trigger_that_refuses_all_is_an_outage(serve, database, state, with_spool):
    trigger(database, raised(state), when="true")
    server = serve(with_spool)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: server.send(n, "x"), range(1, 17)))
    assert {answer[:2] for answer in answers} == {(200, "spooled") if with_spool else (503, None)}
    assert max(seconds for *_, seconds in answers) < INNOCENT
    assert server.rejected() == []
    time.sleep(1)
    assert server.rejected() == [] and server.waiting() == (16 if with_spool else 0)
    database.query("DROP TRIGGER crm ON vcc.tickets")
    if with_spool:
        server.wait_until_empty()
        assert database.value("SELECT count(*) FROM vcc.tickets") == 16
    wait_until(lambda: server.send(1, "y")[1] == "updated" or not with_spool)
    assert server.rejected() == []


# Events that do not end

def test_an_event_that_takes_too_long(serve, database):
    trigger(database, "PERFORM pg_catalog.pg_sleep(30)", when="NEW.title = 'slow'")
    server = serve()
    with server.others():
        assert server.send(1, "slow")[:2] == (200, "spooled")
        assert server.send(1, "after")[:2] == (200, "spooled")
        wait_until(server.rejected, 40, "the slow event among those that were set aside")
        wait_until(lambda: server.journal(1) == ["after"], what="the ticket's next event")
    assert server.rejected() == ["PostgreSQL did not finish it within 1000 ms"]
    assert server.send(1, "more")[1] == "updated"


def test_an_event_that_is_refused_after_it_took_too_long(serve, database):
    """The refusal is one that is tried a second time: that is not another long try."""
    database.query("CREATE SEQUENCE public.tries")
    trigger(database, "IF pg_catalog.nextval('public.tries') < 3 THEN PERFORM pg_catalog.pg_sleep(30); END IF;"
            "EXECUTE 'SELECT there_is_none'", when="NEW.title = 'slow'")  # fmt: skip
    server = serve()
    assert server.send(1, "slow")[:2] == (200, "spooled")
    assert server.send(1, "after")[:2] == (200, "spooled")
    wait_until(server.rejected, 20, "the event among those that were set aside")
    assert server.rejected() == ["PostgreSQL refuses it with SQLSTATE 42703"]
    wait_until(lambda: server.journal(1) == ["after"], what="the ticket's next event")


def test_an_event_that_takes_too_long_without_a_spool(serve, database):
    """Its sender tries again, and is told at the third."""
    trigger(database, "PERFORM pg_catalog.pg_sleep(30)", when="NEW.title = 'slow'")
    server = serve(False)
    answers = []
    with server.others():
        while not answers or (answers[-1] == 503 and len(answers) < 20):
            answers.append(server.send(1, "slow")[0])
        assert server.send(1, "after")[:2] == (200, "inserted")
    assert answers[-1] == 422 and len(answers) >= 3, answers
    assert server.rejected() == ["PostgreSQL did not finish it within 1000 ms"]


def test_an_event_that_ends_a_backend(serve, database, cluster):
    """PostgreSQL then starts all its processes again, so others are spooled for a while."""
    trigger(database, "EXECUTE format('COPY (SELECT) TO PROGRAM ''kill -9 %s''', pg_backend_pid())",
            when="NEW.title = 'deadly'")
    server = serve()
    database.connection.close()

    def crashes():
        return cluster.log().count("was terminated by signal 9")
    before = crashes()

    def is_set_aside():
        with contextlib.suppress(psycopg2.Error):
            database.reconnect()
            return server.rejected()
    with server.others(may_be_spooled=True):
        assert server.send(1, "deadly")[0] in (200, 422)  # 422 where PostgreSQL was back twice within the time
        assert server.send(1, "after")[0] == 200
        wait_until(is_set_aside, 60, "the deadly event among those that were set aside")
    wait_until(lambda: server.journal(1) == ["after"], what="the ticket's next event")
    assert server.rejected() == ["PostgreSQL's server process ended when it worked on it, twice"]
    assert crashes() - before <= 3  # the first may come in company
    server.wait_until_empty()


# Locks of neighbours

ROW = "INSERT INTO vcc.tickets (project_id, ticket_id, first_event_at, last_event_at) VALUES (1, {}, now(), now())"
LOCK = "SELECT FROM vcc.tickets WHERE ticket_id = 1 FOR UPDATE"


def test_a_row_that_a_neighbour_holds(serve, database):
    database.query(ROW.format(1))
    server = serve()
    with neighbour(database, LOCK) as holder:
        with server.others():
            status, what, seconds = server.send(1, "first")
            assert (status, what) == (200, "spooled") and 0.8 * TIMEOUT < seconds < INNOCENT
            assert server.send(1, "second")[1] == "spooled"
            time.sleep(3)
        line = server.command("spool", "list").stdout.splitlines()[1].split("\t")
        assert line[:3] == ["1", "1", "2"] and int(line[4]) >= 1 and line[7], line
        check = next(line for line in server.command("check").stdout.splitlines() if line.startswith("spool"))
        assert " ok" not in check and "2 events of 1 ticket wait" in check, check
        holder.commit()
        server.wait_until_empty()
    assert server.journal(1) == ["first", "second"]
    assert server.send(1, "third")[1] == "updated" and server.rejected() == []


def test_a_row_that_a_neighbour_holds_for_a_moment(serve, database):
    """What is held waits in memory until its own deadline: nobody need know of it."""
    database.query(ROW.format(1))
    server = serve()
    with neighbour(database, LOCK) as holder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.send, 1, "first")
        time.sleep(TIMEOUT / 4)
        holder.commit()
        assert first.result()[:2] == (200, "updated")


def test_a_row_that_a_neighbour_holds_without_a_spool(serve, database):
    database.query(ROW.format(1))
    server = serve(False)
    with neighbour(database, LOCK) as holder:
        with server.others():
            status, _, seconds = server.send(1, "first")
            assert status == 503 and seconds < INNOCENT
        holder.commit()
    assert server.send(1, "again")[:2] == (200, "updated") and server.rejected() == []


@pytest.mark.parametrize("tickets", [1, 5])
def test_rows_that_a_neighbour_has_not_committed(serve, database, tickets):
    """A unique index makes the insert wait. Of several such tickets none keeps the others waiting either."""
    server = serve()
    with neighbour(database, *(ROW.format(n) for n in range(1, tickets + 1))) as holder:
        with server.others(), concurrent.futures.ThreadPoolExecutor(tickets) as pool:
            answers = list(pool.map(lambda n: server.send(n, "held"), range(1, tickets + 1)))
            assert {answer[:2] for answer in answers} == {(200, "spooled")}, answers
            assert max(seconds for *_, seconds in answers) < INNOCENT
            time.sleep(3)
        holder.commit()
        server.wait_until_empty(30)
    assert {title for n in range(1, tickets + 1) for title in server.journal(n)} == {"held"}
    assert server.rejected() == []


def test_tickets_that_wait_beside_rows_that_a_neighbour_has_not_committed(serve, database):
    """The drain passes what is held, too."""
    server = serve(TICKETD_DATABASE="host=/nonexistent")
    for ticket in range(1, 41):
        assert server.send(ticket, "x")[1] == "spooled"
    server.stop()
    with neighbour(database, *(ROW.format(n) for n in range(1, 6))) as holder:
        server.start(TICKETD_DATABASE=database.handler)
        with server.others():
            wait_until(lambda: server.waiting() == 5, 10, "what the neighbour does not hold")
        listed = server.command("spool", "list").stdout.splitlines()[1:]
        assert [line.split("\t")[1] for line in listed] == ["1", "2", "3", "4", "5"]
        holder.commit()
    server.wait_until_empty(30)
    assert database.value("SELECT count(*) FROM vcc.ticket_events WHERE ticket_id <= 40") == 40


def test_a_lock_that_a_trigger_takes(serve, database):
    database.query("CREATE TABLE public.counters (n integer)")
    trigger(database, "LOCK TABLE public.counters", when="NEW.title LIKE 'counted%'")
    server = serve()
    with neighbour(database, "LOCK TABLE public.counters") as holder:
        with server.others():
            assert server.send(1, "counted 1")[1] == "spooled"
            assert server.send(1, "counted 2")[1] == "spooled"
        holder.commit()
        server.wait_until_empty()
    assert server.journal(1) == ["counted 1", "counted 2"] and server.rejected() == []


def test_a_refused_body_that_cannot_be_set_aside_now(serve, database):
    """A neighbour holds the row of the same body: that stops nobody else either."""
    server = serve()
    bad = b'{"action":"close","ticket":{"projectId":1,"ticketId":2}}'
    assert ask(server.handler.socket, bad)[0] == 422
    with neighbour(database, "SELECT FROM vcc.rejected_events FOR UPDATE") as holder:
        with server.others(), concurrent.futures.ThreadPoolExecutor(3) as pool:
            assert {answer[0] for answer in pool.map(lambda _: ask(server.handler.socket, bad), range(3))} == {422}
            assert server.waiting() == 3
            time.sleep(1)
        holder.commit()
    server.wait_until_empty()
    assert database.value("SELECT count(*) FROM vcc.rejected_events") == 1


def test_a_neighbour_that_locks_the_table(serve, database):
    """Nobody can be served: nothing is lost, and nobody is at fault."""
    server = serve()
    assert server.send(1, "0")[1] == "inserted"
    with server.others(may_be_spooled=True):
        with neighbour(database, "LOCK TABLE vcc.tickets"):
            for n in range(1, 4):
                assert server.send(1, str(n))[:2] == (200, "spooled")
            time.sleep(3)
    server.wait_until_empty()
    assert server.journal(1) == ["0", "1", "2", "3"] and server.rejected() == []


# The drain

def write_old_spool(folder, events):
    """A spool of many events at little cost: as an older ticketd left it."""
    folder.mkdir(0o700)
    marker = b"12345678"
    (folder / "1.segment").write_bytes(b"ticketd spool 1\n" + marker + b"".join(old_record(marker, e) for e in events))


def test_a_login_with_one_connection(serve, database):
    """The drain wants no second one."""
    server = serve()
    assert server.send(1, "0")[1] == "inserted"
    try:
        database.query("ALTER ROLE handler CONNECTION LIMIT 0")
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'handler'")
        for n in range(1, 20):
            assert server.send(n % 3, str(n))[1] == "spooled"
        database.query("ALTER ROLE handler CONNECTION LIMIT 1")
        server.wait_until_empty()
        wait_until(lambda: server.send(1, "20")[1] == "updated")
    finally:
        database.query("ALTER ROLE handler CONNECTION LIMIT -1")
    assert server.journal(1)[:7] == ["0", "1", "4", "7", "10", "13", "16"]


def test_arrivals_do_not_outrun_the_drain(folder, serve, database):
    write_old_spool(folder / "spool", (body(1 + n % 300, str(n)) for n in range(3000)))
    server = serve()
    with server.others(clients=8):
        server.wait_until_empty(60)
    for ticket in range(300):
        assert server.journal(1 + ticket) == [str(n) for n in range(ticket, 3000, 300)]


def test_a_hot_ticket_drains_in_few_transactions(folder, serve, database):
    write_old_spool(folder / "spool", (body(1, str(n)) for n in range(1500)))

    def transactions():
        database.query("SELECT pg_stat_clear_snapshot()")
        return database.value("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    server = serve(TICKETD_DATABASE="host=/nonexistent", TICKETD_DB_TIMEOUT_MS=5000)
    server.stop()
    assert server.waiting() == 1500
    time.sleep(1.2)  # statistics come late
    before = transactions()
    server.start(TICKETD_DATABASE=database.handler)
    server.wait_until_empty(60)
    server.stop()
    assert server.journal(1) == [str(n) for n in range(1500)]
    count = transactions() - before
    server.start()
    assert count < 100, f"{count} transactions for 1,500 events"


# The way out

def test_an_event_is_dropped_and_its_ticket_goes_on(serve, database):
    trigger(database, "PERFORM FROM public.doors FOR UPDATE", when="NEW.title = 'needs the door'")
    database.query("CREATE TABLE public.doors (n integer); INSERT INTO public.doors VALUES (1)")
    server = serve()
    with neighbour(database, "SELECT FROM public.doors FOR UPDATE"):
        assert server.send(1, "needs the door")[1] == "spooled"
        assert server.send(1, "after")[1] == "spooled"
        event = server.command("spool", "list").stdout.splitlines()[1].split("\t")[6]
        done = server.command("spool", "drop", event)
        assert done.returncode == 0 and event in done.stdout, done.stderr
        assert server.command("spool", "drop", event).returncode == 2
        server.wait_until_empty()
        assert server.journal(1) == ["after"]
    assert server.rejected() == ["dropped from the spool by hand"]
    assert database.value("SELECT last_event_id::text FROM vcc.rejected_events") == event
