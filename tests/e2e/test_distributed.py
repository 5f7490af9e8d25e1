"""sql/citus.sql: the schema on many nodes.

Citus itself is tried where the server has it. Everywhere: its rules are kept (citus_rules.sql), every join goes by project,
and the function that applies one event does what the one for many does, to the letter."""

import concurrent.futures
import json
import os
import random
import re
import subprocess
import sys

import model
import pytest
from cluster import Cluster
from conftest import ROOT, Database, Handler, event, temporary_folder
from test_many_handlers import start_in
from test_spool import ask

SEED = int(os.environ.get("SEED", "8"))
RULES = ROOT / "tests/e2e/citus_rules.sql"
CITUS = ROOT / "sql/citus.sql"


def distribute(database, *files):
    for file in files or (RULES, CITUS):
        database.cluster.psql("-f", str(file), dbname=database.name)


@pytest.fixture
def distributed(database):
    distribute(database)
    return database


def journal(database):
    return database.query("""
        SELECT project_id, ticket_id, action, result, payload, changes, was_open, is_open FROM vcc.ticket_events
         ORDER BY event_id""")  # fmt: skip


def tickets(database):
    return database.query("SELECT t.*, d.deleted_at FROM (SELECT * FROM vcc.tickets) t "
                          "FULL JOIN vcc.deleted_tickets d USING (project_id, ticket_id) ORDER BY 1, 2")  # fmt: skip


def test_the_same_events_come_to_the_same(cluster, start, folder, distributed):
    """A distributed database and a plain one, the same events in the same order: answers, tickets, deletions and the
    journal with all that changed are the same, and are those of the model."""
    plain = Database(cluster, distributed.name + "_plain")
    try:
        handler = start_in(start, folder, "distributed")
        (folder / "plain").mkdir()
        other = Handler(folder / "plain", plain)
        try:
            rng = random.Random(SEED)
            bodies = model.random_events(rng, 1500, [(1 + i % 3, i) for i in range(9)])
            expected = model.Model()
            for body in bodies:
                answers = [ask(each.socket, body)[:2] for each in (handler, other)]
                result = expected.apply(model.decode(body))
                assert [(status, answer["result"]) for status, answer in answers] == [(200, result)] * 2, body
            assert not model.compare(distributed.connection, expected)
            assert journal(distributed) == journal(plain)
            assert [row[:21] for row in tickets(distributed)] == [row[:21] for row in tickets(plain)]
            assert distributed.value("SELECT count(DISTINCT applied_no) FROM vcc.ticket_events") == len(bodies)
        finally:
            assert other.stop() == 0
    finally:
        plain.connection.close()
        cluster.execute(f'DROP DATABASE "{plain.name}" WITH (FORCE)')


def test_load_with_what_is_refused(start, distributed):
    """Many at once, a twentieth refused by a constraint, one of three a repeat of a ticket in the same batch."""
    distributed.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'poison')")
    handler = start()

    def client(n):
        rng, seen = random.Random(n), []
        for i in range(60):
            title = "poison" if rng.random() < 0.05 else f"{n}/{i}"
            status, answer, _ = ask(handler.socket, event("update", rng.randrange(20), title=title))
            assert status == (422 if title == "poison" else 200), answer
            seen += [answer["event"]] if status == 200 else []
        return seen

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answered = {identifier for seen in pool.map(client, range(24)) for identifier in seen}
    stored = {row[0] for row in distributed.query("SELECT event_id::text FROM vcc.ticket_events")}
    assert stored == answered
    assert distributed.value("SELECT sum(attempts) FROM vcc.rejected_events") == 24 * 60 - len(answered)
    # Titles are those of the events that took effect last.
    assert distributed.query("""
        SELECT t.ticket_id FROM vcc.tickets t WHERE t.title <> (
            SELECT e.payload #>> '{ticket,title}' FROM vcc.ticket_events e
             WHERE e.project_id = t.project_id AND e.ticket_id = t.ticket_id ORDER BY e.applied_no DESC LIMIT 1)""") == []


