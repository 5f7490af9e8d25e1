#!/usr/bin/python3
"""How fast is ticketd, and beside whom? All in one run on one machine, which the load generator shares, with a private
PostgreSQL that is durable (fsync, synchronous_commit, full_page_writes).

    make bench
    make bench BENCH_S=2 BENCH_CLIENTS="1 64" BENCH_ROUNDS=1         a look, in two minutes or three

    BENCH_S=10                  seconds of a run
    BENCH_CLIENTS="1 8 64 256"  connections of the load generator
    BENCH_ROUNDS=3              rounds; in each every contender runs once with each number of clients: A B C, A B C
    BENCH_ONLY="ticketd php"    contenders whose name contains one of these words
    BENCH_LINES=150000          events of the import
    BENCH_PHP_CHILDREN=16       processes of PHP-FPM
    BENCH_GROWTH=1              also with a grown database: BENCH_GROWTH_TICKETS=1000000, BENCH_GROWTH_EVENTS=5000000
    BENCH_SUSTAINED_S=600       also one run of so many seconds
    BENCH_BODIES=1              nothing but what large bodies cost PostgreSQL: bodies.py
    BENCH_DIR=build/bench       where results.json, bench.svg and bench.md go; databases are made in TMPDIR

Every run has a fresh copy of one database, a warm-up of a second, and a probe beside the load."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "e2e"))
os.environ["PATH"] += ":/usr/sbin:/sbin"  # nginx: an ordinary user on Debian has not got these
os.environ.setdefault("BENCH_DIR", str(ROOT / "build/bench"))

import bodies  # noqa: E402
import contenders  # noqa: E402
import load  # noqa: E402
import measure  # noqa: E402
import picture  # noqa: E402
import report  # noqa: E402
from cluster import Cluster  # noqa: E402
from conftest import LOCATION, TICKETD, Database, environment, temporary_folder  # noqa: E402


def setting(name, default):
    return type(default)(os.environ.get(f"BENCH_{name}") or default)


SECONDS = setting("S", 10)
CLIENTS = sorted(int(n) for n in setting("CLIENTS", "1 8 64 256").split())
ROUNDS = setting("ROUNDS", 3)
ONLY = setting("ONLY", "").lower().split()
LINES = setting("LINES", 150_000)
GROWTH = (setting("GROWTH_TICKETS", 1_000_000), setting("GROWTH_EVENTS", 5_000_000)) if setting("GROWTH", 0) else None
SUSTAINED = setting("SUSTAINED_S", 0)
BATCHES = (32, 256, 512)
PGBENCH_CLIENTS = sorted({1, 8, 16, 32, 64, *(n for n in CLIENTS if n <= 64)})
DURABLE = {"synchronous_commit": "on", "max_connections": "200"}


def observe(contender, cluster, clients, seconds):
    """One run: the load, and all that is looked at meanwhile."""
    database, nginx = contender.database, getattr(contender, "nginx", None)
    log = nginx and measure.AccessLog(nginx.log)
    pids = {**contender.processes(), "postgres": cluster.pid}
    before_rows = database.rows()
    if nginx:
        contender.run(clients, 1, "warm-up")  # caches, connections
        log.settle()
    counted = measure.Connections(cluster.conninfo("postgres"), database.name)
    probe = nginx and load.Probe(nginx.port, f"{LOCATION}?probe")
    before = {name: measure.cpu(pid) for name, pid in pids.items()}
    switches = "handler" in pids and measure.switches(pids["handler"])
    ended = contenders.ended_cpu()
    try:
        seen = contender.run(clients, seconds)
        if not nginx:
            time.sleep(0.3)  # the sessions of pgbench end, and the server inherits what they used
        ended = contenders.ended_cpu() - ended
        cpu = {name: measure.cpu(pid) - before[name] for name, pid in pids.items()}
        switches = "handler" in pids and measure.switches(pids["handler"]) - switches
    finally:
        connections = counted.end()
        probed = probe and probe.end()
    if not nginx:
        cpu["handler"] = ended
    events = seen["events"] + (probed["sent"] if probed else 0)
    result = {"contender": contender.name, "clients": clients, **seen, "connections": connections, "probe": probed,
              "cpu": {name: used / events * 10_000 for name, used in cpu.items()}}  # fmt: skip
    if nginx:
        result["switches"] = switches / events
        result["rss"] = measure.peak_mb(pids["handler"])
        log.settle()
        statuses, served = log.read()
        good = statuses["200"]
        # A connection of the load that is not there was never answered.
        result["fewest"] = served[0] * len(served) / sum(served) if len(served) >= clients else 0
        result["missing"] = database.missing(probe.ids) if probe.ids and probe.ids[0] else None
        result["statuses"] = dict(statuses)
    else:
        good = seen["events"]
    result["surplus"] = None if isinstance(contender, contenders.Empty) else database.rows() - before_rows - good
    return result


@contextlib.contextmanager
def copy(cluster, template="seed"):
    database = contenders.Copy(cluster, template, "bench")
    try:
        yield database
    finally:
        database.drop()


def run(kind, cluster, template, clients, seconds):
    """One contender, once, on a copy of the template."""
    with copy(cluster, template) as database, temporary_folder() as folder:
        syncs, rows = database.syncs(), database.rows()
        contender = kind(folder, database)
        try:
            result = observe(contender, cluster, clients, seconds)
        finally:
            contender.close()
        rows = database.rows() - rows
        return {**result, "shared": rows / (database.syncs() - syncs) if rows else None}


def command(*arguments, **settings):
    done = subprocess.run([TICKETD, *arguments], env=environment(**settings), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def without_web_server(cluster):
    """Other ways of an event into the database: spooled, then drained; and imports, whose batches are always full: so
    fast is the database alone, with the decoding on the other processor."""
    for batch in BATCHES:
        with copy(cluster) as database, temporary_folder() as folder:
            before = database.rows()
            load.write_lines(folder / "lines", LINES)
            text = command("import", str(folder / "lines"), TICKETD_DATABASE=database.handler, TICKETD_BATCH=str(batch))
            rate = float(re.search(r"events/s +(\d+)", text)[1])
            yield {"contender": f"ticketd, import in batches of {batch}", "rate": rate,
                   "surplus": database.rows() - before - LINES}  # fmt: skip
    with copy(cluster) as database, temporary_folder() as folder:
        yield from spooled_and_drained(database, folder)


def spooled_and_drained(database, folder):
    spool = {"TICKETD_SPOOL_DIR": folder / "spool"}

    class Spooled(contenders.Ticketd):
        settings = {**spool, "TICKETD_DATABASE": "host=/nonexistent"}

    contender = Spooled(folder, database)
    log = measure.AccessLog(contender.nginx.log)
    try:
        contender.run(1, 1)  # until it has noticed that there is no database
        for clients in CLIENTS:
            seen = contender.run(clients, SECONDS)
            yield {"contender": "ticketd, spooled", "clients": clients, "surplus": None, **seen}
        log.settle()
    finally:
        contender.close()
    good = log.read()[0]["200"]
    text = command("spool", "drain", TICKETD_DATABASE=database.handler, **spool)
    events, seconds = re.search(r"(\d+) events drained in ([\d.]+)", text).groups()
    yield {"contender": "ticketd, drain", "rate": int(events) / float(seconds), "surplus": database.rows() - good}


def plan():
    """What runs in a round: kind, template, clients."""
    most = CLIENTS[-1]
    every = [(contenders.Ticketd, "seed", n) for n in CLIENTS]
    every += [(kind, "seed", n) for kind in (contenders.Php, contenders.PhpKept) for n in CLIENTS]
    every += [(kind, "seed", n) for kind in (contenders.Pgbench, contenders.PgbenchPlain) for n in PGBENCH_CLIENTS]
    every += [(contenders.Empty, "seed", n) for n in CLIENTS]
    every += [(contenders.Poisoned, "seed", most)]
    every += [(contenders.Grown, "grown", most)] if GROWTH else []
    return [cell for cell in every if wanted(cell[0].name)]


def wanted(name):
    return not ONLY or any(word in name.lower() for word in ONLY)


def make_templates(cluster):
    for name in ["seed"] + (["grown"] if GROWTH else []):
        begun = time.monotonic()
        database = Database(cluster, name)
        load.seed(database)
        if name == "grown":
            load.seed_growth(database, *GROWTH)
        database.query("VACUUM ANALYZE")
        database.connection.close()  # a database that is in use is no template
        print(f"database {name}: made in {time.monotonic() - begun:.0f} s", flush=True)


def facts(cluster):
    """On what this was measured."""
    with contextlib.closing(cluster.connect()) as connection, connection.cursor() as cursor:
        shown = {}
        for name in "server_version fsync synchronous_commit full_page_writes shared_buffers max_wal_size".split():
            cursor.execute(f"SHOW {name}")
            shown[name] = cursor.fetchone()[0]
    assert all(shown[name] == "on" for name in ("fsync", "synchronous_commit", "full_page_writes")), shown
    stat = ["stat", "-f", "-c", "%T", cluster.directory]
    kind = subprocess.run(stat, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        sync = measure.fsync_us(folder)
    if kind == "tmpfs":
        print("WARNING: databases are in memory here, so fsync costs nothing: set TMPDIR to a folder on a disk")
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {"processors": os.cpu_count(), "model": model[1] if model else "", "kernel": os.uname().release,
            "file system": kind, "fdatasync of 8 kB": f"{sync:.0f} us", "load before": f"{os.getloadavg()[0]:.1f}",
            "PostgreSQL": shown.pop("server_version"), **shown, "seconds of a run": SECONDS, "rounds": ROUNDS,
            "PHP-FPM processes": contenders.Php.children}  # fmt: skip


def main():
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all is ended and removed
    if os.environ.get("BENCH_BODIES"):
        return bodies.main()
    results = []

    def note(n, result):
        results.append({"round": n, **result})
        print(f"{n}  {report.line(result)}", flush=True)

    with Cluster(fsync=True, settings=DURABLE) as cluster:
        machine = facts(cluster)
        print("\n".join(f"{name:20} {value}" for name, value in machine.items()), flush=True)
        make_templates(cluster)
        print(f"\n#  {report.HEAD}")
        for n in range(1, ROUNDS + 1):
            for kind, template, clients in plan():
                note(n, run(kind, cluster, template, clients, SECONDS))
            if wanted("ticketd, spooled, drain, import"):
                for result in without_web_server(cluster):
                    note(n, result)
        if SUSTAINED:
            note(1, run(contenders.Sustained, cluster, "seed", CLIENTS[-1], SUSTAINED))

    folder = pathlib.Path(os.environ["BENCH_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"machine": machine, "runs": results}, indent=1) + "\n")
    tables = report.tables(results)
    (folder / "bench.md").write_text(tables)
    (folder / "bench.svg").write_text(picture.picture(results))
    print(f"\n{tables}\n{folder}: results.json, bench.md, bench.svg")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
