"""sql/citus/citus.sql: the schema on many nodes.

What can be held without Citus is held everywhere. The rest runs where the server offers the extension: on a coordinator and
two workers of its own."""

import contextlib
import json
import os
import random
import re
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import fastcgi
import model
import psycopg2
import pytest
import test_calendars
import test_monitoring
import test_reports
import test_rule
from cluster import SOURCE, Cluster
from conftest import TICKETD, Database, Handler, command, environment, event, free_port, wait_until
from test_spool import ask, waiting

TIMEOUT = 2.0  # seconds: TICKETD_DB_TIMEOUT_MS
PROJECTS = range(1, 17)
SETTINGS = {"shared_preload_libraries": "citus", "listen_addresses": "127.0.0.1", "wal_level": "logical", "max_connections": "200"}

# -- everywhere -------------------------------------------------------------------------------------------------------

ON_SHARDS = {"apply_events", "late_events", "reject_event", "erase_ticket", "compare_journal"}  # see sql/queries/distribute.sql
TEXTS = {path.stem: re.sub("--.*", "", path.read_text()) for name in ("functions", "views") for path in (SOURCE / name).glob("*.sql")}
REFUSED = {
    "a recursion that is of no project": "WITH RECURSIVE",
    "a subquery that reads nothing, beside tables": r"LATERAL \(SELECT(?:(?!\bFROM\b).)*?\)",
    "a place in a table, of which each node has its own": r"\b(ctid|tableoid)\b",
    "a part of a subquery that depends on the row": r"\bOFFSET 0\b",
    "a function in SQL with parameters that reads a table": r"FUNCTION vcc\.\w+\([^)]+\)[^$]*LANGUAGE sql.*vcc\.(tickets|ticket_events|rejected_events)\b",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - ON_SHARDS))
def test_citus_can_plan_it(name):
    found = [what for what, pattern in REFUSED.items() if re.search(pattern, TEXTS[name], re.DOTALL)]
    assert not found, f"{name}: {found}"


def test_every_key_has_its_project(database):
    assert database.query("""
        SELECT i.indexrelid::regclass FROM pg_index i
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = 'project_id'
          JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'vcc'::regnamespace
         WHERE i.indisunique AND NOT a.attnum = ANY (i.indkey)""") == []
    assert database.query("SELECT conname FROM pg_constraint WHERE connamespace = 'vcc'::regnamespace AND contype IN ('f', 'x')") == []
    assert not [name for name in ON_SHARDS if "ON CONSTRAINT" in TEXTS[name]]  # a shard's has another name


# -- the nodes --------------------------------------------------------------------------------------------------------


class Nodes:
    """A coordinator and two workers, on ports of the loopback."""

    def __init__(self, stack, fsync=False):
        ports = [free_port() for _ in range(3)]
        coordinator, *self.workers = [stack.enter_context(Cluster(fsync, SETTINGS | {"port": str(port)})) for port in ports]
        for worker in self.workers:
            worker.createdb("tickets")
            worker.execute("CREATE EXTENSION citus", dbname="tickets")
        self.database = Database(coordinator, "tickets", f"""
            CREATE EXTENSION citus; SELECT citus_set_coordinator_host('127.0.0.1', {ports[0]});
            SELECT citus_add_node('127.0.0.1', port) FROM unnest(ARRAY{ports[1:]}) port""")
        coordinator.psql("-f", str(SOURCE / "citus/citus.sql"), dbname="tickets")
        self.database.migrate()
        self.database.query("CREATE ROLE reader LOGIN IN ROLE vcc_reader")
        stack.callback(self.database.connection.close)

    def name(self, worker):
        return f"127.0.0.1:{worker.settings['port']}"

    def projects(self, worker):
        """Those of PROJECTS that this worker has."""
        return {p for p, port in self.database.query("""
            SELECT p, n.nodeport FROM generate_series(%s, %s) p
              JOIN pg_dist_shard s ON s.shardid = get_shard_id_for_distribution_column('vcc.tickets', p)
              JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node n USING (groupid)""", PROJECTS[0], PROJECTS[-1])
            if str(port) == worker.settings["port"]}  # fmt: skip


