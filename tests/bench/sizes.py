#!/usr/bin/python3
"""How many bytes does an event take? The load of the benchmark is imported into a private PostgreSQL that is durable
and has the tickets of the load; then its tables and its WAL are looked at. For tests/bench/scale.py.

    /usr/bin/python3 tests/bench/sizes.py

    SIZES_EVENTS=200000     events

It takes ten seconds. With SIZES_EVENTS=1000000 a checkpoint falls into it: journal and WAL differ by 2 %."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import load  # noqa: E402
from cluster import Cluster  # noqa: E402
from conftest import TICKETD, Database, environment, temporary_folder  # noqa: E402

EVENTS = int(os.environ.get("SIZES_EVENTS") or 200_000)
FIRST = 1_500  # so few that nearly each finds its pages as the checkpoint left them
BATCH = 256


def bytes_of(database, table):
    """Heap with TOAST, and indexes; those of partitions too."""
    return database.query("""SELECT sum(pg_table_size(oid))::bigint, sum(pg_indexes_size(oid))::bigint FROM pg_class
        WHERE oid = %s::regclass OR oid IN (SELECT relid FROM pg_partition_tree(%s))""", *2 * [f"vcc.{table}"])[0]


def imported(database, folder, events, batch):
    """Bytes of WAL an event."""
    load.write_lines(folder / "lines", events)
    database.query("CHECKPOINT")
    begun = database.query("SELECT pg_current_wal_lsn()")[0][0]
    settings = environment(TICKETD_DATABASE=database.handler, TICKETD_BATCH=batch)
    subprocess.run([TICKETD, "import", str(folder / "lines")], env=settings, check=True, capture_output=True)
    return float(database.query("SELECT pg_current_wal_lsn() - %s", begun)[0][0]) / events


def main():
    with Cluster(fsync=True, settings={"synchronous_commit": "on"}) as cluster, temporary_folder() as folder:
        database = Database(cluster, "sizes")
        load.seed(database)
        database.query("VACUUM ANALYZE")
        before = bytes_of(database, "ticket_events")
        wal = imported(database, folder, EVENTS, BATCH)
        heap, indexes = [(now - then) / EVENTS for now, then in zip(bytes_of(database, "ticket_events"), before)]
        print(f"journal: {heap:.0f} bytes an event, its indexes {indexes:.0f}; WAL {wal:.0f}")
        for table in "tickets", "ticket_adds", "deleted_tickets":
            rows = database.query(f"SELECT count(*) FROM vcc.{table}")[0][0]
            print(f"{table}: {sum(bytes_of(database, table)) / rows:.0f} bytes a row, earlier versions among them")
        cold = imported(database, folder, FIRST, 1)
        print(f"WAL {cold:.0f} bytes an event for the first {FIRST:,} after a checkpoint, one a transaction")
        database.connection.close()


if __name__ == "__main__":
    main()
