"""`ticketd migrate` in a database that has tickets: from every older version, while handlers run, and after a dump and
restore. Nothing that was there is lost, and events go on."""

import concurrent.futures
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone

import fastcgi
import pytest
from cluster import Cluster
from conftest import ROOT, TICKETD, Database, Handler, build, copy_of_the_tree, environment, event, wait_until
from test_many_handlers import start_in
from test_optional import stopping, submit
from test_spool import ask

def numbered(folder):
    return {int(path.name.split("_")[0]): path for path in sorted(folder.glob("[0-9]*.sql"))}


OLD = ROOT / "tests/e2e/0.1.0"  # sql/ as that version had it
OLD_FILES = numbered(OLD)
ALWAYS, ALWAYS_LAST = 0, 999  # what it ran at every migrate
VERSIONS = [version for version in numbered(ROOT / "sql/schema") if version != ALWAYS]
NEWEST = VERSIONS[-1]
NEXT = 998  # a migration that this tree has not got

PARTITIONS = """SELECT inhrelid::regclass::text, pg_get_expr(c.relpartbound, c.oid)
    FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'vcc.ticket_events'::regclass ORDER BY 1"""
TABLES = """SELECT c.oid::regclass::text FROM pg_class c
    WHERE relnamespace = 'vcc'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1"""
# Makes a statement of the columns that a table has now: one that is added later makes no other row of it.
ROWS = """SELECT format('SELECT to_jsonb(t) FROM (SELECT %%s FROM %%s) t', string_agg(quote_ident(attname), ', '),
    attrelid::regclass) FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped GROUP BY attrelid"""
APPLY = """SELECT vcc.apply_events(event_id => %s::uuid[], received_at => %s::timestamptz[], action => %s,
    payload => %s, project_id => %s::bigint[], ticket_id => %s::bigint[], attributes => %s, extra_names => %s::text[],
    repeats => false)"""


def migrate(database, program=TICKETD):
    """Returns what it says."""
    done = subprocess.run([program, "migrate"], env=environment(TICKETD_DATABASE=database.owner), capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


class Empty(Database):
    """Without schema vcc as yet."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        cluster.createdb(name)
        self.owner, self.handler = cluster.conninfo(name), cluster.conninfo(name, "handler")
        self.connection = cluster.connect(name)
        self.query("DO $$ BEGIN CREATE ROLE handler LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")

    def let_the_handler_in(self):
        self.query("GRANT vcc_writer TO handler")


@pytest.fixture
def empty(cluster):
    database = Empty(cluster, f"test_{time.time_ns()}")
    yield database
    database.connection.close()
    cluster.execute(f'DROP DATABASE "{database.name}" WITH (FORCE)')


# -- from every older version ---------------------------------------------------------------------------------------


def bring_to(database, version):
    """What the program of that version would have done, but for the roles, which are made again at every migrate."""
    with contextlib.closing(database.cluster.connect(database.name, autocommit=False)) as connection, connection:
        cursor = connection.cursor()
        cursor.execute("SET LOCAL search_path = pg_catalog")
        for number, path in OLD_FILES.items():
            if number <= version:
                cursor.execute(path.read_text())
            if ALWAYS < number <= version:
                cursor.execute("INSERT INTO vcc.migrations (version, name) VALUES (%s, %s)", (number, path.stem))


def fill(database):
    """Tickets, deletions and all else that the functions of the database's version know to make."""
    events, received = [], datetime.now(timezone.utc) - timedelta(days=70)
    for n in range(60):
        events.append(event("add", n, title=f"ticket {n}", priority=n, firstOpenTime=str(received)))
        events.append(event("update", n, status="closed"))
        events += [event("delete", n)] * (n % 3 == 0) + [event("update", n, title="late")] * (n % 4 == 0)
    for n, each in enumerate(events):  # of two months
        at = received + timedelta(hours=8 * n)
        values = {"title": "title", "status": "status", "firstOpenTime": "first_open_time"}
        attributes = {column: each["ticket"][name] for name, column in values.items() if name in each["ticket"]}
        identifier = uuid.UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | n)
        extra = json.dumps({"priority": None}) if "priority" in each["ticket"] else None
        database.query(APPLY, [str(identifier)], [at], [each["action"]], [json.dumps(each)], [130],
                       [each["ticket"]["ticketId"]], [json.dumps(attributes)], [extra])
    for function, call in {
        "reject_event": "(gen_random_uuid(), now(), 130, '{', 'not JSON')",
        "begin_import": "('digest', now())",
    }.items():
        exists = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'vcc'::regnamespace AND proname = %s"
        if database.value(exists, function):
            database.query(f"SELECT vcc.{function}{call}")