@pytest.fixture(scope="module")
def every_node():
    with Cluster() as cluster:
        if not cluster.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'citus'"):
            pytest.skip("the server does not offer the extension citus")
    with ExitStack() as stack:
        yield Nodes(stack)


@pytest.fixture
def nodes(every_node):
    """Without tickets."""
    for table in "tickets ticket_events deleted_tickets ticket_adds rejected_events journal_horizon".split():
        every_node.database.query(f"DELETE FROM vcc.{table}")
    return every_node


@pytest.fixture
def serve(folder, nodes):
    handlers = []

    def serve(**settings):
        handlers.append(Handler(folder, nodes.database, **{
            "TICKETD_WRITERS": 4, "TICKETD_DB_TIMEOUT_MS": int(TIMEOUT * 1000), "TICKETD_SPOOL_DIR": folder / "spool", **settings}))
        return handlers[-1]
    yield serve
    for handler in handlers:
        assert handler.stop() == 0, handler.log.read_text()


# -- docs/citus.md -----------------------------------------------------------------------------------------------------


def test_the_administrators_page(folder):
    """Its commands, in their order, by an owner who is no superuser, with passwords, and a node more under load."""
    with ExitStack() as stack:
        if not stack.enter_context(Cluster()).execute("SELECT 1 FROM pg_available_extensions WHERE name = 'citus'"):
            pytest.skip("the server does not offer the extension citus")
        clusters = [stack.enter_context(Cluster(settings=SETTINGS | {"port": str(free_port())})) for _ in range(4)]
        for cluster in clusters:
            cluster.execute("ALTER ROLE postgres PASSWORD 'secret-of-postgres'")
            (Path(cluster.directory) / "data/pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
            cluster.execute("SELECT pg_reload_conf()")
        passwords = folder / "pgpass"
        passwords.write_text("*:*:*:postgres:secret-of-postgres\n")
        passwords.chmod(0o600)

        def run(block):
            for n, cluster in enumerate(clusters, 1):
                port = cluster.settings["port"]
                block = re.sub(rf"-h db{n}\b", f"-h 127.0.0.1 -p {port}", block)
                block = re.sub(rf"'db{n}', 5432", f"'127.0.0.1', {port}", block).replace(f"host=db{n} ", f"host=127.0.0.1 port={port} ")
                block = block.replace("for node in db1 db2 db3", "for node in " + " ".join(c.settings["port"] for c in clusters[:3]))
            block = block.replace("-h $node", "-h 127.0.0.1 -p $node").replace("host=$node", "host=127.0.0.1 port=$node")
            block = block.replace("/usr/share/ticketd/sql/citus.sql", str(SOURCE / "citus/citus.sql"))
            done = subprocess.run(["bash", "-e", "-c", f'ticketd() {{ "{TICKETD}" "$@"; }}\n{block}'], capture_output=True, text=True,
                                  env=environment(PGPASSFILE=passwords), check=False)  # fmt: skip
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"

        page = (SOURCE.parent / "docs/citus.md").read_text()
        [_, *first, more, hours] = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
        assert len(first) == 3
        for block in first:
            run(block)
        database = SimpleNamespace(handler=f"host=127.0.0.1 port={clusters[0].settings['port']} dbname=tickets user=ticketd "
                                           "password=secret-of-ticketd", query=lambda sql: clusters[0].execute(sql, dbname="tickets"))
        handler = Handler(folder, database, TICKETD_WRITERS=4, TICKETD_SPOOL_DIR=folder / "spool")
        try:
            with Load(handler) as load:
                run(more)
            load.check(database, folder)
        finally:
            assert handler.stop() == 0
        run(hours)  # 12 November 2024 is a Tuesday
        assert database.query("SELECT DISTINCT vcc.business_seconds('2024-11-12 07:45Z', '2024-11-12 23:00Z', project_id) / 60 "
                              "FROM vcc.tickets") == [(465,)]
        found = command("check", TICKETD_DATABASE=database.handler, TICKETD_AUTH="none")
        assert found.returncode == 0, found.stdout
        assert database.query("SELECT count(DISTINCT nodeport) FROM citus_shards WHERE table_name = 'vcc.tickets'::regclass") == [(3,)]


# -- the rule and the reports -----------------------------------------------------------------------------------------

ONE_PROJECT = test_rule.APPLY.replace("project_id => %(project_id)s::bigint[]", "project => %(project)s")


def arrays(events, rng=None):
    return {**test_rule.arrays(events, rng), "project": events[0].key[0]}


def apply_by_project(connection, events, rng=None):
    """As the handler does it: a call for each project."""
    found = {}
    for project in sorted({e.key[0] for e in events}):
        places = [n for n, e in enumerate(events) if e.key[0] == project]
        with connection.cursor() as cursor:
            cursor.execute(ONE_PROJECT, arrays([events[n] for n in places], rng))
            found.update(zip(places, cursor.fetchall()))
    return [found[n] for n in range(len(events))]


@pytest.mark.parametrize("tickets", [3, 100])
def test_the_rule_is_the_same(nodes, monkeypatch, tickets):
    """What test_rule.py asks, with events that waited, repeats, and tickets that are erased."""
    monkeypatch.setattr(test_rule, "apply", apply_by_project)
    test_rule.test_random_sequence(nodes.database.connection, 8, tickets)


def test_verify(nodes, monkeypatch):
    """On the node of each project, by a reader; a rebuild has the locks of that node."""
    database = nodes.database
    monkeypatch.setattr(test_rule, "apply", apply_by_project)
    test_rule.test_random_sequence(database.connection, 9, 100)
    settings = {"TICKETD_DATABASE": database.handler, "TICKETD_REPORT_DATABASE": database.cluster.conninfo("tickets", "reader")}
    database.query("ALTER DATABASE tickets SET timezone = 'Pacific/Auckland'")
    database.reconnect()
    done = command("verify", **settings)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert int(re.search(r"^verified +(\d+)$", done.stdout, re.MULTILINE)[1]) > 50
    before = database.query("SELECT * FROM vcc.tickets ORDER BY project_id, ticket_id")
    database.query("UPDATE vcc.tickets SET title = 'x', soft_deadline = now() WHERE project_id = 1")
    database.query("DELETE FROM vcc.tickets WHERE project_id = 2")
    done = command("verify", "--rebuild", **settings)
    assert done.returncode == 0 and done.stdout.count(": rebuilt\n") > 20, done.stdout + done.stderr
    assert database.query("SELECT * FROM vcc.tickets ORDER BY project_id, ticket_id") == before
    database.query("ALTER DATABASE tickets RESET timezone")
    database.reconnect()


def test_a_call_goes_whole_to_one_node(nodes):
    connection = nodes.database.connection
    nodes.database.query("SET client_min_messages = debug1")
    apply_by_project(connection, [test_rule.event("update", "a")])
    nodes.database.query("RESET client_min_messages")
    assert [notice for notice in connection.notices if "pushing down the function call" in notice]
    assert not [notice for notice in connection.notices if "distributed plan" in notice.lower()]


class History(test_reports.History):
    """Nodes have clocks of their own: what is measured until now is not compared."""

    OF_NOW = {"age", "duration", "overdue_by", "idle", "in_state", "open_time", "desk_time", "customer_time", "other_time",
              "unassigned_time"}  # fmt: skip

    def check(self, view, columns, expected, now):
        names = columns.split(", ")
        if self.OF_NOW & {*names}:
            kept = [n for n, name in enumerate(names) if name not in self.OF_NOW]
            names, expected = [names[n] for n in kept], [tuple(row[n] for n in kept) for row in expected]
        super().check(view, ", ".join(names), expected, now)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
def test_reports_are_the_same(nodes, monkeypatch, zone):
    """Those of a plain database, as test_reports.py computes them: of all projects and of one, in the session's zone."""
    monkeypatch.setattr(test_reports, "APPLY", ONE_PROJECT)
    monkeypatch.setattr(test_reports, "arrays", arrays)
    with contextlib.closing(nodes.database.cluster.connect("tickets")) as connection:
        test_rule.query(connection, "SET timezone = 'UTC'")
        history = History(connection, 1, events=250)
        connection.autocommit = False
        test_reports.check_all(history, zone)
        test_reports.check_moments(history, "Anna", None)
        for view in "open_tickets overdue_tickets ticket_history status_periods ticket_spans ticket_metrics deadline_cycles deadline_moves assignment_periods daily_flow resolution_times agent_workload".split():
            several, all_of_them = (test_rule.query(connection, f"SELECT count(*) FROM vcc.{view} {where}")
                                    for where in ("WHERE project_id IN (1, 2)", ""))  # fmt: skip
            assert several == all_of_them
        connection.commit()
        assert test_rule.query(connection, "SELECT vcc.refresh_reports(true) > 0, vcc.refresh_reports() > 0") == [(True, True)]
        for name, ended in ("ticket_metrics", "state = 'closed'"), ("deadline_cycles", "closed_at IS NOT NULL OR cancelled"):
            kept, shown = (sorted(map(str, test_rule.query(connection, f"SELECT * FROM vcc.{table} WHERE {ended}"))) for table in (f"{name}_kept", name))
            assert kept == shown != []
        history.drop_before((test_reports.NOW - 10 * test_reports.DAY).date())
        test_reports.check_all(history, zone)


def test_business_time(nodes):
    """By itself, and beside rows of tickets; no trigger prepares the calendars here."""
    database = nodes.database
    test_calendars.make(database)
    database.query("SELECT vcc.prepare_calendars()")
    test_calendars.test_equal_to_the_slow_one(database, 2)
    for project in test_calendars.CALENDARS:
        apply_by_project(database.connection, [test_rule.event("add", "a", ticket=n, projectId=project) for n in range(9)])
    beside = "vcc.business_seconds('2024-01-01Z', {}, project_id)"
    assert database.query(f"""SELECT project_id, {beside.format("max(last_event_at)")} FROM vcc.tickets GROUP BY 1 ORDER BY 1""") == [
        (project, database.value("SELECT " + beside.replace("project_id", "%s").format("%s"), at, project)) for project, at in
        database.query("SELECT project_id, max(last_event_at) FROM vcc.tickets GROUP BY 1 ORDER BY 1")]
    for table in "calendars calendar_hours calendar_exceptions project_calendars calendar_slots".split():
        database.query(f"DELETE FROM vcc.{table}")


def test_the_page_and_the_reader(nodes):
    adds = [test_rule.event("add", "a", ticket=n, subStatus="waiting4agent") for n in (1, 2, 3)]
    for events in adds, [test_rule.event("delete", ticket=3)]:
        apply_by_project(nodes.database.connection, events)
    with contextlib.closing(psycopg2.connect(nodes.database.cluster.conninfo("tickets", "reader"))) as reader:
        for project in None, 1:
            [(report,)] = test_rule.query(reader, "SELECT vcc.report(7, %s)", project)
            assert report["open"]["tickets"] == 2 and report["projects"] == [{"id": "1", "name": None}]
            [(report,)] = test_rule.query(reader, "SELECT vcc.report(7, %s, agent => '', type => '')", project)
            assert report["open"]["tickets"] == report["open"]["unassigned"] == 2
            [(before,)] = test_rule.query(reader, "SELECT vcc.report_before(20000, %s, agent => '')", project)
            assert before["before"]["open"]["tickets"] == 0
            [(found,)] = test_rule.query(reader, "SELECT vcc.report_ticket('2', %s)", project)
            assert found["timeline"]["ticket"]["title"] == "a"
            for name, rows in {"open": 2, "overdue": 0, "today": 0, "waiting": 2, "opened": 3, "closed": 0, "reopened": 0,
                               "deleted": 1, "came": 3, "went": 1, "backlog": 2, "resolved": 0}.items():  # fmt: skip
                [(found,)] = test_rule.query(reader, "SELECT vcc.report_list(%s, 20000, %s)", name, project)
                assert found["total"] == len(found["rows"]) == rows, name
                assert {row["ticket"]["title"] for row in found["rows"] if row["ticket"]} <= {"a"}
                assert test_rule.query(reader, "SELECT vcc.report_list(%s, 20000, %s, customer => 7) ->> 'total'", name, project) == [("0",)]
            [(found,)] = test_rule.query(reader, "SELECT vcc.report_deliveries(project => %s)", project)
            assert [row["ticket_id"] for row in found["deliveries"]] == ["3", "3", "2", "1"]
            [(found,)] = test_rule.query(reader, "SELECT vcc.report_deliveries('rejected', project => %s)", project)
            assert found["deliveries"] == []
        for view in "open_tickets overdue_tickets ticket_history status_periods ticket_spans ticket_metrics deadline_cycles deadline_moves assignment_periods daily_flow resolution_times agent_workload agent_workload_kept deliveries".split():
            test_rule.query(reader, f"SELECT * FROM vcc.{view}")
        test_rule.query(reader, "SELECT vcc.refresh_reports()")
        reader.commit()
        assert nodes.database.value("SELECT vcc.forget_check(gen_random_uuid())") is False
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            apply_by_project(reader, [test_rule.event("update", "b")])


def test_grafana_and_metabase(nodes):
    test_monitoring.fill(nodes.database)
    with contextlib.closing(psycopg2.connect(nodes.database.cluster.conninfo("tickets", "reader"))) as reader:
        test_monitoring.test_the_panels_of_each_dashboard((reader.cursor(), True))
        test_monitoring.test_the_questions((reader.cursor(), True))


# -- the program ------------------------------------------------------------------------------------------------------


class Load:
    """Clients that send events of all projects, one after the other of each ticket."""

    def __init__(self, handler, clients=16):
        self.handler, self.answers, self.ended = handler, [], threading.Event()
        self.threads = [threading.Thread(target=self.talk, args=(n,)) for n in range(clients)]

    def __enter__(self):
        [thread.start() for thread in self.threads]
        return self

    def __exit__(self, *_):
        self.ended.set()
        [thread.join() for thread in self.threads]

    def talk(self, client):
        rng, n = random.Random(client), 0
        with fastcgi.Connection(self.handler.socket) as c:
            while not self.ended.is_set():
                n += 1
                project, ticket = rng.choice(PROJECTS), 100 * client + rng.randrange(20)
                body = json.dumps({"action": "update", "ticket": {"projectId": project, "ticketId": ticket, "title": str(n)}})
                began = time.monotonic()
                c.send(fastcgi.request(body.encode()))
                head, _, text = c.answer().partition("\r\n\r\n")
                self.answers.append((began, time.monotonic() - began, project, ticket, n, json.loads(text), head))

    def check(self, database, folder):
        """All were answered 200 and are there once, and a ticket's took effect in their order."""
        assert {head.split("\r\n")[0] for *_, head in self.answers} == {"Status: 200 OK"}
        wait_until(lambda: waiting(folder / "spool") == 0, 60, "an empty spool")
        stored = database.query("SELECT event_id::text, project_id, ticket_id, (payload #>> '{ticket,title}')::integer "
                                "FROM vcc.ticket_events ORDER BY project_id, ticket_id, applied_no")
        assert len(stored) == len(self.answers)
        assert {row[0] for row in stored} == {answer["event"] for *_, answer, _ in self.answers}
        assert [row[1:] for row in stored] == sorted((row[1:] for row in stored), key=lambda row: (row[0], row[1], row[2]))
        assert database.query("SELECT project_id, ticket_id, title::integer FROM vcc.tickets ORDER BY 1, 2") == sorted(
            {(project, ticket): n for _, project, ticket, n in stored}[key] and (*key, {(p, t): m for _, p, t, m in stored}[key])
            for key in {(row[1], row[2]) for row in stored})  # fmt: skip

    def seen(self, projects, since, until):
        return [(seconds, answer["result"]) for began, seconds, project, _, _, answer, _ in self.answers
                if project in projects and since <= began < until]  # fmt: skip


def endpoint(handler, name):
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(b"", REQUEST_METHOD="GET", REQUEST_URI=f"/vcc/tickets/{name}"))
        return c.answer()


