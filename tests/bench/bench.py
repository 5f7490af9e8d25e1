#!/usr/bin/python3
"""How fast: through nginx with the database there and away, the drain of what was spooled, and an import. All in one
run, on one machine, which the load generator shares; PostgreSQL with fsync.

    make bench BENCH_S=8 BENCH_CLIENTS="64 256" BENCH_ROUNDS=2
"""

import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

from cluster import Cluster  # noqa: E402
from conftest import LOCATION, TICKETD, Database, Handler, Nginx, environment  # noqa: E402

SECONDS = int(os.environ.get("BENCH_S", 8))
CLIENTS = [int(n) for n in os.environ.get("BENCH_CLIENTS", "1 64 256").split()]
ROUNDS = int(os.environ.get("BENCH_ROUNDS", 2))
LINES = 150_000


def wrk(port, clients):
    """Events a second and two percentiles; every answer must be 200."""
    text = subprocess.run(["wrk", f"-t{min(2, clients)}", f"-c{clients}", f"-d{SECONDS}s", "--latency", "-s",
                           str(HERE / "load.lua"), f"http://127.0.0.1:{port}{LOCATION}"],
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    if "Non-2xx" in text or "Socket errors" in text:
        print(text)
    rate, p50, p99 = (re.search(pattern, text)[1] for pattern in (r"Requests/sec: +([\d.]+)", r"50% +(\S+)", r"99% +(\S+)"))
    return float(rate), p50, p99


def command(*arguments, **settings):
    done = subprocess.run([TICKETD, *arguments], env=environment(**settings), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout


def lines(path):
    body = re.findall(r"'([^']*)'", (HERE / "load.lua").read_text())
    body = "".join(part for part in body if part[0] in '{"')
    with open(path, "w") as file:
        for n in range(LINES):
            ticket = n * 7919 % 50000 + 1
            file.write(body % (ticket, ticket, 0, n) + "\n")


def main():
    results = {}

    def note(what, rate, *more):
        results.setdefault(what, []).append(rate)
        print(f"{what:32}{rate:10,.0f}  {' '.join(more)}", flush=True)

    with Cluster(fsync=True) as cluster:
        for n in range(ROUNDS):
            database = Database(cluster, f"bench{n}")
            folder = pathlib.Path(tempfile.mkdtemp(prefix="ticketd-"))
            spool = {"TICKETD_SPOOL_DIR": folder / "spool"}
            handler = Handler(folder, database, **spool)
            nginx = Nginx(folder, handler.socket)
            try:
                for away in False, True:
                    handler.stop()
                    if away:
                        handler.settings.update(TICKETD_DATABASE="host=/nonexistent", TICKETD_DB_TIMEOUT_MS="100")
                    handler.start()
                    for clients in CLIENTS:
                        note(f"{'spooled' if away else 'committed'}, {clients} clients", *wrk(nginx.port, clients))
                handler.stop()
                events, seconds = re.search(r"(\d+) events drained in ([\d.]+)", command(
                    "spool", "drain", TICKETD_DATABASE=database.handler, **spool)).groups()  # fmt: skip
                note("drained", int(events) / float(seconds), f"{int(events):,} events")
                lines(folder / "lines")
                text = command("import", str(folder / "lines"), TICKETD_DATABASE=database.handler)
                note("imported", float(re.search(r"events/s +(\d+)", text)[1]), f"{LINES:,} lines")
            finally:
                nginx.stop()
                handler.stop()
                shutil.rmtree(folder)
                database.connection.close()
    print(f"\n{'events a second':32}{'median':>10}{'least':>10}{'most':>10}")
    for what, rates in results.items():
        print(f"{what:32}{statistics.median(rates):10,.0f}{min(rates):10,.0f}{max(rates):10,.0f}")


if __name__ == "__main__":
    main()