def selects(database):
    """For each table the statement that reads its rows, see ROWS."""
    return {table: database.value(ROWS, table) for table, in database.query(TABLES)}


def rows(database, statements):
    return {table: sorted(json.dumps(row, sort_keys=True) for row, in database.query(statement))
            for table, statement in statements.items()}  # fmt: skip


def definitions():
    """The functions and views that this tree has."""
    return sorted(set(re.findall(r"^CREATE OR REPLACE (?:FUNCTION|VIEW) vcc\.(\w+)", "".join(
        path.read_text() for folder in ("functions", "views") for path in (ROOT / "sql" / folder).glob("*.sql")), re.MULTILINE)))


# With citus.sql functions are there that no migration made.
@pytest.mark.parametrize("version, distributed", [*((v, False) for v in OLD_FILES if ALWAYS < v < ALWAYS_LAST), (5, True)])
def test_from_an_older_version(empty, folder, version, distributed):
    bring_to(empty, version)
    if distributed:
        functions, *_ = (OLD / "citus.sql").read_text().split("\nDO $$")
        empty.cluster.psql(stdin=functions + "\nCOMMIT;", dbname=empty.name)
    fill(empty)
    statements = selects(empty)
    before = rows(empty, statements)
    assert all(before.values()) and len(before["vcc.ticket_events"]) > 100 and len(before["vcc.tickets"]) == 40

    said = migrate(empty)
    assert re.findall(r"migration applied.* name=(\d+)", said) == [f"{v:03}" for v in VERSIONS if v > version]
    after = rows(empty, statements)
    added = after["vcc.migrations"][len(before["vcc.migrations"]):]
    assert [json.loads(row)["version"] for row in added] == [v for v in VERSIONS if v > version]
    assert after == {**before, "vcc.migrations": before["vcc.migrations"] + added}
    assert empty.value("SELECT vcc.schema_version()") == NEWEST
    assert [name for name, in empty.query("""
        SELECT proname::text FROM pg_proc WHERE pronamespace = 'vcc'::regnamespace UNION ALL
        SELECT relname FROM pg_class WHERE relnamespace = 'vcc'::regnamespace AND relkind = 'v' ORDER BY 1""")] == definitions()

    empty.let_the_handler_in()
    with stopping(Handler(folder, empty)) as handler:
        results = submit(handler, event("update", 1, title="after", priority=None), event("update", 0, title="after"),
                         event("add", 100), event("delete", 2))  # fmt: skip
    assert results == ["updated", "ignored", "inserted", "deleted"]
    ticket = empty.query("SELECT title, status, extra FROM vcc.tickets WHERE ticket_id = 1")
    assert ticket == [("after", "closed", {})]
    assert len(rows(empty, statements)["vcc.ticket_events"]) == len(before["vcc.ticket_events"]) + 4


# -- while handlers run ---------------------------------------------------------------------------------------------

ADDED = """
ALTER TABLE vcc.tickets ADD COLUMN channel text, ADD COLUMN weight integer NOT NULL DEFAULT 1;
ALTER TABLE vcc.ticket_events ADD COLUMN host text;
COMMENT ON COLUMN vcc.tickets.channel IS 'By which the customer came';
COMMENT ON COLUMN vcc.tickets.weight IS 'How much it counts';
COMMENT ON COLUMN vcc.ticket_events.host IS 'Host that received it';
"""


@pytest.fixture(scope="session")
def next_program(tmp_path_factory):
    """A program with one more migration, built of a copy of the tree with what was compiled before."""
    tree = tmp_path_factory.mktemp("next")
    copy_of_the_tree(tree)
    (tree / f"sql/schema/{NEXT}_next.sql").write_text(ADDED)
    build(tree)
    yield tree / "build/ticketd"
    shutil.rmtree(tree)