def check(nodes, **settings):
    return command("check", TICKETD_DATABASE=nodes.database.handler, TICKETD_AUTH="none", **settings)


@contextlib.contextmanager
def stopped(worker):
    worker.stop("immediate")
    yield
    worker.start()


@contextlib.contextmanager
def frozen(worker):
    worker.freeze()
    yield
    worker.thaw()


@contextlib.contextmanager
def without_its_login(worker):
    worker.execute("SET citus.enable_ddl_propagation = off; ALTER ROLE handler NOLOGIN", dbname="tickets")
    worker.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'handler'", dbname="tickets")
    yield
    worker.execute("SET citus.enable_ddl_propagation = off; ALTER ROLE handler LOGIN", dbname="tickets")


@pytest.mark.parametrize("trouble", [stopped, frozen, without_its_login])
def test_a_node_that_is_away_holds_up_its_own(nodes, serve, folder, trouble):
    handler, worker = serve(), nodes.workers[0]
    its = nodes.projects(worker)
    assert 0 < len(its) < len(PROJECTS)
    with Load(handler) as load:
        wait_until(lambda: len(load.answers) > 200, 30, "answers")
        began = time.monotonic()
        with trouble(worker):
            wait_until(lambda: "cannot be written now: " + nodes.name(worker) in endpoint(handler, "readyz"), 10, "readyz' detail")
            assert re.search("^ticketd_database_nodes_away 1$", endpoint(handler, "metrics"), re.MULTILINE)
            found = check(nodes, TICKETD_DB_TIMEOUT_MS=4000)
            assert found.returncode == 1 and f"it takes no event on {nodes.name(worker)}: " in found.stdout
            time.sleep(float(os.environ.get("AWAY_S", 2 * TIMEOUT)))  # 60 was tried
            status = command("spool", "list", TICKETD_SPOOL_DIR=folder / "spool", TICKETD_DATABASE=nodes.database.handler)
            assert f"{nodes.name(worker)} cannot be written now" in status.stdout
            ended = time.monotonic()
        wait_until(lambda: "cannot be written" not in endpoint(handler, "readyz"), 60, "its return")
        time.sleep(0.5)
    load.check(nodes.database, folder)
    others = load.seen({*PROJECTS} - its, began, ended)
    assert len(others) > 100 and max(seconds for seconds, _ in others) < TIMEOUT
    assert {result for _, result in others} <= {"inserted", "updated", "unchanged"}
    assert [result for _, result in load.seen(its, began + TIMEOUT, ended)].count("spooled") > 100


