"""The database does not take events: they wait in the spool, each ticket's in order, and nothing answered 200 is lost."""

import concurrent.futures
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import struct
import threading
import time
import uuid
import zlib

import fastcgi
import psycopg2
import pytest
from conftest import Database, Handler, body, command, event, fcgiwrap, wait_until

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files to another user")
NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="needs an ordinary user: root may write everywhere")


def ask(path, content, **more):
    """One request: the status and the decoded answer."""
    with fastcgi.Connection(path) as c:
        c.send(fastcgi.request(content, **more))
        head, _, text = c.answer().partition("\r\n\r\n")
    return int(re.match(r"Status: (\d+)", head)[1]), json.loads(text), head


def result(handler, content):
    status, answer, _ = ask(handler.socket, content)
    assert status == 200, answer
    return answer["result"]


def waiting(folder):
    """How many events a spool directory holds."""
    file = folder / "spool.db"
    for _ in range(100):
        with contextlib.suppress(sqlite3.OperationalError):  # it is being made, or removed
            if not file.exists():
                return 0
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
                made = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'events'").fetchone()[0]
                return db.execute("SELECT count(*) FROM events").fetchone()[0] if made else 0
        time.sleep(0.02)
    raise AssertionError(f"{file} cannot be read")


class Spool:
    """A spool directory and a handler that uses it, with a database that can be out of reach."""

    def __init__(self, folder, database, **settings):
        self.path = folder / "spool"
        self.folder, self.database = folder, database
        self.settings = {"TICKETD_SPOOL_DIR": self.path, "TICKETD_DB_TIMEOUT_MS": 500, **settings}
        self.handlers = []

    def handler(self, reachable=True, name="one", **settings):
        """A started handler; unless `reachable` nobody listens where its database should be."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        settings = {**self.settings, **settings}
        if not reachable:
            settings["TICKETD_DATABASE"] = "host=/nonexistent dbname=x"
        self.handlers.append(Handler(folder, self.database, **settings))
        return self.handlers[-1]

    def command(self, *arguments, **settings):
        return command(*arguments, **{"TICKETD_DATABASE": self.database.handler, **self.settings, **settings})

    def drain(self):
        done = self.command("spool", "drain", TICKETD_DB_TIMEOUT_MS=5000)
        assert done.returncode == 0, done.stderr
        assert self.waiting() == 0
        return done

    def waiting(self):
        return waiting(self.path)

    def wait_until_empty(self, seconds=15):
        wait_until(lambda: self.waiting() == 0, seconds, "an empty spool")

    def status(self):
        """What `spool status` prints, by name."""
        done = self.command("spool", "status")
        assert done.returncode == 0, done.stderr
        return {line[:11].strip(): line[12:] for line in done.stdout.splitlines()}

    @contextlib.contextmanager
    def drain_lock(self):
        """Nobody else drains meanwhile."""
        with open(self.path / "drain.lock", "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def journal(self):
        """Titles in the order in which they took effect."""
        return [row[0] for row in self.database.query(
            "SELECT payload -> 'ticket' ->> 'title' FROM vcc.ticket_events ORDER BY applied_no")]

    def close(self):
        for handler in self.handlers:
            handler.stop()
        for handler in self.handlers:
            log = handler.log.read_text(errors="replace")
            assert "Sanitizer" not in log, log


@pytest.fixture
def spool(folder, database):
    spool = Spool(folder, database)
    yield spool
    spool.close()


# The way there and back

def test_an_outage(cluster, spool, database):
    handler = spool.handler()
    assert result(handler, body(1, "0")) == "inserted"
    database.connection.close()
    cluster.stop("fast")
    try:
        answers = [ask(handler.socket, body(1, str(i))) for i in range(1, 30)]
        assert {(s, a["result"]) for s, a, _ in answers} == {(200, "spooled")}
        assert ask(handler.socket, b"", method="GET", uri="/x/readyz")[:2] == (200, {"ready": True, "by": "spool"})
        assert spool.waiting() == 29 and spool.status()["tickets"] == "1"
    finally:
        cluster.start()
        database.reconnect()
    spool.wait_until_empty()
    assert spool.journal() == [str(i) for i in range(30)]
    assert database.value("SELECT title FROM vcc.tickets") == "29"
    ids = [row[0] for row in database.query("SELECT event_id::text FROM vcc.ticket_events ORDER BY event_id")]
    assert ids[1:] == [a["event"] for _, a, _ in answers]
    assert result(handler, body(1, "30")) == "updated"
    wait_until(lambda: ask(handler.socket, b"", method="GET", uri="/x/readyz")[1] == {"ready": True, "by": "database"})
    wait_until(lambda: "the spool is empty" in handler.log.read_text(), what="the word that the spool is empty")
    log = handler.log.read_text()
    assert log.count("events are spooled until") == 1 and "draining the spool" in log


def test_nobody_waits_for_a_database_that_was_away(spool):
    """The first event does, for the time-out; after it each one of a new ticket would take as long."""
    handler = spool.handler(reachable=False, TICKETD_DB_TIMEOUT_MS=3000)
    began = time.monotonic()
    assert [result(handler, event("add", ticket)) for ticket in range(1, 22)] == ["spooled"] * 21
    assert time.monotonic() - began < 20


def test_new_events_of_a_ticket_join_those_that_wait(spool):
    """Of the same ticket, though the database is there; those of others go straight to it."""
    away = spool.handler(reachable=False)
    assert result(away, body(1, "1")) == "spooled"
    away.stop()
    with spool.drain_lock():
        handler = spool.handler(name="two", TICKETD_WRITERS=4)
        assert [result(handler, body(1, str(i))) for i in range(2, 20)] == ["spooled"] * 18
        assert [result(handler, body(2, f"other {i}")) for i in range(5)] == ["inserted"] + ["updated"] * 4
        time.sleep(1)
        assert spool.journal() == [f"other {i}" for i in range(5)]
    spool.wait_until_empty()
    assert spool.journal()[5:] == [str(i) for i in range(1, 20)]
    assert result(handler, body(1, "20")) == "updated"


def test_a_start_drains_what_is_there(spool):
    away = spool.handler(reachable=False)
    assert result(away, body(1, "1")) == "spooled"
    away.kill()
    spool.handler(name="two")
    wait_until(lambda: spool.journal() == ["1"])
    spool.wait_until_empty()


def test_sigterm_spools_what_the_database_did_not_settle(spool, database):
    handler = spool.handler(TICKETD_DB_TIMEOUT_MS=25000)
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(body(1, "held")))
        wait_until(database.handler_waits_for_a_lock)
        handler.process.send_signal(signal.SIGTERM)
        assert '"spooled"' in c.answer()
        assert handler.process.wait(10) == 0
    database.query("ROLLBACK")
    database.query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'handler'")
    spool.drain()
    assert spool.journal() == ["held"]


def test_a_drain_that_is_told_to_stop_is_no_error(spool, database):
    away = spool.handler(reachable=False)
    assert result(away, body(1, "1")) == "spooled"
    away.stop()
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    draining = spool.handler(name="two", TICKETD_DB_TIMEOUT_MS=25000)
    wait_until(database.handler_waits_for_a_lock)
    draining.process.send_signal(signal.SIGTERM)
    assert draining.process.wait(10) == 0
    database.query("ROLLBACK")
    assert spool.status()["events"] == "1"
    assert "cannot" not in draining.log.read_text()
    spool.drain()


@pytest.mark.parametrize("break_it, mend_it", [
    ("REVOKE EXECUTE ON FUNCTION vcc.apply_events FROM vcc_writer",
     "GRANT EXECUTE ON FUNCTION vcc.apply_events TO vcc_writer"),
    ("UPDATE vcc.migrations SET version = -version", "UPDATE vcc.migrations SET version = -version"),
    ("ALTER ROLE handler SET default_transaction_read_only = on", "ALTER ROLE handler RESET default_transaction_read_only"),
    ("ALTER ROLE handler CONNECTION LIMIT 0", "ALTER ROLE handler CONNECTION LIMIT -1"),
    ("ALTER TABLE vcc.tickets RENAME TO elsewhere", "ALTER TABLE vcc.elsewhere RENAME TO tickets"),
], ids=["no right", "old schema", "read-only", "no connection", "no table"])
def test_a_database_that_is_there_and_does_not_work(spool, database, break_it, mend_it):
    handler = spool.handler()
    assert result(handler, body(1, "1")) == "inserted"
    database.query(break_it)
    try:
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'handler'")
        assert result(handler, body(1, "2")) == "spooled"
        assert result(handler, body(1, "3")) == "spooled"
        time.sleep(1.2)
        assert spool.waiting() == 2
    finally:
        database.query(mend_it)
    spool.wait_until_empty()
    assert spool.journal() == ["1", "2", "3"]


def test_slow_and_frozen_databases(cluster, spool, database):
    handler = spool.handler()
    assert result(handler, body(1, "1")) == "inserted"
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    assert result(handler, body(1, "2")) == "spooled"
    database.query("COMMIT")
    spool.wait_until_empty()
    cluster.freeze()
    try:
        start = time.monotonic()
        assert result(handler, body(1, "3")) == "spooled"
        assert result(handler, body(1, "4")) == "spooled"
        assert time.monotonic() - start < 4
    finally:
        cluster.thaw()
    spool.wait_until_empty()
    assert spool.journal() == ["1", "2", "3", "4"]


def test_refused_bodies_go_through_the_spool(spool, database):
    """Those that are no events, those that came in part, and those that only PostgreSQL refuses."""
    handler = spool.handler(reachable=False)
    assert ask(handler.socket, b"{")[0] == 400
    assert ask(handler.socket, b"", method="GET", uri="/x/readyz")[1]["by"] == "spool"
    assert ask(handler.socket, b'\xef\xbb\xbf{"action":"add"}')[0] == 422
    assert ask(handler.socket, b'\xff\x00', length=7)[0] == 400
    assert ask(handler.socket, b"")[0] == 400
    for title in "good", "poison", "better":
        assert result(handler, body(1, title)) == "spooled"
    handler.stop()
    assert (spool.status()["events"], spool.status()["tickets"]) == ("7", "5")
    database.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'poison')")
    for _ in range(2):  # as if it had been killed before the events were removed
        copy = [(file, file.read_bytes()) for file in spool.path.glob("spool.db*")]
        spool.drain()
        rows = {bytes(b): (r, n) for b, r, n in database.query("SELECT body, reason, attempts FROM vcc.rejected_events")}
        assert rows[b"{"][0].startswith("is not JSON") and "incomplete" in rows[b"\xff\x00"][0]
        assert "/ticket" in rows[b'\xef\xbb\xbf{"action":"add"}'][0] and rows[b""][0] == "is empty"
        assert "tickets_title_check" in rows[body(1, "poison")][0]
        assert {n for _, n in rows.values()} == {1} and len(rows) == 5
        assert spool.journal() == ["good", "better"]
        for path, content in copy:
            path.write_bytes(content)
    spool.drain()


def test_a_refused_body_in_doubt_is_kept_once(spool, database):
    """The database takes it when we no longer wait for that, and the drain brings it again."""
    handler = spool.handler()
    assert result(handler, body(1, "1")) == "inserted"
    database.query("BEGIN; LOCK TABLE vcc.rejected_events")
    bad = b'{"action":"close","ticket":{"projectId":7,"ticketId":2}}'
    assert ask(handler.socket, bad)[0] == 422
    assert spool.waiting() == 1
    database.query("COMMIT")
    spool.wait_until_empty()
    wait_until(lambda: database.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == 0)
    assert [(bytes(b), p, n) for b, p, n in database.query(
        "SELECT body, project_id, attempts FROM vcc.rejected_events")] == [(bad, 7, 1)]


def test_the_same_bytes_are_refused_elsewhere_meanwhile(spool, start, database):
    """What was spooled before that was not set aside by it."""
    away = spool.handler(reachable=False)
    assert result(away, body(1, "wanted")) == "spooled"
    away.stop()
    database.query("ALTER TABLE vcc.tickets ADD CONSTRAINT no CHECK (title <> 'wanted')")
    assert ask(start().socket, body(1, "wanted"))[0] == 422
    database.query("ALTER TABLE vcc.tickets DROP CONSTRAINT no")
    spool.drain()
    assert spool.journal() == ["wanted"]


def test_a_refused_body_is_503_where_it_cannot_be_kept(start):
    handler = start(TICKETD_DATABASE="host=/nonexistent dbname=x", TICKETD_DB_TIMEOUT_MS=100)
    status, _, head = ask(handler.socket, b"{")
    assert status == 503 and "Retry-After" in head


def test_cgi_spools_and_leaves_draining_to_others(spool, folder):
    settings = {**spool.settings, "TICKETD_DATABASE": "host=/nonexistent dbname=x", "TICKETD_AUTH": "none"}
    with fcgiwrap(folder, 4, **settings) as (wrapper, cgi):
        assert ask(wrapper, body(1, "first"), **cgi)[1]["result"] == "spooled"
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: ask(wrapper, body(i, "x"), **cgi), range(2, 40)))
        assert {(s, a["result"]) for s, a, _ in answers} == {(200, "spooled")}
        assert ask(wrapper, b"", method="GET", uri="/x/readyz", length=0, **cgi)[1]["by"] == "spool"
    assert spool.waiting() == 39
    spool.drain()
    assert len(spool.journal()) == 39


def test_two_daemons_share_a_directory(spool, database):
    """Each appends, one drains, and a ticket's order holds across them."""
    one, two = (spool.handler(reachable=False, name=n) for n in ("one", "two"))

    def talk(ticket):
        return [result((one, two)[i % 2], body(ticket, f"{ticket} {i}")) for i in range(20)]

    def go_on(ticket):
        for i in range(20, 40):
            time.sleep(0.02)  # a process sees within 10 ms what the other one has spooled (SPOOL_LOOK_US)
            result((one, two)[i % 2], body(ticket, f"{ticket} {i}"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert {r for answers in pool.map(talk, range(8)) for r in answers} == {"spooled"}
    spool.close()
    one, two = (spool.handler(name=n) for n in ("three", "four"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(go_on, range(8)))
    spool.wait_until_empty()
    titles = spool.journal()
    for ticket in range(8):
        assert [t for t in titles if t.startswith(f"{ticket} ")] == [f"{ticket} {i}" for i in range(40)]
        assert database.value("SELECT title FROM vcc.tickets WHERE ticket_id = %s", ticket) == f"{ticket} 39"


def test_a_drain_is_not_outrun(spool):
    """Clients that send as fast as they can do not keep the spool from getting empty."""
    away = spool.handler(reachable=False)
    stop = threading.Event()

    def send(handler, n):
        with fastcgi.Connection(handler.socket) as c:
            while not stop.is_set():
                c.send(fastcgi.request(body(n, "x" * 300)))
                assert "Status: 200" in c.answer()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        clients = [pool.submit(send, away, n) for n in range(32)]
        try:
            time.sleep(1)
        finally:
            stop.set()
        [c.result() for c in clients]
    away.stop()
    stop.clear()
    with spool.drain_lock():
        back = spool.handler(name="two", TICKETD_DB_TIMEOUT_MS=5000)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        clients = [pool.submit(send, back, n) for n in range(32)]
        try:
            spool.wait_until_empty(60)
        finally:
            stop.set()
        [c.result() for c in clients]


# Commit in doubt

class Cutter:
    """Between ticketd and PostgreSQL: passes everything on, and cuts the connection when armed and a Sync was passed on,
    before any of the answer is."""

    def __init__(self, folder, target):
        self.target, self.armed, self.cuts, self.open = target, 0, 0, True
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / ".s.PGSQL.5432"))
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while self.open:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            for a, b, down in (client, server, False), (server, client, True):
                threading.Thread(target=self.copy, args=(a, b, down), daemon=True).start()

    def copy(self, source, sink, down):
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                if self.armed and self.ends_here(source, down, passed + len(data)):
                    self.armed -= 1
                    self.cuts += 1
                    break
                sink.sendall(data)
                passed += len(data)
        for s in source, sink:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def ends_here(self, _source, down, _received):
        """Whether to cut: the whole answer, the commit before it, is in, and is never passed on."""
        return down

    def close(self):
        self.open = False
        self.listener.close()


def through(folder, database):
    """The connection string by way of a Cutter in the folder, and where that passes on to."""
    host = database.cluster.directory
    return database.handler.replace(host, str(folder)), f"{host}/.s.PGSQL.5432"


@pytest.mark.parametrize("with_spool", [True, False])
@pytest.mark.parametrize("cuts", [1, 50])
def test_a_commit_in_doubt_is_applied_once(start, folder, database, with_spool, cuts):
    """Cut once, the same events are sent again; cut every time, they are spooled and drained, or answered 503."""
    conninfo, target = through(folder, database)
    cutter = Cutter(folder, target)
    settings = {"TICKETD_SPOOL_DIR": folder / "spool"} if with_spool else {}
    handler = start(TICKETD_DATABASE=conninfo, TICKETD_DB_TIMEOUT_MS=1000, **settings)
    try:
        assert result(handler, body(1, "0")) == "inserted"
        cutter.armed = cuts
        status, answer, _ = ask(handler.socket, body(1, "1"))
        if cuts == 1:
            assert (status, answer["result"]) == (200, "updated")
        else:
            assert (status, answer.get("result")) == ((200, "spooled") if with_spool else (503, None))
        assert cutter.cuts >= 1
        cutter.armed = 0
        wait_until(lambda: waiting(folder / "spool") == 0, 15, "an empty spool")
        assert database.query("SELECT count(*), count(DISTINCT event_id) FROM vcc.ticket_events") == [(2, 2)]
        assert database.query("SELECT title FROM vcc.tickets") == [("1",)]
    finally:
        cutter.close()


class Ender(Cutter):
    """Ends connections as a server that shuts down does, in the middle of a batch that is being sent: it says why and
    closes a moment later. libpq may notice the one while it reads and the other while it writes."""

    FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    FATAL = struct.pack(">ci", b"E", 4 + len(FIELDS)) + FIELDS
    moment = 0

    def ends_here(self, source, down, received):
        if down or received <= 20000:
            return False
        time.sleep(0.02)  # the socket's buffer is full
        source.sendall(self.FATAL)
        closing = time.perf_counter() + self.moment
        while time.perf_counter() < closing:
            pass
        return True


def test_a_server_that_shuts_down_in_a_batch(folder, database):
    conninfo, target = through(folder, database)
    ender = Ender(folder, target)
    file = folder / "events.jsonl"
    file.write_bytes(b"".join(body(n, "x" * 8000) + b"\n" for n in range(600)))
    try:
        for n in range(10):  # the moment is met by chance, in one of ten
            ender.armed, ender.moment = 1, 0.0001 + n * 0.00006
            done = command("import", str(file), TICKETD_DATABASE=conninfo)
            assert (done.returncode, ender.armed) == (0, 0), done.stderr
            assert database.query("SELECT count(*), count(DISTINCT event_id) FROM vcc.ticket_events") == [(600, 600)]
            database.query("TRUNCATE vcc.tickets, vcc.ticket_events, vcc.ticket_adds, vcc.imports")
    finally:
        ender.close()


# Faults of the directory

def assert_503_then_mended(handler, mend, ticket=9):
    """Without database and spool 503; well again by itself when the spool is."""
    status, _, head = ask(handler.socket, body(ticket, "no"))
    assert status == 503 and "Retry-After" in head
    assert "the spool cannot take events" in handler.log.read_text()
    wait_until(lambda: ask(handler.socket, b"", method="GET", uri="/x/readyz")[0] == 503)
    mend()
    assert result(handler, body(ticket, "yes")) == "spooled"
    assert "the spool takes events again" in handler.log.read_text()


def test_a_full_spool(spool):
    handler = spool.handler(reachable=False, TICKETD_SPOOL_MAX_MB=1)
    big = body(1, "x" * 300000)
    assert [ask(handler.socket, big)[0] for _ in range(5)] == [200] * 3 + [503] * 2
    assert "it is full: TICKETD_SPOOL_MAX_MB is reached" in handler.log.read_text()
    assert result(handler, body(1, "small")) == "spooled"  # there is room for it
    assert (spool.path / "spool.db").stat().st_size <= 1 << 20
    handler.stop()
    spool.drain()
    assert len(spool.journal()) == 4


def test_a_full_spool_takes_events_again_when_it_was_drained(spool, database):
    spool.settings["TICKETD_SPOOL_MAX_MB"] = 1
    handler = spool.handler()
    database.query("ALTER ROLE handler CONNECTION LIMIT 0")
    try:
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'handler'")
        for size in 100000, 1000:
            wait_until(lambda: ask(handler.socket, body(1, "x" * size))[0] == 503, 20, "a full spool")
        wait_until(lambda: ask(handler.socket, b"", method="GET", uri="/x/readyz")[0] == 503)
        assert spool.status()["takes more"].startswith("it is full"), (spool.status(), handler.log.read_text())
        kept = spool.waiting()
    finally:
        database.query("ALTER ROLE handler CONNECTION LIMIT -1")
    spool.wait_until_empty()
    assert kept >= 8 and len(spool.journal()) >= kept
    assert spool.status()["takes more"] == "yes"


@ROOT_ONLY
def test_a_directory_of_another_user(spool):
    handler = spool.handler(reachable=False)
    assert result(handler, body(1, "1")) == "spooled"
    handler.stop()
    os.chown(spool.path, 65534, 65534)
    handler = spool.handler(reachable=False, name="two")
    assert "belongs to another user" in spool.command("spool", "drain").stderr
    assert_503_then_mended(handler, lambda: os.chown(spool.path, 0, 0))
    assert handler.log.read_text().count("the spool cannot be drained") <= 1  # it is said once, not with each look


@NOT_ROOT
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_directory_that_cannot_be_written(spool, mode):
    handler = spool.handler(reachable=False)
    spool.path.chmod(mode)
    assert_503_then_mended(handler, lambda: spool.path.chmod(0o700))


def test_a_directory_that_vanishes(spool):
    handler = spool.handler(reachable=False)
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o700
    spool.path.rename(spool.folder / "gone")
    assert result(handler, body(1, "1")) == "spooled"  # made anew
    spool.path.rename(spool.folder / "gone too")
    spool.path.write_text("a file")
    assert_503_then_mended(handler, spool.path.unlink)


def test_a_misspelt_directory_stops_the_start(spool):
    done = spool.command(TICKETD_SPOOL_DIR="/nonexistent/spool", TICKETD_AUTH="none", TICKETD_LISTEN="unix:/nowhere/x")
    assert done.returncode == 1 and "TICKETD_SPOOL_DIR" in done.stderr


def test_without_a_database_but_with_a_spool_of_another_kind(spool, database):
    """A spool that cannot be used is no reason not to serve while the database is there."""
    (spool.path / "spool.db").mkdir(0o700, parents=True)
    spool.path.chmod(0o700)
    handler = spool.handler()
    assert result(handler, body(1, "1")) == "inserted"
    assert "the spool cannot take events" in handler.log.read_text()


def test_a_stopped_process_holds_the_lock(spool):
    handler = spool.handler(reachable=False)
    assert result(handler, body(1, "1")) == "spooled"
    with open(spool.path / "spool.lock", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        start = time.monotonic()
        assert ask(handler.socket, body(1, "2"))[0] == 503
        assert time.monotonic() - start < 5
    assert result(handler, body(1, "3")) == "spooled"


def test_other_files_are_left_alone(spool):
    spool.path.mkdir(0o700)
    for name in "README", "x.segment", "1.segment.old", "-1.segment", "spool.db.old":
        (spool.path / name).write_text("mine")
    handler = spool.handler(reachable=False)
    assert result(handler, body(1, "1")) == "spooled"
    handler.stop()
    spool.drain()
    assert len([p for p in spool.path.iterdir() if p.read_bytes() == b"mine"]) == 5


def test_its_files_are_for_one_user(spool):
    """Whatever the umask: bodies are in them."""
    mask = os.umask(0)
    try:
        handler = spool.handler(reachable=False)
    finally:
        os.umask(mask)
    assert result(handler, body(1, "1")) == "spooled"
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in [spool.path, *spool.path.iterdir()]}
    assert modes.pop("spool") == 0o700 and "spool.db-wal" in modes
    assert set(modes.values()) == {0o600}, modes


def test_a_damaged_file_is_kept_aside_and_brought_back(spool):
    handler = spool.handler(reachable=False)
    assert [result(handler, body(n, str(n))) for n in range(50)] == ["spooled"] * 50
    handler.kill()
    with contextlib.closing(sqlite3.connect(spool.path / "spool.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'waiting'").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    with open(spool.path / "spool.db", "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    handler = spool.handler(reachable=False, name="two")
    assert result(handler, body(1, "new")) == "spooled"
    bad, = spool.path.glob("*.bad")
    assert f"ticketd spool add '{bad}'" in handler.log.read_text()
    assert spool.status()["kept aside"].startswith("1 ")
    handler.stop()
    added = spool.command("spool", "add", str(bad))
    assert added.returncode == 0 and added.stdout == "50 events are in the spool now\n", added.stderr
    spool.drain()
    assert sorted(spool.journal()) == sorted([*map(str, range(50)), "new"])
    # It waited: what was received later stays.
    assert spool.database.value("SELECT title FROM vcc.tickets WHERE ticket_id = 1") == "new"


def old_record(marker, content, reason=b""):
    """As ticketd 0.1.0 wrote it: see handler/spool/old_format.c."""
    now = time.time_ns() // 1000
    identifier = (now // 1000 << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1).to_bytes(16, "big")
    head = struct.pack("<8s16sqqIII", marker, identifier, now, 1 if reason else 0, len(reason), len(content),
                       zlib.crc32(reason + content))
    return head + struct.pack("<I", zlib.crc32(head)) + reason + content


def test_a_spool_of_ticketd_0_1_0_is_taken_over_at_the_start(spool, database):
    """Two segments, half a record at the end of the second; a body that was refused is among them."""
    spool.path.mkdir(0o700)
    head, records = b"ticketd spool 1\n" + b"12345678", []
    for i in range(20):
        records.append(old_record(b"12345678", body(i % 3, f"old {i}")))
        time.sleep(0.001)
    refused = old_record(b"12345678", b"{", b"is not JSON")
    (spool.path / "9.segment").write_bytes(head + b"".join(records[:10]) + refused)
    (spool.path / "10.segment").write_bytes(head + b"".join(records[10:]) + refused[:-1])
    with spool.drain_lock():
        handler = spool.handler()
        assert result(handler, body(1, "new")) == "spooled"  # of a ticket that waits
        assert result(handler, body(7, "other")) == "inserted"
        assert spool.waiting() == 22
    spool.wait_until_empty()
    assert not list(spool.path.glob("*.segment")) and not list(spool.path.glob("*.bad"))
    for ticket in range(3):
        titles = [row[0] for row in database.query("SELECT payload -> 'ticket' ->> 'title' FROM vcc.ticket_events "
                                                   "WHERE ticket_id = %s ORDER BY applied_no", ticket)]
        assert titles == [f"old {i}" for i in range(ticket, 20, 3)] + ["new"] * (ticket == 1)
    assert database.query("SELECT project_id, attempts, reason FROM vcc.rejected_events") == [(1, 1, "is not JSON")]
    assert "the spool of an older ticketd is taken over" in handler.log.read_text()


def test_large_events_drain_in_order(spool):
    """More than one batch holds of bytes."""
    handler = spool.handler(reachable=False)
    for i in range(30):
        assert result(handler, body(1, f"{i} " + "x" * 700000)) == "spooled"
    handler.stop()
    status = spool.status()
    assert status["events"] == "30" and status["oldest"].startswith("20"), status
    spool.drain()
    assert [t.split()[0] for t in spool.journal()] == [str(i) for i in range(30)]
    with spool.handler(name="two").log.open():  # who serves gives the disk its room back
        wait_until(lambda: sum(f.stat().st_size for f in spool.path.glob("spool.db*")) < 1 << 20, what="room on the disk")


def test_a_spool_belongs_to_one_database(cluster, spool, database):
    one = spool.handler()
    assert result(one, body(1, "a")) == "inserted"
    other = Database(cluster, f"{database.name}_2")
    with contextlib.closing(cluster.connect()) as admin:
        admin.cursor().execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'handler'")
        assert result(one, body(2, "b")) == "spooled"
        two = spool.handler(name="two", TICKETD_DATABASE=other.handler)
        assert result(two, body(2, "c")) == "inserted"  # that one waits here is another database's affair
        wait_until(lambda: "it belongs to another database" in two.log.read_text(), what="a word about it")
        assert spool.status()["database"].startswith(f"{database.name}, made 2")
        by_hand = spool.command("spool", "drain", TICKETD_DATABASE=other.handler)
        assert by_hand.returncode == 2 and spool.waiting() == 1, by_hand
        said = spool.command("check", TICKETD_DATABASE=other.handler, TICKETD_AUTH="none").stdout
        assert f"meant for the database {database.name}, made 2" in said
        one.stop()
        assert spool.command("spool", "adopt", TICKETD_DATABASE="host=/nonexistent").returncode == 2
        assert other.name in spool.command("spool", "adopt", TICKETD_DATABASE=other.handler).stdout
        spool.wait_until_empty()
        assert other.value("SELECT count(*) FROM vcc.ticket_events") == 2


# By hand

def test_status_and_drain(spool):
    empty = spool.status()
    assert (empty["directory"], empty["events"], empty["tickets"]) == (str(spool.path), "0", "0") and "oldest" not in empty
    assert not spool.path.exists()  # looking changes nothing
    assert empty["drained by"] == "nobody now" and empty["takes more"] == "yes: ticketd makes the directory, which is missing"
    nothing = spool.command("spool", "drain", TICKETD_DATABASE="host=/nonexistent")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "ticketd: the spool is empty: there is nothing to drain\n")
    handler = spool.handler(reachable=False)
    for content in body(1, "a"), body(1, "b"), body(2, "c"):
        assert result(handler, content) == "spooled"
    assert ask(handler.socket, b"{")[0] == 400
    lines = [line.split("\t") for line in spool.command("spool", "list").stdout.splitlines()[1:]]
    assert [(*line[:3], line[5], line[7]) for line in lines] == [
        ("0", "0", "1", "now", "a refused body: the database has not taken it yet"),
        ("1", "1", "2", "now", "the database has not taken it yet"), ("1", "2", "1", "now", "the database has not taken it yet")]
    assert spool.command("spool", "drop", lines[0][6], TICKETD_DB_TIMEOUT_MS=5000).returncode == 0
    handler.stop()
    status = spool.status()
    assert (status["events"], status["tickets"], status["takes more"]) == ("3", "2", "yes")
    assert status["oldest"].endswith(" s ago") and status["held"].startswith("0 (")
    assert status["bytes"].endswith(" of 1024 MiB") and status["kept aside"] == "0 (*.bad)"
    assert status["drained by"] == "nobody now"
    away = spool.command("spool", "drain", TICKETD_DATABASE="host=/nonexistent dbname=x")
    assert away.returncode == 2 and "3 events of 2 tickets stay: see ticketd check\n" in away.stderr and spool.waiting() == 3
    with spool.drain_lock():
        busy = spool.command("spool", "drain")
        assert busy.returncode == 2 and "another process" in busy.stderr
        assert spool.status()["drained by"] == "another process, while the database takes events"
    done = spool.drain()
    assert "3 events" in done.stdout and "the spool is empty" in done.stderr
    missing = spool.command("spool", "add", spool.path / "none.bad")
    assert (missing.returncode, missing.stdout) == (2, "") and "none.bad: No such file" in missing.stderr
    assert spool.command("spool", "empty").returncode == 2
    assert spool.command("spool", "drain", TICKETD_SPOOL_DIR="").returncode == 2
    assert spool.command("spool", "drop").returncode == 2 and spool.command("spool", "drain", "x").returncode == 2
    shutil.rmtree(spool.path)
    spool.path.write_text("a file")
    for what in "status", "drain", "list":
        done = spool.command("spool", what)
        assert done.returncode == 2 and "Not a directory" in done.stderr, (what, done)


def test_a_drain_by_hand_waits_for_no_back_off(spool, database):
    """What was held a moment ago is tried at once when somebody asks for it."""
    away = spool.handler(reachable=False)
    assert result(away, body(1, "1")) == "spooled"
    away.stop()
    database.query("BEGIN; INSERT INTO vcc.tickets (project_id, ticket_id, first_event_at, last_event_at) "
                   "VALUES (1, 1, now(), now())")
    done = spool.command("spool", "drain")
    assert done.returncode == 2 and "1 event of 1 ticket stays" in done.stderr
    assert spool.status()["held"].startswith("1 (")
    database.query("ROLLBACK")
    spool.drain()
    assert spool.journal() == ["1"]


def test_a_long_outage_says_no_secret(spool):
    handler = spool.handler(reachable=False, TICKETD_TOKEN="a-token-of-some-length")
    uri = "/vcc/tickets?secret-key=a-token-of-some-length"
    for content in body(1, "a title of a customer"), b"a body that is not JSON":
        ask(handler.socket, content, uri=uri)
    spool.command("spool", "drain", TICKETD_DATABASE="host=/nonexistent dbname=x password=hidden")
    shown = handler.log.read_text() + "".join(
        done.stdout + done.stderr for done in [spool.command("spool", what) for what in ("status", "list")])
    for secret in "a-token-of-some-length", "customer", "a body that", "hidden":
        assert secret not in shown


def test_what_was_set_aside_stays_so_when_a_drain_begins_again(start, folder, database):
    """The first event lacks what the second brings. Applied after that, it would undo it."""
    database.query("ALTER TABLE vcc.tickets ALTER status SET NOT NULL")
    settings = {"TICKETD_SPOOL_DIR": str(folder / "spool"), "TICKETD_DB_TIMEOUT_MS": "1000", "TICKETD_BATCH": "2"}
    handler = start(**settings, TICKETD_DATABASE="host=/nonexistent")
    for ticket, attributes in ((1, {"title": "first"}), (1, {"title": "second", "status": "park"}), (2, {"status": "park"}),
                               (3, {"status": "closed"})):  # fmt: skip
        assert ask(handler.socket, event("update", ticket, **attributes))[1]["result"] == "spooled"
    assert handler.stop() == 0

    database.query("""INSERT INTO vcc.tickets (project_id, ticket_id, status, first_event_at, last_event_at)
                      VALUES (130, 3, 'park', now(), now())""")
    holder = psycopg2.connect(database.owner)
    holder.cursor().execute("SELECT FROM vcc.tickets WHERE ticket_id = 3 FOR UPDATE")
    handler = start(**settings)
    wait_until(lambda: database.value("SELECT count(*) FROM vcc.rejected_events"), what="the first event")
    wait_until(lambda: database.query("SELECT title FROM vcc.tickets WHERE ticket_id = 1"), what="the second event")
    assert handler.stop() == 0 and waiting(folder / "spool") == 1
    holder.rollback()
    holder.close()

    handler = start(**settings)
    wait_until(lambda: waiting(folder / "spool") == 0, what="the drain")
    assert handler.stop() == 0
    assert database.query("SELECT title FROM vcc.tickets WHERE ticket_id = 1") == [("second",)]
    assert database.query("SELECT result FROM vcc.ticket_events WHERE ticket_id = 1") == [("inserted",)]
    assert database.query("SELECT attempts, reason FROM vcc.rejected_events") == [
        (1, "/ticket/status PostgreSQL refuses it with SQLSTATE 23502, column status")]
