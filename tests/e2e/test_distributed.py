"""sql/citus/citus.sql: the schema on many nodes.

Citus itself is tried where the server has it. Everywhere: its rules are kept as far as citus_rules.sql knows them, and the
text of the functions that Citus gets, whose calls are of one project, does on one node what the plain text does."""

import concurrent.futures
import random
from contextlib import ExitStack
from dataclasses import replace

import model
import pytest
import test_check
import test_rule
from cluster import Cluster
from conftest import ROOT, Database, Handler, event, free_port, temporary_folder
from test_spool import ask

RULES = ROOT / "tests/e2e/citus_rules.sql"
CITUS = ROOT / "sql/citus/citus.sql"


def distribute(database, *files):
    for file in files or (RULES, CITUS):
        database.cluster.psql("-f", str(file), dbname=database.name)
    database.migrate()


@pytest.fixture
def distributed(database):
    distribute(database)
    return database


# -- the text -------------------------------------------------------------------------------------------------------

ONE_PROJECT = test_rule.APPLY.replace("project_id => %(project_id)s::bigint[]", "project => %(project)s")


def apply_by_project(connection, events, rng=None):
    """As the handler does it: a call for each project."""
    found = {}
    for project in sorted({e.key[0] for e in events}):
        places = [n for n, e in enumerate(events) if e.key[0] == project]
        values = {**test_rule.arrays([events[n] for n in places], rng), "project": project}
        with connection.cursor() as cursor:
            cursor.execute(ONE_PROJECT, values)
            found.update(zip(places, cursor.fetchall()))
    return [found[n] for n in range(len(events))]


@pytest.mark.parametrize("tickets", [3, 100])
def test_the_rule_is_the_same(distributed, monkeypatch, tickets):
    """What test_rule.py asks of the plain text, with events that waited, repeats, and tickets that are erased."""
    body = distributed.value("SELECT prosrc FROM pg_proc WHERE oid = 'vcc.apply_events'::regproc")
    assert "project_id = apply_events.project " in body and "project_id = e.project_id" not in body
    monkeypatch.setattr(test_rule, "apply", apply_by_project)
    test_rule.test_random_sequence(distributed.connection, 8, tickets)


def test_a_call_without_its_project(distributed):
    """Does nothing, rather than something by the wrong project."""
    e = test_rule.event("update", "a")
    with pytest.raises(Exception, match="project_id"):
        test_rule.apply(distributed.connection, [e])
    assert distributed.value("SELECT count(*) FROM vcc.ticket_events") == 0
    assert apply_by_project(distributed.connection, [e]) == [("inserted", None)]
    assert apply_by_project(distributed.connection, [replace(e, waited=True)]) == [("inserted", None)]  # its answer was lost


# -- by the program -------------------------------------------------------------------------------------------------


def test_load_with_what_is_refused(start, distributed):
    """Many at once, of several projects, a twentieth refused by a constraint, one of three of a ticket in the same batch."""
    distributed.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'poison')")
    handler = start()

    def client(n):
        rng, seen = random.Random(n), []
        for i in range(60):
            title = "poison" if rng.random() < 0.05 else f"{n}/{i}"
            status, answer, _ = ask(handler.socket, event("update", rng.randrange(20), title=title, projectId=rng.randrange(3)))
            assert status == (422 if title == "poison" else 200), answer
            seen += [answer["event"]] if status == 200 else []
        return seen

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answered = {identifier for seen in pool.map(client, range(24)) for identifier in seen}
    stored = {row[0] for row in distributed.query("SELECT event_id::text FROM vcc.ticket_events")}
    assert stored == answered
    assert distributed.value("SELECT sum(attempts) FROM vcc.rejected_events") == 24 * 60 - len(answered)
    assert distributed.value("SELECT count(DISTINCT project_id) FROM vcc.tickets") == 3
    # Titles are those of the events that took effect last.
    assert distributed.query("""
        SELECT t.ticket_id FROM vcc.tickets t WHERE t.title <> (
            SELECT e.payload #>> '{ticket,title}' FROM vcc.ticket_events e
             WHERE e.project_id = t.project_id AND e.ticket_id = t.ticket_id ORDER BY e.applied_no DESC LIMIT 1)""") == []


def test_migrate_distributes_what_it_makes(start, database):
    """Also what it drops and makes. Twice does no harm."""
    tables = "tickets ticket_events deleted_tickets ticket_adds rejected_events"
    distribute(database)
    for _ in range(2):
        assert database.query("SELECT logicalrelid::text FROM pg_dist_partition WHERE partkey = 'project_id' ORDER BY 1") == sorted(
            (f"vcc.{name}",) for name in tables.split())  # fmt: skip
        assert database.query("SELECT logicalrelid::text FROM pg_dist_partition WHERE partkey IS NULL") == [("vcc.journal_horizon",)]
        assert database.query("""SELECT p.proname::text, argument FROM pg_catalog.distributed_functions JOIN pg_proc p ON p.oid = id
                                  ORDER BY 1""") == [
            ("apply_events", "project"), ("changed_extra", None), ("first_event_id", None), ("late_events", None),
            ("merge_extra", None), ("reject_event", "project_id")]  # fmt: skip
        database.query("DROP FUNCTION vcc.reject_event; UPDATE vcc.definitions SET digest = ''; DROP TABLE vcc.journal_horizon; "
                       "DELETE FROM pg_catalog.pg_dist_partition WHERE partkey IS NULL; CREATE TABLE vcc.journal_horizon "
                       "(single boolean PRIMARY KEY, before timestamptz NOT NULL)")  # fmt: skip
        distribute(database, CITUS)
    assert ask(start().socket, event("add", 1))[0] == 200


def test_check_tries_every_node(distributed):
    """Here, projects of the second one are refused."""
    test_check.one("events", "ok", "", TICKETD_DATABASE=distributed.handler)
    distributed.query("ALTER TABLE vcc.tickets ADD CHECK (hashint8(project_id) < 0)")
    test_check.one("events", "note", "^it takes no event on two:5432: ", TICKETD_DATABASE=distributed.handler)


# -- the real thing -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes():
    """A coordinator and two workers, on ports of the loopback."""
    with Cluster() as cluster:
        if not cluster.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'citus'"):
            pytest.skip("the server does not offer the extension citus")
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
    rng = random.Random(8)
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
    nodes.query("SET client_min_messages = debug1")
    apply_by_project(nodes.connection, [test_rule.event("update", "a")])
    assert any("pushing down the function call" in notice for notice in nodes.connection.notices)