def test_shards_move_under_load(nodes, serve, folder):
    one, other = nodes.workers
    shards = nodes.database.query("""
        SELECT DISTINCT s.shardid FROM generate_series(1, 16) p
          JOIN pg_dist_shard s ON s.shardid = get_shard_id_for_distribution_column('vcc.tickets', p)
          JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node n USING (groupid) WHERE n.nodeport = %s LIMIT 2""",
        int(one.settings["port"]))  # fmt: skip
    with Load(serve()) as load:
        for (shard,) in shards:
            nodes.database.query("SELECT citus_move_shard_placement(%s, '127.0.0.1', %s, '127.0.0.1', %s)",
                                 shard, int(one.settings["port"]), int(other.settings["port"]))  # fmt: skip
    load.check(nodes.database, folder)
    assert max(seconds for _, seconds, *_ in load.answers) < TIMEOUT


def test_upkeep_under_load(nodes, serve, folder):
    """A ticket is erased, partitions of the journal are made and dropped, the program is migrated again."""
    database = nodes.database
    with Load(serve()) as load:
        wait_until(lambda: len(load.answers) > 200, 30, "answers")
        apply_by_project(database.connection, [test_rule.event("add", "a", ticket=9999)])
        assert dict(database.query("SELECT * FROM vcc.erase_ticket(1, 9999)"))["ticket"] == 1
        assert database.value("SELECT vcc.prepare_journal('2019-05-05')") == 1
        assert database.value("SELECT count(*) FROM vcc.drop_events_before('2020-01-01')") > 0
        database.migrate()
    load.check(database, folder)
    assert max(seconds for _, seconds, *_ in load.answers) < TIMEOUT


