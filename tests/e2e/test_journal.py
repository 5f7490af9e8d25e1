"""What the handler does for the journal and for its neighbours in the database: partitions, time-outs, its name."""

import subprocess
import time

import conftest
import pytest
from conftest import ROOT, event, wait_until
from test_spool import ask

PARTITIONS = """
    SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'vcc.ticket_events'::regclass ORDER BY 1"""


def post(handler, body):
    return ask(handler.socket, body)[0]


def places(database):
    found = database.query("SELECT tableoid::regclass::text FROM vcc.ticket_events ORDER BY applied_no")
    return [row[0] for row in found]


def test_a_handler_makes_what_is_missing(start, database):
    before = database.query(PARTITIONS)
    assert len(before) == 14  # this month, twelve more, and the default
    this_month = before[0][0]
    database.query(f"DROP TABLE {before[-2][0]}, {this_month}")
    handler = start()
    assert post(handler, event("add")) == 200
    assert database.query(PARTITIONS) == before
    assert places(database) == [this_month]
    assert "partitions" not in handler.log.read_text()


def test_no_partition_is_no_reason_to_refuse(start, database):
    """Not even where the handler may not make one: then the log says so, and the default partition takes the event."""
    this_month = database.query(PARTITIONS)[0][0]
    database.query(f"DROP TABLE {this_month}; REVOKE EXECUTE ON FUNCTION vcc.prepare_journal FROM vcc_writer")
    handler = start()
    assert post(handler, event("add")) == 200
    assert places(database) == ["vcc.ticket_events_default"]
    assert "the journal gets no new partitions now" in handler.log.read_text()
    database.query("GRANT EXECUTE ON FUNCTION vcc.prepare_journal TO vcc_writer")
    handler.stop()
    handler.start()
    assert post(handler, event("delete")) == 200
    assert places(database) == [this_month] * 2


def test_a_partition_that_cannot_be_locked_is_left(start, database):
    """Someone reads the whole journal for long: the handler neither waits for that nor makes others wait."""
    missing = database.query(PARTITIONS)[-2][0]
    database.query(f"DROP TABLE {missing}")
    database.query("BEGIN; SELECT count(*) FROM vcc.ticket_events")
    handler = start(TICKETD_DB_TIMEOUT_MS="1000")
    assert post(handler, event("add")) == 200
    database.query("COMMIT")
    assert missing not in [row[0] for row in database.query(PARTITIONS)]
    handler.stop()
    handler.start()
    assert post(handler, event("delete")) == 200
    assert missing in [row[0] for row in database.query(PARTITIONS)]


@pytest.mark.parametrize("busy", [False, True])
def test_a_connection_may_live_for_years(start, database, folder, monkeypatch, busy):
    """The partitions are looked at each day: here is a ticketd whose day is half a second."""
    subprocess.run(["make", "-s", f"BUILD={folder}/build", "CPPFLAGS=-DJOURNAL_MS=500", "CFLAGS=-O0", "-j2",
                    f"{folder}/build/ticketd"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    monkeypatch.setattr(conftest, "TICKETD", f"{folder}/build/ticketd")
    handler = start()
    assert post(handler, event("add")) == 200
    backend = "SELECT pid FROM pg_stat_activity WHERE usename = 'handler'"
    before = database.value(backend)
    missing = database.query(PARTITIONS)[-2][0]
    database.query(f"DROP TABLE {missing}")

    def is_made():
        if busy:
            assert post(handler, event("update", title=str(time.time()))) == 200
        return missing in [row[0] for row in database.query(PARTITIONS)]
    wait_until(is_made, 5, "the partition")
    database.query("SELECT pg_stat_clear_snapshot()")
    assert database.value(backend) == before, "it has connected again"


def test_nothing_waits_in_the_database_longer_than_the_handler(start, database):
    handler = start(TICKETD_DB_TIMEOUT_MS="1000")
    assert post(handler, event("add")) == 200
    assert database.query("SELECT application_name FROM pg_stat_activity WHERE usename = 'handler'") == [("ticketd",)]
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    for _ in range(3):
        assert post(handler, event("update", title="a")) == 503
    waiting = database.handler_waits_for_a_lock()
    wait_until(lambda: database.handler_waits_for_a_lock() == 0, 2, "the end of all waiting")
    database.query("COMMIT")
    assert waiting <= 1
    time.sleep(0.2)
    assert database.value("SELECT title FROM vcc.tickets") != "a", "it was applied after all"
