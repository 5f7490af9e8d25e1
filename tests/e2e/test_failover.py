"""The primary dies or hangs under load, and its synchronous standby takes over: nothing answered 200 is lost."""

import contextlib
import threading
import time
from collections import defaultdict

import pytest
from cluster import Cluster, Standby
from conftest import Database, Handler, event, wait_until
from test_spool import ask, waiting

CLIENTS = 8
TIMEOUT_MS = 1000


class Pair:
    """A primary that answers a commit when its standby has it, and a handler that knows both."""

    def __init__(self, stack, folder, with_spool):
        self.primary = stack.enter_context(Cluster(settings={"wal_level": "replica", "hot_standby": "on"}))
        database = Database(self.primary, "tickets")
        stack.callback(database.connection.close)
        self.standby = stack.enter_context(Standby(self.primary))
        self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self.primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)], 20,
                   "the standby")  # fmt: skip
        self.conninfo = (f"host={self.primary.directory},{self.standby.directory} dbname=tickets user=handler "
                         "target_session_attrs=read-write")  # fmt: skip
        settings = {"TICKETD_SPOOL_DIR": str(folder / "spool")} if with_spool else {}
        self.handler = Handler(folder, database, TICKETD_DATABASE=self.conninfo, TICKETD_DB_TIMEOUT_MS=TIMEOUT_MS,
                               **settings)  # fmt: skip
        stack.callback(self.handler.stop)

    def query(self, sql):
        return self.standby.execute(sql, dbname="tickets")


@pytest.fixture
def pair(folder):
    with contextlib.ExitStack() as stack:
        yield lambda with_spool: Pair(stack, folder, with_spool)


class Load:
    """Clients, each with a ticket of its own, that send one update after the other until they are told to end."""

    def __init__(self, handler, pause=0):
        self.handler = handler
        self.pause = pause
        self.answers = defaultdict(list)  # (status, result, event, title, when) of each ticket
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(n,)) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def client(self, n):
        i = 0
        while not self.over.is_set():
            i += 1
            title = f"{n}/{i}"
            status, answer, _ = ask(self.handler.socket, event("update", n, title=title))
            self.answers[n].append((status, answer.get("result"), answer.get("event"), title, time.monotonic()))
            # Faster than the database on a slow machine, eight tickets would never see the end of what waits for them.
            time.sleep(0.05 if answer.get("result") not in ("inserted", "updated") else self.pause)

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def count(self, *results):
        return sum(result in results for answers in list(self.answers.values()) for _, result, *_ in list(answers))

    def committed_since(self, begun):
        return [when for answers in list(self.answers.values()) for _, result, _, _, when in list(answers)
                if when > begun and result in ("inserted", "updated")]  # fmt: skip


def restart_and_drain(handler):
    """What the last moment left in the spool comes into the database."""
    assert handler.stop() == 0, handler.log.read_text()
    handler.start()
    wait_until(lambda: waiting(handler.log.parent / "spool") == 0, 20, "the drain")


def assert_nothing_is_lost(load, query):
    """Each event answered 200 is in the journal once, and no ticket is older than its last one. Returns their number."""
    good = {identifier: title for answers in load.answers.values() for status, _, identifier, title, _ in answers
            if status == 200}  # fmt: skip
    rows = query("SELECT event_id::text, payload #>> '{ticket,title}' FROM vcc.ticket_events")
    journal = dict(rows)
    assert len(journal) == len(rows), "an event is there twice"
    lost = good.keys() - journal.keys()
    assert not lost, f"{len(lost)} of {len(good)} answered 200 are not there"
    assert {identifier: journal[identifier] for identifier in good} == good
    for n, answers in load.answers.items():
        last = [title for status, _, _, title, _ in answers if status == 200][-1]
        title = query(f"SELECT title FROM vcc.tickets WHERE ticket_id = {n}")[0][0]
        sent = [title for *_, title, _ in answers]
        assert sent.index(title) >= sent.index(last)  # a 503 at the end may be committed all the same
    return len(good)


@pytest.mark.parametrize("with_spool", [True, False], ids=["spool", "no spool"])
@pytest.mark.parametrize("how", ["killed", "frozen", "left"])
def test_the_standby_takes_over(pair, how, with_spool):
    p = pair(with_spool)
    load = Load(p.handler)
    try:
        wait_until(lambda: load.count("updated") > 200, 20, "load")
        if how != "left":  # its commits wait for its standby then, which is none any more: for ever, with their locks
            p.primary.kill9() if how == "killed" else p.primary.freeze()
            wait_until(lambda: load.count("spooled") > 50 or load.count(None) > 50, 20, "the outage to be noticed")
        p.standby.promote()
        promoted = time.monotonic()
        # A host that hangs is left after TICKETD_DB_TIMEOUT_MS, and the next one is tried first.
        wait_until(lambda: load.committed_since(promoted), 60, "the first commit there")
        seconds = min(load.committed_since(promoted)) - promoted
        before = load.count("updated")
        wait_until(lambda: load.count("updated") > before + 200, 60, "full work again")
    finally:
        load.end()
    restart_and_drain(p.handler)
    if how != "killed":
        p.primary.kill9()  # never again, as its fence would do
    good = assert_nothing_is_lost(load, p.query)
    statuses = {status for answers in load.answers.values() for status, *_ in answers}
    # Those whose commit waited for the standby that left are tried again on it, in time.
    assert statuses == {200} if with_spool else statuses <= {200, 503} if how == "left" else statuses == {200, 503}
    print(f"{how}: back {seconds:.1f} s after the promotion, {good} events answered 200")