def test_what_is_refused(nodes, serve, folder):
    """By a constraint, one of three of a ticket in a batch, beside others: set aside at once, listed, shown, tried again, dropped."""
    nodes.database.query("ALTER TABLE vcc.tickets ADD CONSTRAINT poison CHECK (title <> 'poison')")
    handler, settings = serve(), {"TICKETD_DATABASE": nodes.database.handler, "TICKETD_AUTH": "none"}
    try:
        with Load(handler, 4):
            answers = [ask(handler.socket, event("update", n % 5, title="poison" if n % 7 == 3 else str(n), projectId=n % 3)) for n in range(60)]
        poison = {n for n in range(60) if n % 7 == 3}
        assert {n for n, (status, *_) in enumerate(answers) if status == 422} == poison
        assert {status for status, *_ in answers} == {200, 422}
        assert ask(handler.socket, b"no json")[0] == 400
        listed = command("rejected", "list", **settings)
        assert listed.stdout.count("SQLSTATE 23514") == len({(n % 5, n % 3) for n in poison}), listed
    finally:
        nodes.database.query("ALTER TABLE vcc.tickets DROP CONSTRAINT poison")
    assert command("rejected", "retry", **settings).returncode == 1  # one is still no JSON
    [(left,)] = nodes.database.query("SELECT last_event_id::text FROM vcc.rejected_events")
    assert command("rejected", "show", left, **settings).stdout == "no json"
    assert command("rejected", "drop", left, **settings).returncode == 0
    assert nodes.database.value("SELECT count(*) FROM vcc.rejected_events") == 0


