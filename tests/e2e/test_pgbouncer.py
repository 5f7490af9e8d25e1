"""A pooler between: a transaction at a time has a session, and another one next time."""

import concurrent.futures
import os
import shutil
import subprocess
import time

import psycopg2
import pytest
from conftest import environment, event, stop, wait_until
from test_spool import ask

pytestmark = pytest.mark.skipif(not (shutil.which("pgbouncer") or os.path.exists("/usr/sbin/pgbouncer")),
                                reason="pgbouncer is not installed")  # fmt: skip


class Pooler:
    """A real pgbouncer in transaction mode, with few sessions for many clients."""

    def __init__(self, folder, database, sessions=2):
        self.folder = folder / "pooler"
        self.folder.mkdir()
        (self.folder / "users").write_text('"handler" ""\n"postgres" ""\n')
        (self.folder / "pgbouncer.ini").write_text(f"""
[databases]
{database.name} = host={database.cluster.directory} port=5432 dbname={database.name}
[pgbouncer]
pool_mode = transaction
default_pool_size = {sessions}
listen_addr =
unix_socket_dir = {self.folder}
listen_port = 6432
auth_type = trust
auth_file = {self.folder}/users
logfile = {self.folder}/log
""")
        command = ["/usr/sbin/pgbouncer", str(self.folder / "pgbouncer.ini")]
        if os.geteuid() == 0:
            os.chmod(folder, 0o755)
            shutil.chown(self.folder, "postgres")
            command[1:1] = ["-u", "postgres"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env=environment())  # fmt: skip
        self.conninfo = f"host={self.folder} port=6432 dbname={database.name} user=handler"
        wait_until(lambda: (self.folder / ".s.PGSQL.6432").exists(), what="pgbouncer")

    def stop(self):
        stop(self.process)

    def log(self):
        return (self.folder / "log").read_text()


@pytest.fixture
def pooler(folder, database):
    pooler = Pooler(folder, database)
    yield pooler
    pooler.stop()


def test_load_through_a_pooler(start, database, pooler):
    """Four writers share two sessions with others; refused events among it; nothing of ours stays in a session."""
    database.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'poison')")
    handler = start(TICKETD_DATABASE=pooler.conninfo, TICKETD_POOLER="transaction", TICKETD_WRITERS="4")
    leaks = []

    def neighbour():
        connection = psycopg2.connect(pooler.conninfo)
        connection.autocommit = True
        with connection.cursor() as cursor:
            for _ in range(200):
                cursor.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
                leaks.append(cursor.fetchone())
        connection.close()

    def client(n):
        seen = []
        for i in range(40):
            title = "poison" if i % 10 == 9 else f"{n}/{i}"
            seen.append(ask(handler.socket, event("update", n, title=title))[0])
        return seen

    with concurrent.futures.ThreadPoolExecutor(17) as pool:
        other = pool.submit(neighbour)
        statuses = [status for seen in pool.map(client, range(16)) for status in seen]
        other.result()
    assert {status: statuses.count(status) for status in set(statuses)} == {200: 16 * 36, 422: 16 * 4}
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 16 * 36
    assert database.query("SELECT count(*), sum(attempts) FROM vcc.rejected_events") == [(16, 16 * 4)]
    assert set(leaks) == {("0", "0")}
    used = database.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'handler'")
    assert used <= 2
    assert "level=error" not in handler.log.read_text()


def test_time_outs_hold_all_the_same(start, database, pooler):
    """They are said in each transaction: nothing waits in the database longer than the handler does."""
    handler = start(TICKETD_DATABASE=pooler.conninfo, TICKETD_POOLER="transaction", TICKETD_DB_TIMEOUT_MS="1000")
    assert ask(handler.socket, event("add"))[0] == 200
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    begun = time.monotonic()
    assert ask(handler.socket, event("update", title="a"))[0] == 503
    assert time.monotonic() - begun < 5
    wait_until(lambda: database.handler_waits_for_a_lock() == 0, 3, "the end of all waiting")
    database.query("COMMIT")
    assert ask(handler.socket, event("update", title="b"))[0] == 200
    assert database.value("SELECT title FROM vcc.tickets") == "b"


def test_the_pooler_restarts(start, folder, database, pooler):
    """Its clients are thrown out; events are spooled, or tried again, and none is lost."""
    handler = start(TICKETD_DATABASE=pooler.conninfo, TICKETD_POOLER="transaction", TICKETD_SPOOL_DIR=str(folder / "spool"))
    results = [ask(handler.socket, event("update", 1))[1]["result"]]
    pooler.stop()
    results += [ask(handler.socket, event("update", n))[1]["result"] for n in range(2, 5)]
    assert results == ["inserted"] + ["spooled"] * 3
    shutil.rmtree(pooler.folder)
    again = Pooler(folder, database)
    try:
        wait_until(lambda: database.value("SELECT count(*) FROM vcc.tickets") == 4, 15, "the drain")
    finally:
        handler.stop()
        again.stop()


def test_why_the_setting_is_there(start, database, pooler):
    """Without it named statements meet sessions that do not know them; a newer pgbouncer (1.21) would cope with that."""
    if int(subprocess.run(["/usr/sbin/pgbouncer", "--version"], capture_output=True, text=True).stdout.split(".")[1]) >= 21:
        pytest.skip("this pgbouncer knows prepared statements")
    handler = start(TICKETD_DATABASE=pooler.conninfo, TICKETD_WRITERS="4", TICKETD_DB_TIMEOUT_MS="300")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda n: ask(handler.socket, event("update", n))[0], range(40)))
    assert set(statuses) <= {200, 503}
    assert database.value("SELECT count(*) FROM vcc.tickets") >= statuses.count(200)
    assert "prepared statement" in handler.log.read_text()