def test_a_call_that_was_committed_alone_is_not_repeated(start, distributed):
    """A node commits a call before the batch ends. The event comes again when the rest failed: it changes nothing."""
    call = """SELECT vcc.apply_event('018d0000-0000-7000-8000-000000000001', '2024-01-01', 'add', %s, 1, 1, '{"title":"a"}', NULL)"""
    body = json.dumps(event("add", 1, title="a"))
    assert [distributed.value(call, body) for _ in range(2)] == ["inserted", "inserted"]
    assert distributed.value("SELECT count(*) FROM vcc.ticket_events") == 1


def test_twice_does_no_harm(start, distributed):
    distribute(distributed, CITUS)
    assert distributed.query("SELECT id::regproc::text, argument FROM pg_catalog.distributed_functions ORDER BY 1") == [
        (f"vcc.{name}", "project_id") for name in ("apply_event", "delete_ticket", "reject_event", "upsert_ticket")]
    assert distributed.value("SELECT count(*) FROM pg_dist_partition WHERE partkey = 'project_id'") == 5
    distributed.migrate()
    handler = start()
    assert ask(handler.socket, event("add", 1))[0] == 200


def test_all_that_is_known_of_the_functions(folder):
    """The tests of the functions once more, on the distributed schema. Left out: meetings half-way through a batch, which
    is an event after the other here, and one that locks a table that is not read."""
    for file in [*(ROOT / "sql").glob("[0-9]*.sql")]:
        (folder / file.name).write_text(file.read_text())
    (folder / "997_rules.sql").write_text(RULES.read_text())
    text = CITUS.read_text()
    for line in ("\\set ON_ERROR_STOP on\n", "BEGIN;\nSET", "\nCOMMIT;\n"):
        assert text.count(line) == 1
        text = text.replace(line, "SET" if line.endswith("SET") else "\n")
    (folder / "998_citus.sql").write_text(text)
    left_out = "one_of_many or same_event_twice_while_the_ticket_is_deleted"
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"not ({left_out})",
                           str(ROOT / "tests/e2e/test_functions.py")], env={**os.environ, "SQL_DIR": str(folder)},
                          capture_output=True, text=True)  # fmt: skip
    print(done.stdout[-3000:])
    assert done.returncode == 0 and int(re.search(r"(\d+) passed", done.stdout)[1]) > 90


def test_pgtap(cluster, distributed):
    """But for three files that say how a database is that is not distributed: the source of vcc.apply_events, what it
    leaves out, and who may execute what."""
    if not cluster.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pgtap'"):
        pytest.skip("the server does not offer the extension pgtap")
    files = sorted(set((ROOT / "tests/sql").glob("*.sql")) - {ROOT / f"tests/sql/{name}.sql" for name in ("journal", "roles", "tolerant")})
    done = subprocess.run(["pg_prove", "--ext", ".sql", *map(str, files)], cwd=ROOT, capture_output=True, text=True,
                          env=cluster.environment(distributed.name))  # fmt: skip
    assert done.returncode == 0 and "Result: PASS" in done.stdout, done.stdout + done.stderr


# -- joins ----------------------------------------------------------------------------------------------------------

RELATION = re.compile(r"\bvcc\.(tickets|ticket_events|deleted_tickets|ticket_adds|rejected_events|open_tickets)\b(?! *\() +([a-z]+)\b")
NO_ALIAS = {"set", "where", "group", "order", "for", "on", "limit", "values", "union", "window", "using", "add"}


def joins_without_project(text):
    """The aliases of distributed tables that are joined, or looked up for another's row, without their project. What a
    statement begins with needs none: all else leads to it."""
    found = []
    for match in RELATION.finditer(text):
        alias = match[2]
        if alias.lower() in NO_ALIAS:
            continue
        depth, end = 0, match.end()
        # To the end of its part of the statement.
        while end < len(text) and depth >= 0 and text[end] != ";" and not text.startswith("UNION", end):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        joined = re.search(r"\b(JOIN|USING|,)\s*$", text[:match.start()]) or re.search(
            rf"\(\s*SELECT[^;()]*(\([^()]*\)[^;()]*)*FROM\s*$", text[:match.start()])  # fmt: skip
        by_project = re.search(rf"\b{alias}\.project_id = [a-z_]+\.project_id\b|\b[a-z_]+\.project_id = {alias}\.project_id\b",
                               text[match.end():end])  # fmt: skip
        uses_others = re.search(r"\b(?!%s\b)[a-z]+\.ticket_id\b" % alias, text[match.end():end])
        if joined and uses_others and not by_project:
            found.append(match[0])
    return found