def test_import_and_verify(nodes, folder):
    bodies = model.random_events(random.Random(3), 300, [(1 + i % 5, i) for i in range(30)])
    file = folder / "events"
    file.write_bytes(b"\n".join(bodies) + b"\n")
    settings = {"TICKETD_DATABASE": nodes.database.handler, "TICKETD_AUTH": "none"}
    done = command("import", str(file), **settings)
    assert done.returncode in (0, 1), done.stderr
    before = nodes.database.value("SELECT count(*) FROM vcc.ticket_events")
    assert command("import", str(file), **settings).returncode == 0  # the same file again
    assert nodes.database.value("SELECT count(*) FROM vcc.ticket_events") == before > 100


def test_only_the_coordinator(nodes, folder):
    """A worker lacks what migrate and import look at."""
    worker = nodes.workers[0].conninfo("tickets", "handler")
    words = "this is a worker of Citus: name the coordinator in TICKETD_DATABASE"
    found = command("check", TICKETD_DATABASE=worker, TICKETD_AUTH="none")
    assert found.returncode == 1 and f"schema     wrong: {words}" in found.stdout
    found = command("migrate", TICKETD_DATABASE=nodes.workers[0].conninfo("tickets"))
    assert found.returncode == 1 and words in found.stderr
    assert check(nodes).stdout.count("events     ok: ") == 1


