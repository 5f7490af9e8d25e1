"""Who is measured: each starts what it needs, takes load, says which processes it consists of, and ends them."""

import contextlib
import glob
import os
import pathlib
import re
import resource
import subprocess
import time

import psycopg2

import conftest
import load
from conftest import LOCATION, Handler, accepts, environment, stop, wait_until

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
IS_ROOT = os.geteuid() == 0


class Copy:
    """A database made from a template, so that every run begins with the same."""

    def __init__(self, cluster, template, name):
        self.cluster, self.name = cluster, name
        self.administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"{self.by_file()}', "CHECKPOINT")
        self.owner = cluster.conninfo(name)
        self.handler = cluster.conninfo(name, "handler")

    def by_file(self):
        """Before version 15 there was no other way; the other writes all of it into the WAL."""
        with contextlib.closing(self.cluster.connect()) as connection:
            return " STRATEGY file_copy" if connection.server_version >= 150000 else ""

    def administer(self, *statements):
        with contextlib.closing(self.cluster.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def query(self, sql, *values):
        with contextlib.closing(psycopg2.connect(self.owner)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def rows(self):
        return self.query("SELECT count(*) FROM vcc.ticket_events")[0][0]

    def syncs(self):
        """How often the server synced its WAL so far. A session may say it only when it ends."""
        return self.query("SELECT wal_sync FROM pg_stat_wal")[0][0]

    def missing(self, ids):
        """How many of these events the journal has not got."""
        there = "SELECT count(*) FROM vcc.ticket_events WHERE project_id = %s AND event_id = ANY (%s::uuid[])"
        return len(ids) - self.query(there, load.PROBE_PROJECT, ids)[0][0]

    def drop(self):
        self.administer(f'DROP DATABASE "{self.name}" WITH (FORCE)')


class Nginx(conftest.Nginx):
    """With a worker for each processor, as Debian sets it up, and another log: see AccessLog."""

    def __init__(self, folder, upstream, location=None):
        self.log = folder / "access.log"
        location, count = re.subn("access_log .*;", f"access_log {self.log} bench buffer=64k flush=200ms;",
                                  location or self.installed_location(folder))
        assert count
        super().__init__(folder, upstream, location, main="worker_processes auto;", http="""
    log_format bench '$connection $status $args';
    fastcgi_ignore_client_abort on;  # the load generator leaves before its last answers: they count too
    keepalive_requests 1000000000;""")


class Served:
    """A contender behind nginx."""

    mix = load.MIX

    def __init__(self, folder, database):
        self.folder, self.database = folder, database
        self.nginx = None
        self.bodies = folder / "bodies"
        load.write_mix(self.bodies, self.mix)
        try:
            self.open()
        except BaseException:
            self.close()
            raise

    def run(self, clients, seconds, mark="run"):
        return load.wrk(self.nginx.port, f"{LOCATION}?{mark}", clients, seconds, self.bodies)

    def processes(self):
        return {"nginx": self.nginx.process.pid, "handler": self.process.pid}

    def close(self):
        if self.nginx:
            self.nginx.stop()
        if getattr(self, "process", None):
            stop(self.process)


class Ticketd(Served):
    name = "ticketd"
    settings = {}

    def open(self):
        self.handler = Handler(self.folder, self.database, **self.settings)
        self.process = self.handler.process
        assert self.process.poll() is None, self.handler.log.read_text()
        self.nginx = Nginx(self.folder, self.handler.socket)


class Poisoned(Ticketd):
    name = "ticketd, 1 % refused"
    mix = load.POISON

    def open(self):
        load.refuse_titles(self.database)
        super().open()


class Grown(Ticketd):
    name = "ticketd, grown database"


class Sustained(Ticketd):
    name = "ticketd, sustained"


class Empty(Served):
    """The floor of the web server: whatever is behind nginx cannot be faster than nothing."""

    name = "nginx + empty handler"

    def open(self):
        path = str(self.folder / "empty.sock")
        self.process = subprocess.Popen([os.path.join(os.environ["BENCH_DIR"], "empty"), path])
        wait_until(lambda: accepts(path), what="the empty handler")
        self.nginx = Nginx(self.folder, path)


class Php(Served):
    """peer.php under php-fpm: a static pool, OPcache on and never looking at the file again."""

    name = "PHP-FPM"
    client = "pdo"
    children = int(os.environ.get("BENCH_PHP_CHILDREN", 16))

    def open(self):
        path = str(self.folder / "php.sock")
        conf = self.folder / "php-fpm.conf"
        conf.write_text(f"""
[global]
error_log = {self.folder}/php-fpm.log
daemonize = no
[peer]
{"user = root" if IS_ROOT else ""}
{"group = root" if IS_ROOT else ""}
listen = {path}
listen.backlog = 4096
pm = static
pm.max_children = {self.children}
""")
        program = sorted(glob.glob("/usr/sbin/php-fpm*"))[-1]
        settings = ["-dopcache.enable=1", "-dopcache.validate_timestamps=0", "-dmemory_limit=32M"]
        self.process = subprocess.Popen([program, "-F", *(["-R"] if IS_ROOT else []), "-y", str(conf), *settings],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        wait_until(lambda: self.process.poll() is not None or accepts(path), what="php-fpm")
        assert self.process.poll() is None, (self.folder / "php-fpm.log").read_text()
        self.nginx = Nginx(self.folder, path, f"""
location = {LOCATION} {{
    access_log off;
    fastcgi_param REQUEST_METHOD  $request_method;
    fastcgi_param CONTENT_TYPE    $content_type;
    fastcgi_param CONTENT_LENGTH  $content_length;
    fastcgi_param SCRIPT_FILENAME {HERE}/peer.php;
    fastcgi_param DATABASE        "{self.database.owner}";
    fastcgi_param CLIENT          {self.client};
    client_body_buffer_size 128k;
    fastcgi_pass unix:{path};  # no keepalive: a worker of PHP belongs to its connection
}}
""")


class PhpKept(Php):
    name = "PHP-FPM, kept statement"
    client = "pgsql"


class Pgbench:
    """One call and one transaction an event, without a web server and without JSON to decode: see peer.sql."""

    name = "pgbench"
    statement = staticmethod(load.one_call)

    def __init__(self, folder, database):
        self.folder, self.database = folder, database
        self.program = os.path.join(database.cluster.bindir, "pgbench")
        self.scripts = load.write_pgbench(folder, self.statement)
        self.log = folder / "transactions"

    def run(self, clients, seconds):
        for old in self.folder.glob(f"{self.log.name}.*"):
            old.unlink()
        # A lost meeting of two sessions is tried again, as by any sender; before version 15 pgbench cannot.
        tries = ["--max-tries=10"] if "max-tries" in self.help() else []
        done = subprocess.run(
            [self.program, "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(2, clients)), "-T", str(seconds),
             "-D", f"base={time.time_ns()}", "-D", "turn=0", "-l", f"--log-prefix={self.log}", *tries, *self.scripts,
             self.database.owner],
            env=environment(), capture_output=True, text=True, check=False)  # fmt: skip
        found = re.search(r"^tps = ([\d.]+) \(without", done.stdout, re.M)
        if done.returncode or not found or "aborted" in done.stderr:
            raise RuntimeError(f"pgbench failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        times, failed = self.times()
        return {"seconds": seconds, "events": len(times), "rate": float(found[1]),
                "p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)], "bad": failed}  # fmt: skip

    def help(self):
        return subprocess.run([self.program, "--help"], capture_output=True, text=True, check=True).stdout

    def times(self):
        """How long each transaction took, in ms, sorted; and how many failed."""
        logs = [path.read_text() for path in self.folder.glob(f"{self.log.name}.*")]
        words = [line.split()[2] for log in logs for line in log.splitlines()]
        times = sorted(int(word) / 1000 for word in words if word.isdigit())
        return times, len(words) - len(times)

    def processes(self):
        return {}  # its own CPU is that of an ended child

    def close(self):
        pass


class PgbenchPlain(Pgbench):
    """Fewer promises: no order, no repeats, no memory of deletions and adds."""

    name = "pgbench, fewer promises"
    statement = staticmethod(load.plain_statement)


def ended_cpu():
    """CPU-seconds of children that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