def test_every_join_goes_by_project(database):
    views = database.query("SELECT c.relname, pg_get_viewdef(c.oid) FROM pg_class c WHERE relnamespace = 'vcc'::regnamespace AND relkind = 'v'")
    functions = database.query("SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'vcc'::regnamespace")
    assert len(views) >= 8 and len(functions) >= 10
    for name, text in views + functions:
        assert not joins_without_project(text), name


def test_a_join_without_project_is_found():
    good = "SELECT FROM vcc.ticket_events e JOIN vcc.tickets t ON t.project_id = e.project_id AND t.ticket_id = e.ticket_id"
    bad = "SELECT FROM vcc.ticket_events e JOIN vcc.tickets t ON t.ticket_id = e.ticket_id"
    worse = "SELECT (SELECT title FROM vcc.tickets t WHERE t.ticket_id = e.ticket_id) FROM vcc.ticket_events e"
    assert [joins_without_project(text) for text in (good, bad, worse)] == [[], ["vcc.tickets t"], ["vcc.tickets t"]]


# -- the real thing -------------------------------------------------------------------------------------------------


def citus_is_there():
    with Cluster() as cluster:
        return bool(cluster.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'citus'"))


@pytest.fixture(scope="module")
def nodes():
    """A coordinator and two workers, on ports of the loopback."""
    if not citus_is_there():
        pytest.skip("the server does not offer the extension citus")
    from contextlib import ExitStack

    from conftest import free_port
    with ExitStack() as stack:
        ports = [free_port() for _ in range(3)]
        clusters = [stack.enter_context(Cluster(settings={"shared_preload_libraries": "citus", "listen_addresses": "127.0.0.1",
                                                          "port": str(port)})) for port in ports]  # fmt: skip
        for each in clusters:
            each.createdb("tickets")
            each.execute("CREATE EXTENSION citus", dbname="tickets")
        coordinator = Database(clusters[0], "tickets")
        coordinator.query("SELECT citus_set_coordinator_host('127.0.0.1', %s)", ports[0])
        for port in ports[1:]:
            coordinator.query("SELECT citus_add_node('127.0.0.1', %s)", port)
        distribute(coordinator, CITUS)
        yield coordinator
        coordinator.connection.close()


def test_citus(nodes):
    rng = random.Random(SEED)
    expected = model.Model()
    with temporary_folder() as folder:
        handler = Handler(folder, nodes)
        try:
            for body in model.random_events(rng, 2000, [(1 + i % 16, i) for i in range(64)]):
                status, answer, _ = ask(handler.socket, body)
                assert (status, answer["result"]) == (200, expected.apply(model.decode(body))), body
        finally:
            assert handler.stop() == 0
    assert not model.compare(nodes.connection, expected)
    used = nodes.value("""SELECT count(DISTINCT nodeport) FROM citus_shards WHERE table_name = 'vcc.tickets'::regclass AND shard_size > 0""")
    assert used == 2
    for view in "open_tickets overdue_tickets ticket_history status_periods daily_flow resolution_times agent_workload".split():
        nodes.query(f"SELECT * FROM vcc.{view} WHERE project_id = 1")
    nodes.query("SELECT * FROM vcc.deliveries WHERE received_at > now() - interval '1 hour'")
    with nodes.connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = debug1")
        cursor.execute("SELECT vcc.delete_ticket(gen_random_uuid(), now(), '{}', 1, 1)")
        assert any("pushing down the function call" in notice for notice in nodes.connection.notices)