def test_migrate_again(nodes):
    """Twice does no harm; what was dropped is made; a new text reaches the shards."""
    database = nodes.database
    shards = database.value("SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = 'vcc.tickets'::regclass")
    count = "SELECT count(*), count(DISTINCT p.prosrc) FROM pg_proc p WHERE p.proname ~ '^apply_events_[0-9]+$'"
    [(before,)] = database.query("SELECT array_agg(p.oid ORDER BY p.oid) FROM pg_proc p WHERE p.pronamespace = 'vcc'::regnamespace")
    database.migrate()
    assert database.query("SELECT array_agg(p.oid ORDER BY p.oid) FROM pg_proc p WHERE p.pronamespace = 'vcc'::regnamespace") == [(before,)]
    database.query("DROP FUNCTION vcc.reject_event; DELETE FROM vcc.definitions WHERE name ~ 'reject_event|apply_events'")
    database.migrate()
    assert database.query(count) == [(shards, shards)]
    assert database.value("SELECT count(*) FROM pg_proc p WHERE p.proname ~ '^reject_event_[0-9]+$'") == shards
    for worker in nodes.workers:
        assert worker.execute(count, dbname="tickets") == [(shards, shards)]
    assert apply_by_project(database.connection, [test_rule.event("update", "a")]) == [("inserted", None)]