@pytest.mark.parametrize("settings", [{}, {"TICKETD_WRITERS": 2, "TICKETD_BATCH": 8}], ids=["1 writer", "2 writers"])
def test_a_migration_while_a_handler_is_busy(start, database, next_program, settings):
    """No event is lost, none is answered other than 200; there is no spool that would help."""
    handler = start(**settings)
    done, sent, faults = threading.Event(), [], []

    def client(n):
        try:
            with fastcgi.Connection(handler.socket) as c:
                while not done.is_set():
                    ticket = n * 10 + len(sent) % 10  # its events are sent by this thread alone
                    c.send(fastcgi.request(event("update", ticket, title=str(len(sent)), priority=n)))
                    answer = c.answer()
                    assert answer.startswith("Status: 200"), answer
                    sent.append(json.loads(answer.partition("\r\n\r\n")[2])["event"])
        except BaseException as error:
            faults.append(error)

    def sent_so_far(count):
        wait_until(lambda: len(sent) >= count or faults, what=f"{count} answers")
        assert not faults, faults

    threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
    try:
        for thread in threads:
            thread.start()
        sent_so_far(300)
        said = migrate(database, next_program)
        assert f"name={NEXT}_next" in said
        sent_so_far(len(sent) + 300)
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert not faults, faults
    assert sorted(sent) == sorted(i for i, in database.query("SELECT event_id::text FROM vcc.ticket_events"))
    assert database.value("SELECT vcc.schema_version()") == NEXT
    wrong = database.query("""SELECT ticket_id FROM vcc.tickets t WHERE weight <> 1 OR channel IS NOT NULL OR title <> (
        SELECT payload -> 'ticket' ->> 'title' FROM vcc.ticket_events e WHERE e.ticket_id = t.ticket_id
         ORDER BY applied_no DESC LIMIT 1)""")
    assert wrong == []
    # A handler of this version starts with the newer schema too: one host is upgraded after the other.
    handler.stop()
    handler.start()
    assert submit(handler, event("add", 1000)) == ["inserted"]


def test_host_after_host(start, folder, database, next_program):
    """A rolling upgrade: the schema first, then one of two hosts after the other, under load on the same tickets. A client
    that finds a host gone asks the other. What was answered 200 is there once, and both versions work side by side."""
    hosts = [start_in(start, folder, name) for name in ("one", "two")]
    done, sent, faults = threading.Event(), {}, []

    def client(n):
        try:
            for i in itertools.count():
                if done.is_set():
                    return
                title = f"{n}/{i}"
                body = json.dumps(event("update", n, title=title)).encode()
                for host in random.sample(hosts, 2) * 500:
                    with contextlib.suppress(OSError, ConnectionError, IndexError, ValueError):
                        status, answer, _ = ask(host.socket, body)
                        assert status == 200, answer
                        sent[answer["event"]] = (n, title)
                        break
                    time.sleep(0.01)
                else:
                    raise AssertionError("no host takes it")
        except BaseException as error:
            faults.append(error)

    def some_more():
        count = len(sent) + 200
        wait_until(lambda: len(sent) >= count or faults, 20, f"{count} answers")
        assert not faults, faults

    threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
    try:
        for thread in threads:
            thread.start()
        some_more()
        assert f"name={NEXT}_next" in migrate(database, next_program)
        some_more()
        for host in hosts:
            assert host.stop() == 0, host.log.read_text()
            some_more()  # by the other alone
            host.program = str(next_program)
            host.start()
            some_more()
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert not faults, faults
    journal = dict(database.query("SELECT event_id::text, payload #>> '{ticket,title}' FROM vcc.ticket_events"))
    assert not sent.keys() - journal.keys()
    for n in range(6):
        last = [title for ticket, title in sent.values() if ticket == n][-1]
        assert database.value("SELECT title FROM vcc.tickets WHERE ticket_id = %s", n) == last


# -- dump and restore -----------------------------------------------------------------------------------------------


def program(database, name):
    return os.path.join(database.cluster.bindir, name)


def dump(database, *options):
    return subprocess.run([program(database, "pg_dump"), "-d", database.owner, *options], check=True,
                          stdout=subprocess.PIPE).stdout  # fmt: skip


