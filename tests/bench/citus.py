#!/usr/bin/python3
"""Events a second on a real Citus (a coordinator and two workers, all on this machine) beside a plain database in the
coordinator's server, in turn: by 64 clients through nginx with four writers, and by import. Where the server does not offer
the extension it says so.

    BENCH_S=10 BENCH_ROUNDS=3 BENCH_PROJECTS="4 20" python3 tests/bench/citus.py
"""

import os
import pathlib
import re
import statistics
import sys
from contextlib import ExitStack

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
os.environ["PATH"] += ":/usr/sbin:/sbin"
import bench  # noqa: E402
import contenders  # noqa: E402
import load  # noqa: E402
from cluster import Cluster  # noqa: E402
from conftest import Database, temporary_folder  # noqa: E402
from test_distributed import Nodes  # noqa: E402

CLIENTS, WRITERS = 64, 4
EMPTY = "DELETE FROM vcc.tickets; DELETE FROM vcc.ticket_events; DELETE FROM vcc.deleted_tickets; DELETE FROM vcc.ticket_adds"


class Ticketd(contenders.Ticketd):
    settings = {"TICKETD_WRITERS": WRITERS}


def served(database, folder):
    contender = Ticketd(folder, database)
    try:
        contender.run(CLIENTS, 3, "warm-up")
        seen = contender.run(CLIENTS, bench.SECONDS)
        assert seen["bad"] == 0, seen
        return seen["rate"]
    finally:
        contender.close()


def imported(database, folder):
    load.write_lines(folder / "lines", bench.LINES)
    text = bench.command("import", str(folder / "lines"), TICKETD_DATABASE=database.handler)
    return float(re.search(r"events/s +(\d+)", text)[1])


def main():
    with Cluster() as cluster:
        if not cluster.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'citus'"):
            sys.exit("the server does not offer the extension citus")
    with ExitStack() as stack:
        nodes = Nodes(stack, fsync=True)
        plain = Database(nodes.database.cluster, "plain")
        for projects in map(int, bench.setting("PROJECTS", "4 20").split()):
            load.PROJECTS = projects
            for what in served, imported:
                rates = {plain: [], nodes.database: []}
                for database in [plain, nodes.database] * bench.ROUNDS:
                    for statement in EMPTY.split(";"):
                        database.query(statement)
                    with temporary_folder() as folder:
                        rates[database].append(what(database, folder))
                ratios = [b / a for a, b in zip(*rates.values())]
                print(f"{projects} projects, {what.__name__}: plain {statistics.median(rates[plain]):,.0f}/s, "
                      f"Citus {statistics.median(rates[nodes.database]):,.0f}/s, ratio {statistics.median(ratios):.2f} "
                      f"({min(ratios):.2f} to {max(ratios):.2f})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