def restore(database, content):
    plain = not content.startswith(b"PGDMP")
    command = ["psql", "-Xq", "-v", "ON_ERROR_STOP=1"] if plain else ["pg_restore", "--exit-on-error"]
    subprocess.run([program(database, command[0]), *command[1:], "-d", database.owner], input=content, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def fill_by_a_handler(folder, database):
    with stopping(Handler(folder, database)) as handler:
        submit(handler, *[event("add", n, title=f"{n} 'é\\\n", priority={"a": [None, n]},
                                softDeadline="2024-02-15T14:46:46.123456Z") for n in range(30)])  # fmt: skip
        submit(handler, *[event("delete", n) for n in range(0, 30, 3)])
        with fastcgi.Connection(handler.socket) as c:
            c.send(fastcgi.request(b'{"\xff'))
            assert c.answer().startswith("Status: 400")
    database.query("SELECT vcc.begin_import('digest', now()), vcc.drop_events_before('2000-01-01')")
    database.query("INSERT INTO vcc.calendar_hours VALUES (1, 1, '09:00', '24:00'); INSERT INTO vcc.project_calendars VALUES (1, 1);"
                   "INSERT INTO vcc.calendar_exceptions VALUES (1, '2024-12-25'); INSERT INTO vcc.calendars VALUES (1, 'a', 'UTC');"
                   "SELECT vcc.refresh_reports()")


def goes_on(folder, database, rows_before):
    """What holds of a database that was restored: new events come behind those that were there, in their month."""
    newest = database.value("SELECT max(applied_no) FROM vcc.ticket_events")
    with stopping(Handler(folder, database)) as handler:
        results = submit(handler, event("update", 1, cc="after"), event("update", 0, cc="after"), event("add", 100))
    assert results == ["updated", "ignored", "inserted"]
    journal = database.query("""SELECT tableoid::regclass::text, to_char(received_at AT TIME ZONE 'UTC', 'YYYY_MM')
        FROM vcc.ticket_events WHERE applied_no > %s""", newest)
    assert len(journal) == 3 and database.value("SELECT count(*) FROM vcc.ticket_events") == rows_before + 3
    assert [partition for partition, _ in journal] == [f"vcc.ticket_events_{month}" for _, month in journal]


@pytest.mark.parametrize("options", [["--format=plain"], ["--format=custom"]], ids=["psql", "pg_restore"])
def test_dump_and_restore(database, empty, folder, options):
    fill_by_a_handler(folder, database)
    restore(empty, dump(database, *options))
    statements = selects(database)
    before = rows(database, statements)
    assert all(before.values())
    assert rows(empty, selects(empty)) == before
    assert empty.query(PARTITIONS) == database.query(PARTITIONS)
    said = migrate(empty)
    assert "up to date" in said and "applied" not in said
    assert rows(empty, statements) == before and empty.query(PARTITIONS) == database.query(PARTITIONS)
    goes_on(folder, empty, len(before["vcc.ticket_events"]))


def test_restore_where_the_roles_are_missing(database, folder):
    """A dump has no roles. Without its grants (--no-privileges) it is restored, and migrate makes both."""
    fill_by_a_handler(folder, database)
    with Cluster() as other:
        copy = Empty(other, "copy")
        with contextlib.closing(copy.connection):
            restore(copy, dump(database, "--no-privileges"))
            before = rows(database, selects(database))
            assert rows(copy, selects(copy)) == before
            assert "up to date" in migrate(copy)
            copy.let_the_handler_in()
            goes_on(folder, copy, len(before["vcc.ticket_events"]))
            copy.query("SET ROLE vcc_reader")
            assert copy.value("SELECT count(*) FROM vcc.tickets") == 21


# -- the journal's partitions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 4])
def test_migrate_again_makes_no_other_partition(empty, at_once):
    for _ in range(2):
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: migrate(empty), range(at_once)))
    now = empty.value("SELECT now() AT TIME ZONE 'UTC'")
    months = [f"{now.year + (now.month - 1 + n) // 12}_{(now.month - 1 + n) % 12 + 1:02}" for n in range(13)]
    found = dict(empty.query(PARTITIONS))
    assert found.pop("vcc.ticket_events_default") == "DEFAULT"
    assert list(found) == [f"vcc.ticket_events_{month}" for month in months]
    bounds = [re.findall(r"'([0-9a-f-]+)'", bound) for bound in found.values()]
    assert [until for _, until in bounds[:-1]] == [since for since, _ in bounds[1:]]  # without a gap
