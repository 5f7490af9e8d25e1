"""The functions that keep the tickets: long random sequences against the model, sessions that hammer the same tickets,
and the meetings of two or three sessions one by one. Events go in batches, as the handler sends them, and one a call.

SQL_DIR names another directory of SQL files: a broken copy must turn these tests red.
"""

import contextlib
import json
import os
import random
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import psycopg2
import psycopg2.extensions
import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import SQL_DIR, Cluster  # noqa: E402
from conftest import wait_until  # noqa: E402
from model import COLUMNS, FIELDS, Model, compare, decode, random_body, random_events  # noqa: E402

# A failing run prints its seed; SEED=… repeats it.
SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else [1, 2, 3]

TYPES = {"event_id": "uuid", "received_at": "timestamptz", "action": "text", "payload": "text", "project_id": "bigint",
         "ticket_id": "bigint"}  # fmt: skip
COLUMN_TYPES = {column: {"integer": "bigint", "text": "text", "time": "timestamptz"}[kind]
                for column, kind in FIELDS.values()}  # fmt: skip


def call(function, types):
    return f"SELECT vcc.{function}({', '.join(f'{name} => %({name})s::{kind}' for name, kind in types.items())})"


BATCH_TYPES = {**TYPES, "attributes": "text", "extra_names": "text"}
APPLY = call("apply_events", {**{name: kind + "[]" for name, kind in BATCH_TYPES.items()}, "repeats": "boolean"})
UPSERT = call("upsert_ticket", {**TYPES, "clears": "text[]", "extra_names": "text[]", **COLUMN_TYPES})
DELETE = call("delete_ticket", {name: kind for name, kind in TYPES.items() if name != "action"})
TABLES = ["vcc.tickets", "vcc.deleted_tickets", "vcc.ticket_adds", "vcc.ticket_events"]
EMPTY = "TRUNCATE " + ", ".join(TABLES)
# A unique violation is the journal's: another session applied one of the events.
RETRIED = (psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected, psycopg2.errors.UniqueViolation)


class Arrival:
    """A body with what the handler gives it at receipt."""

    counter = 0
    lock = threading.Lock()

    def __init__(self, body):
        with Arrival.lock:
            Arrival.counter += 1
            n = Arrival.counter
        self.body = body
        self.event = decode(body)
        self.key = self.event.key
        self.sent = False  # to some session, before
        self.id = uuid.UUID(int=(n << 80) | (7 << 76) | (2 << 62))  # time-ordered, like a UUIDv7
        self.received_at = time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(1708000000 + n))

    def __repr__(self):
        return f"{self.event.action} {self.key} {self.id} {self.body!r}"


def values_of(arrival):
    """What all functions are given."""
    return {"event_id": str(arrival.id), "received_at": arrival.received_at, "action": arrival.event.action,
            "payload": arrival.event.body.decode(), "project_id": arrival.key[0], "ticket_id": arrival.key[1]}  # fmt: skip


def fetch(connection, statement, values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0]


def apply(connection, arrival):
    """Applies one event and returns its result. Commits only where the connection is in autocommit."""
    columns = arrival.event.columns
    values = {**values_of(arrival), **dict.fromkeys(COLUMNS), **columns,
              "clears": [column for column, value in columns.items() if value is None] or None,
              "extra_names": list(arrival.event.extra) or None}  # fmt: skip
    return fetch(connection, DELETE if arrival.event.action == "delete" else UPSERT, values)


def apply_events(connection, arrivals):
    """Applies events of different tickets in one call and returns their results."""
    events = [{**values_of(arrival), "attributes": json.dumps(arrival.event.columns, default=str),
               "extra_names": json.dumps(dict.fromkeys(arrival.event.extra)) if arrival.event.extra else None}
              for arrival in arrivals]  # fmt: skip
    repeats = any(arrival.sent for arrival in arrivals)
    for arrival in arrivals:
        arrival.sent = True
    return fetch(connection, APPLY, {**{name: [event[name] for event in events] for name in BATCH_TYPES}, "repeats": repeats})


def one_by_one(connection, arrivals):
    """Applies events sorted by ticket and returns their results in the order given."""
    order = sorted(range(len(arrivals)), key=lambda place: arrivals[place].key)  # stable: a ticket's keep their order
    results = {place: apply(connection, arrivals[place]) for place in order}
    return [results[place] for place in range(len(arrivals))]


def in_rounds(connection, arrivals):
    """The same as the handler does it: the first event of each ticket in one call, then the second of each."""
    turns, rounds, results = Counter(), defaultdict(list), {}
    for place, arrival in enumerate(arrivals):
        rounds[turns[arrival.key]].append((arrival.key, place))
        turns[arrival.key] += 1
    for turn in range(len(rounds)):
        places = [place for _, place in sorted(rounds[turn])]
        results.update(zip(places, apply_events(connection, [arrivals[place] for place in places])))
    return [results[place] for place in range(len(arrivals))]


@pytest.fixture(params=[one_by_one, in_rounds], ids=lambda way: way.__name__)
def way(request):
    return request.param


@pytest.fixture(scope="module")
def cluster():
    # Deadlocks are met on purpose, by the dozen: a second's wait for each would be long.
    with Cluster(settings={"deadlock_timeout": "20ms"}) as cluster:
        cluster.createdb("tickets")
        cluster.install_schema("tickets", os.environ.get("SQL_DIR", SQL_DIR))
        yield cluster


@pytest.fixture
def connect(cluster):
    """Makes connections to a database without tickets; what a test leaves open is closed."""
    cluster.execute(EMPTY, dbname="tickets")
    with contextlib.ExitStack() as stack:

        def make(autocommit=False):
            connection = cluster.connect("tickets", autocommit=autocommit)
            stack.callback(connection.close)
            return connection

        yield make


@pytest.fixture
def admin(connect):
    return connect(autocommit=True)


def query(connection, sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def execute(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


def state(connection):
    """Everything that events change, with the places of the rows: a rewritten row shows."""
    return [query(connection, f"SELECT ctid::text, t::text FROM {table} t ORDER BY ctid")
            for table in TABLES]


# -- sequences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tickets", [3, 150])
def test_random_sequence(connect, way, seed, tickets):
    """Thousands of events, each result and the final state as the model says."""
    rng = random.Random(seed * 1000 + tickets)
    keys = [(1 + n % 3, 1 + n // 3) for n in range(tickets)]
    connection, model = connect(), Model()
    arrivals = [Arrival(body) for body in random_events(rng, 2000, keys)]
    expected = {arrival: model.apply(arrival.event) for arrival in arrivals}
    done = 0
    while done < len(arrivals):
        batch = arrivals[done:done + rng.randint(1, 80)]
        done += len(batch)
        batch += rng.choices(arrivals[:done], k=rng.randint(0, 4))  # the answer to an earlier commit was lost
        wrong = [f"{arrival}: {result}, expected {expected[arrival]}"
                 for arrival, result in zip(batch, way(connection, batch)) if result != expected[arrival]]  # fmt: skip
        assert not wrong, f"SEED={seed}, up to event {done}\n" + "\n".join(wrong)
        if rng.random() < 0.5:
            connection.commit()
    differences = compare(connection, model)
    assert not differences, f"SEED={seed}\n" + "\n".join(differences)
    # The sequence must have met every kind of result, or it proves little.
    seen = Counter((arrival.event.action, result) for arrival, result in expected.items())
    for action, results in {"add": "inserted updated unchanged ignored", "update": "inserted updated unchanged ignored",
                            "delete": "deleted unchanged"}.items():  # fmt: skip
        assert all(seen[action, result] for result in results.split()), seen


# -- many sessions --------------------------------------------------------------------------------------------------


def settle(connection, way, batch):
    """One batch as the handler's writer does it: one transaction, tried again until it commits. Returns the results."""
    while batch:
        try:
            results = way(connection, batch)
            connection.commit()
            return results
        except RETRIED:
            connection.rollback()
    return []


def in_threads(count, work):
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(work, n) for n in range(count)]:
            future.result(120)


@pytest.mark.parametrize("seed", SEEDS)
def test_sessions_hammer_the_same_tickets(connect, admin, way, seed):
    keys = [(1, 1), (1, 2), (2, 1)]
    rng = random.Random(seed)
    shared = [Arrival(body) for body in random_events(rng, 200, keys)]  # a spool that everyone drains
    sent, answers, lock = list(shared), [], threading.Lock()
    connections = [connect() for _ in range(6)]

    def work(n):
        rng = random.Random(seed * 100 + n)
        own = [Arrival(body) for body in random_events(rng, 200, keys)]
        with lock:
            sent.extend(own)
        queue = own + shared
        rng.shuffle(queue)
        while queue:
            batch = [queue.pop() for _ in range(min(len(queue), rng.randint(1, 12)))]
            results = settle(connections[n], way, batch)
            if rng.random() < 0.1:
                assert settle(connections[n], way, batch) == results  # the answer to the commit was lost
            with lock:
                answers.extend(zip(batch, results))

    in_threads(6, work)
    message = f"SEED={seed}"

    journal = query(admin, "SELECT event_id, project_id, ticket_id, result FROM vcc.ticket_events")
    assert sorted(row[0] for row in journal) == sorted(str(a.id) for a in sent), message  # each exactly once
    recorded = {row[0]: row[3] for row in journal}
    assert [] == [(a, result) for a, result in answers if recorded[str(a.id)] != result], message

    rows = set(query(admin, "SELECT project_id, ticket_id FROM vcc.tickets"))
    deleted = set(query(admin, "SELECT project_id, ticket_id FROM vcc.deleted_tickets"))
    assert not rows & deleted, message
    # The results tell each ticket's life: as often made as deleted, or once more.
    for key in keys:
        results = Counter(row[3] for row in journal if row[1:3] == key)
        assert results["inserted"] - results["deleted"] == (key in rows), f"{message} {key} {results}"
        assert (key in rows) != (key in deleted), f"{message} {key}"

    # Each different add is remembered once, whatever came of it.
    adds = {(a.key, a.body) for a in sent if a.event.action == "add"}
    assert query(admin, "SELECT count(*) FROM vcc.ticket_adds") == [(len(adds),)], message


@pytest.mark.parametrize("seed", SEEDS)
def test_deleted_tickets_stay_away(connect, admin, way, seed):
    """Updates from all sides while others delete: once a delete is committed, the ticket does not come back."""
    keys = [(1, n) for n in range(40)]
    connections = [connect() for _ in range(6)]

    def work(n):
        rng = random.Random(seed * 100 + n)
        for some in zip(keys[::2], keys[1::2]):
            # All meet at one pair of tickets after the other, some before the delete, some after it.
            batch = []
            for key in some:
                events = [Arrival(random_body(rng, key, ("update",))) for _ in range(rng.randint(0, 3))]
                if n < 2:
                    events.insert(rng.randint(0, len(events)), Arrival(random_body(rng, key, ("delete",))))
                batch += events
            settle(connections[n], way, batch)

    in_threads(6, work)
    assert query(admin, "SELECT * FROM vcc.tickets") == [], f"SEED={seed}"
    assert query(admin, "SELECT count(*) FROM vcc.deleted_tickets") == [(len(keys),)], f"SEED={seed}"


# -- two sessions meet ----------------------------------------------------------------------------------------------


class Session:
    """A database session that runs one thing at a time beside the test. What it applies is an event or a list of them,
    which is a batch."""

    def __init__(self, connection, admin):
        self.connection, self.admin = connection, admin
        self.pid = connection.get_backend_pid()
        self.pool = ThreadPoolExecutor(1)

    def now(self, work):
        """Applies what nothing holds up."""
        return self.begin(work).result(20)

    def begin(self, work):
        """Starts to apply events and returns the future of their results."""
        return self.pool.submit(in_rounds if isinstance(work, list) else apply, self.connection, work)

    def blocked(self, work):
        """Starts to apply what has to wait for another session, and returns its future once it waits."""
        return self.wait_for(self.begin(work), work)

    def wait_for(self, future, what):
        deadline = time.monotonic() + 20
        while not query(self.admin, "SELECT pg_blocking_pids(%s) <> '{}'", self.pid)[0][0]:
            if future.done():
                raise AssertionError(f"did not wait: {future.exception() or future.result()}: {what}")
            assert time.monotonic() < deadline, "neither waits nor returns"
            time.sleep(0.002)
        return future

    def commit(self):
        self.pool.submit(self.connection.commit).result(20)

    def rollback(self):
        self.pool.submit(self.connection.rollback).result(20)

    def finish(self, future, work):
        """What the handler makes of a call: its result, committed; tried again after a serialization failure."""
        try:
            result = future.result(20)
        except RETRIED:
            self.rollback()
            result = self.now(work)
        self.commit()
        return result


@pytest.fixture
def sessions(connect, admin):
    made = [Session(connect(), admin) for _ in range(2)]
    yield made
    for session in made:
        session.connection.cancel()  # where a test failed, the other one may still wait
        session.pool.shutdown()


def meet(sessions, first, late, end=Session.commit, waits=True):
    """The late work comes in the second session while the first one's is open: the results of both."""
    one, two = sessions
    result = one.now(first)
    if waits:
        future = two.blocked(late)
    else:
        future = two.begin(late)
        time.sleep(0.2)  # it may wait or not
    end(one)
    return result, two.finish(future, late)


def event(action, attributes="", ticket=1):
    body = f'{{"action": "{action}", "ticket": {{"projectId": 1, "ticketId": {ticket}{attributes}}}}}'
    return Arrival(body.encode())


def make_event(action, title, ticket=1):
    return event(action, f', "title": "{title}"' if title else "", ticket)


def add(title, ticket=1):
    return make_event("add", title, ticket)


def update(title, ticket=1):
    return make_event("update", title, ticket)


def delete(ticket=1):
    return make_event("delete", "", ticket)


def titles(connection, ticket=1):
    return [title for title, in query(connection, "SELECT title FROM vcc.tickets WHERE ticket_id = %s", ticket)]


def assert_consistent(connection):
    """A ticket is there or deleted, and its results say so."""
    both = query(connection, "SELECT * FROM vcc.tickets JOIN vcc.deleted_tickets USING (project_id, ticket_id)")
    assert both == [], "a ticket is there and deleted at once"
    balance = query(connection, """SELECT count(*) FILTER (WHERE result = 'inserted')
        - count(*) FILTER (WHERE result = 'deleted') - (SELECT count(*) FROM vcc.tickets) FROM vcc.ticket_events""")
    assert balance == [(0,)], "the journal's results do not add up to the tickets there are"


# What happened to the ticket before, as events; then two events that meet.
NOTHING = ()
UPDATED = (("update", "old"),)
ADDED = (("add", "old"),)
DELETED = (("add", "old"), ("delete", ""))
DELETED_UNSEEN = (("delete", ""),)


def prepare(connection, history):
    for action, title in history:
        apply(connection, make_event(action, title))


def test_delete_without_row_then_update(sessions, admin):
    """The update waits for the open delete, and then the ticket is deleted."""
    late = update("late")
    assert meet(sessions, delete(), late) == ("unchanged", "ignored")
    assert titles(admin) == []
    assert_consistent(admin)


def test_delete_without_row_rolled_back_then_update(sessions, admin):
    assert meet(sessions, delete(), update("a"), end=Session.rollback) == ("unchanged", "inserted")
    assert titles(admin) == ["a"]


def test_update_inserts_then_delete(sessions, admin):
    """The delete waits for the row that is being made, and deletes it."""
    assert meet(sessions, update("a"), delete()) == ("inserted", "deleted")
    assert titles(admin) == []
    assert_consistent(admin)


def test_update_rolled_back_then_delete(sessions, admin):
    assert meet(sessions, update("a"), delete(), end=Session.rollback) == ("inserted", "unchanged")
    assert query(admin, "SELECT count(*) FROM vcc.deleted_tickets") == [(1,)]


def test_two_deletes_without_row(sessions, admin):
    assert meet(sessions, delete(), delete()) == ("unchanged", "unchanged")
    assert query(admin, "SELECT count(*) FROM vcc.deleted_tickets") == [(1,)]
    assert_consistent(admin)


@pytest.mark.parametrize("history, make, title", [(ADDED, update, "b"), (UPDATED, update, "b"), (ADDED, add, "b")])
def test_delete_then_event(admin, sessions, history, make, title):
    """A row is being deleted while an event for it comes."""
    prepare(admin, history)
    assert meet(sessions, delete(), make(title)) == ("deleted", "inserted" if make is add else "ignored")
    assert titles(admin) == ([title] if make is add else [])
    assert_consistent(admin)


@pytest.mark.parametrize("make", [update, add])
def test_event_then_delete(admin, sessions, make):
    """A row is being changed while its delete comes."""
    prepare(admin, ADDED)
    assert meet(sessions, make("b"), delete()) == ("updated", "deleted")
    assert titles(admin) == []
    assert_consistent(admin)


def test_delete_and_new_add_in_one_transaction(admin, sessions):
    """The row that another session waits for is replaced by a new one."""
    prepare(admin, ADDED)
    for first, second, result, after in [(delete(), add("b"), "updated", ["late"]), (delete(), add("c"), "deleted", [])]:
        one, two = sessions
        assert one.now(first) == "deleted"
        assert one.now(second) == "inserted"
        late = update("late") if result == "updated" else delete()
        future = two.blocked(late)
        one.commit()
        assert two.finish(future, late) == result
        assert titles(admin) == after
        assert_consistent(admin)


# -- add meets add --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history, first_result", [(NOTHING, "inserted"), (UPDATED, "unchanged"), (ADDED, "updated"),
                                                   (DELETED, "inserted")])  # fmt: skip
@pytest.mark.parametrize("same", [True, False])
def test_add_then_add(admin, sessions, history, first_result, same):
    """Two adds at once: the second sees the first, so the same changes nothing and another overwrites."""
    prepare(admin, history)
    assert meet(sessions, add("a"), add("a" if same else "b")) == (first_result, "unchanged" if same else "updated")
    assert titles(admin) == ["b" if not same else "old" if history is UPDATED else "a"]
    assert_consistent(admin)


def test_first_add_and_update(sessions, admin):
    """An update that inserts and the first add at once: the add only fills."""
    late = event("add", ', "title": "from add", "status": "park"')
    assert meet(sessions, update("from update"), late) == ("inserted", "updated")
    assert query(admin, "SELECT title, status FROM vcc.tickets") == [("from update", "park")]


@pytest.mark.parametrize("history", [DELETED_UNSEEN, UPDATED + DELETED_UNSEEN])
def test_first_adds_of_a_deleted_ticket(admin, sessions, history):
    """The first add was overtaken, another one that comes meanwhile is new: one of the two brings the ticket back."""
    prepare(admin, history)
    assert meet(sessions, add("a"), add("b"), waits=False) == ("ignored", "inserted")
    assert titles(admin) == ["b"]
    assert_consistent(admin)


@pytest.mark.parametrize("history", [DELETED_UNSEEN, DELETED])
def test_same_add_of_a_deleted_ticket(admin, sessions, history):
    """The same add from two senders' tries: neither counts as new beside the other."""
    prepare(admin, history)
    results = meet(sessions, add("a"), add("a"), waits=False)
    assert results == (("ignored", "ignored") if history is DELETED_UNSEEN else ("inserted", "unchanged"))
    assert query(admin, "SELECT count(*) FROM vcc.ticket_adds") == [(1 if history is DELETED_UNSEEN else 2,)]
    assert_consistent(admin)


# -- delete meets the add that brings the ticket back ---------------------------------------------------------------


def test_new_add_then_delete(admin, sessions):
    """The ticket is deleted, a new add is bringing it back, and another delete comes: it must not be lost between the
    old deletion that it sees and the new row that it does not."""
    prepare(admin, DELETED)
    first_result, result = meet(sessions, add("b"), delete(), waits=False)
    assert first_result == "inserted"
    assert_consistent(admin)
    # Both orders are right for two hosts, but not a mixture.
    assert (result, titles(admin)) in [("deleted", []), ("unchanged", ["b"])]
    deleted = query(admin, "SELECT count(*) FROM vcc.deleted_tickets")
    assert deleted == [(1 if result == "deleted" else 0,)]


def test_repeated_delete_then_new_add(admin, sessions):
    """The second delete found nothing and is still open while the new add comes."""
    prepare(admin, DELETED)
    assert meet(sessions, delete(), add("b"), waits=False) == ("unchanged", "inserted")
    assert titles(admin) == ["b"]
    assert_consistent(admin)


def test_new_add_rolled_back_then_delete(admin, sessions):
    prepare(admin, DELETED)
    assert meet(sessions, add("b"), delete(), end=Session.rollback, waits=False) == ("inserted", "unchanged")
    assert titles(admin) == []
    assert query(admin, "SELECT count(*) FROM vcc.deleted_tickets") == [(1,)]


# A function looks at several tables one after the other, and others may commit in between. A lock on a table, held by
# a session that then does what happens meanwhile, stops the function at its first statement that the lock forbids.
LOOK = "vcc.ticket_adds IN ACCESS EXCLUSIVE"  # the tickets are locked, not yet looked at
WRITE = "vcc.tickets IN SHARE"  # they are looked at, and nothing is written yet
LOCKS = [
    "vcc.tickets IN EXCLUSIVE",  # at the lock of the tickets
    "vcc.deleted_tickets IN EXCLUSIVE",  # at that of their deletions
    "vcc.ticket_events IN ACCESS EXCLUSIVE",  # when it looks for repeats
    LOOK,
    WRITE,
    "vcc.deleted_tickets IN SHARE",
    "vcc.ticket_adds IN SHARE",
    "vcc.ticket_events IN SHARE",
]
LATE = {"update": ("update", "late"), "add": ("add", "late"), "repeated add": ("add", "old"), "delete": ("delete", "")}
MEANWHILE = [
    [("update", "b")], [("add", "late")], [("add", "b")], [("delete", "")], [("add", "b"), ("delete", "")],
    [("add", "late"), ("delete", "")], [("delete", ""), ("add", "b")], [("delete", ""), ("add", "late")],
    [("delete", ""), ("add", "late"), ("delete", "")],
]  # fmt: skip
HISTORIES = {"nothing": NOTHING, "updated": UPDATED, "added": ADDED, "deleted": DELETED, "never seen": DELETED_UNSEEN}


def serial_outcomes(history, late, others):
    """What the model says of the late event before, between and behind the others: their results, its result, titles."""
    outcomes = []
    for place in range(len(others) + 1):
        model = Model()
        for action, title in history:
            model.apply(make_event(action, title).event)
        order = others[:place] + [late] + others[place:]
        results = {arrival.id: model.apply(arrival.event) for arrival in order}
        outcomes.append(([results[arrival.id] for arrival in others + [late]],
                         [ticket.columns.get("title") for ticket in model.tickets.values()]))  # fmt: skip
    return outcomes


def race(admin, session, other, lock, history, late, others):
    """Applies `late` in `session`, in a batch with events of other tickets; where it comes to `lock`, `others` are
    committed first. Returns the results as serial_outcomes does; None where the two did not meet."""
    for table in TABLES:  # sooner done than TRUNCATE
        execute(admin, f"DELETE FROM {table}")
    prepare(admin, history)
    execute(other, f"LOCK TABLE {lock} MODE")
    batch = [update("before", ticket=0), late, update("behind", ticket=2)]
    future = session.begin(batch)
    while not future.done() and not query(admin, "SELECT pg_blocking_pids(%s) <> '{}'", session.pid)[0][0]:
        time.sleep(0.0005)
    try:
        if not future.done():
            results = [apply(other, arrival) for arrival in others]
            other.commit()
            before, result, behind = session.finish(future, batch)
            assert (before, behind) == ("inserted", "inserted")
            return results + [result], titles(admin)
    except RETRIED:
        pass  # they waited for each other, and this one was sent home: the handler's next try is an ordinary one
    other.rollback()
    session.finish(future, batch)
    return None


@pytest.mark.parametrize("kind", LATE)
@pytest.mark.parametrize("before", HISTORIES)
def test_others_commit_in_between(connect, admin, sessions, kind, before):
    """Whatever is committed while a function is half-way: the outcome is that of some order of the events."""
    other, wrong, met = connect(), [], 0
    for lock in LOCKS:
        for meanwhile in MEANWHILE:
            late, others = make_event(*LATE[kind]), [make_event(*each) for each in meanwhile]
            found = race(admin, sessions[0], other, lock, HISTORIES[before], late, others)
            met += found is not None
            if found and found not in serial_outcomes(HISTORIES[before], late, others):
                wrong.append(f"{lock}, meanwhile {meanwhile}: {found}")
            try:
                assert_consistent(admin)
            except AssertionError as error:
                wrong.append(f"{lock}, meanwhile {meanwhile}: {error}")
    assert not wrong, "\n".join(wrong)
    assert met > len(MEANWHILE), "the locks stopped hardly anything: the test proves little"


# -- one of a batch meets another session ---------------------------------------------------------------------------

OURS = {
    "update": lambda: [update("a", 1), update("b", 2), update("c", 3)],
    "delete": lambda: [update("a", 1), delete(2), update("c", 3)],
    "add again": lambda: [add("a", 1), update("b", 2), update("c", 3)],
}
BEFORE = {  # what happened to ticket 1
    "update": NOTHING,
    "delete": NOTHING,
    "add again": DELETED,
}


@pytest.mark.parametrize("lock, ours, theirs, result", [
    (LOOK, "update", "update", "updated"),
    (LOOK, "delete", "update", "deleted"),
    (WRITE, "update", "update", "updated"),
    (WRITE, "update", "delete", "ignored"),
    (WRITE, "delete", "update", "deleted"),  # the placeholder finds a row
    (WRITE, "add again", "delete", "ignored"),  # there are two deletions to be forgotten, we know of one
])  # fmt: skip
def test_one_of_many_comes_too_late(connect, admin, sessions, lock, ours, theirs, result):
    """Another session makes or deletes one of the tickets while we are half-way: nothing of our batch stays, and the next
    try sees what the other did."""
    prepare(admin, BEFORE[ours])
    session, other, batch = sessions[0], connect(), OURS[ours]()
    execute(other, f"LOCK TABLE {lock} MODE")
    future = session.blocked(batch)
    apply(other, make_event(theirs, "theirs" if theirs == "update" else "", 2))
    other.commit()
    before = state(admin)
    with pytest.raises(psycopg2.errors.SerializationFailure):
        future.result(20)
    session.rollback()
    assert state(admin) == before
    assert session.now(batch) == ["inserted", result, "inserted"]
    session.commit()
    assert (titles(admin, 1), titles(admin, 3)) == (["a"], ["c"])
    assert titles(admin, 2) == (["b"] if result == "updated" else [])
    assert_consistent(admin)


@pytest.mark.parametrize("lock, ours, result", [(LOOK, "update", "ignored"), (LOOK, "delete", "unchanged"),
                                                (WRITE, "delete", "unchanged")])  # fmt: skip
def test_one_of_many_is_deleted_meanwhile(connect, admin, sessions, lock, ours, result):
    """Where we come behind the delete, or are one ourselves, there is no need of another try."""
    session, other, batch = sessions[0], connect(), OURS[ours]()
    execute(other, f"LOCK TABLE {lock} MODE")
    future = session.blocked(batch)
    apply(other, delete(2))
    other.commit()
    assert future.result(20) == ["inserted", result, "inserted"]
    session.commit()
    assert_consistent(admin)


@pytest.mark.parametrize("history, table", [(ADDED, "tickets"), (DELETED_UNSEEN, "deleted_tickets")])
def test_locks_are_taken_in_order(connect, admin, history, table):
    """Whatever the order of the events: who waits for one ticket has none of those behind it."""
    for ticket in (1, 2, 3):
        for action, title in history:
            apply(admin, make_event(action, title, ticket))
    holder, waiting = connect(), Session(connect(), admin)
    lock = f"SELECT FROM vcc.{table} WHERE ticket_id = %s FOR UPDATE NOWAIT"
    query(holder, lock, 1)
    action = update if history is ADDED else add  # which alone may bring a ticket back
    future = waiting.pool.submit(apply_events, waiting.connection, [action("c", 3), action("a", 1), action("b", 2)])
    waiting.wait_for(future, "the lock")
    assert [len(query(holder, lock, ticket)) for ticket in (2, 3)] == [1, 1]
    holder.rollback()
    assert future.result(20) == (["updated"] * 3 if history is ADDED else ["ignored"] * 3)
    waiting.pool.shutdown()


def test_erased_while_it_is_made(connect, admin):
    """Whoever erases a ticket waits for the session that makes its row, and erases that too."""
    maker, eraser = connect(), Session(connect(), admin)
    apply(maker, update("private", 9))
    future = eraser.pool.submit(query, eraser.connection, "SELECT what, rows FROM vcc.erase_ticket(1, 9)")
    eraser.wait_for(future, "the lock")
    maker.commit()
    assert dict(future.result(20))["ticket"] == 1
    eraser.commit()
    assert titles(admin, 9) == [] and query(admin, "SELECT ticket_id FROM vcc.deleted_tickets") == [(9,)]
    assert apply(admin, update("late", 9)) == "ignored"
    eraser.pool.shutdown()


def test_batches_of_the_same_tickets(sessions, admin):
    """They take their locks in the same order, whatever the order of the events: the second waits, then sees all that the
    first did."""
    prepare(admin, ADDED)
    first = [update("a", 3), add("b", 1), delete(2), update("c", 3)]
    batch = [update("d", 2), delete(1), update("c", 3), update("e", 1)]
    assert meet(sessions, first, batch) == (["inserted", "updated", "unchanged", "updated"],
                                            ["ignored", "deleted", "unchanged", "ignored"])  # fmt: skip
    assert (titles(admin, 1), titles(admin, 2), titles(admin, 3)) == ([], [], ["c"])
    assert_consistent(admin)


def test_repeat_among_fresh_events_while_the_first_is_open(sessions, admin):
    """The answer to a commit was lost, and the next try has new events with it."""
    first = [update("a", 1), delete(2), add("c", 3)]
    results = ["inserted", "unchanged", "inserted"]
    assert meet(sessions, first, first + [update("d", 4), update("e", 1)]) == (results, results + ["inserted", "updated"])
    assert query(admin, "SELECT count(*), count(DISTINCT event_id) FROM vcc.ticket_events") == [(5, 5)]
    assert_consistent(admin)


# -- three sessions meet --------------------------------------------------------------------------------------------


def test_same_event_twice_while_the_ticket_is_deleted(connect, admin, sessions):
    """Neither of the two has the ticket's deletion, which is new, but one of them has to wait for the other."""
    other, late = connect(), update("late")
    execute(other, f"LOCK TABLE {LOOK} MODE")
    futures = [session.blocked(late) for session in sessions]
    apply(other, delete())
    other.commit()
    wait(futures, 20, FIRST_COMPLETED)
    faster, slower = sorted(zip(futures, sessions), key=lambda pair: not pair[0].done())
    assert [session.finish(future, late) for future, session in (faster, slower)] == ["ignored", "ignored"]
    assert query(admin, "SELECT result FROM vcc.ticket_events ORDER BY event_id") == [("ignored",), ("unchanged",)]
    assert_consistent(admin)


def test_same_add_while_the_ticket_comes_and_goes(connect, admin, sessions):
    """The ticket is deleted after our lock. After our look the same add brings it back, and it is deleted again."""
    one, two = sessions
    other, late = connect(), add("late")
    execute(other, f"LOCK TABLE {LOOK} MODE")
    future = one.blocked(late)
    assert [apply(other, arrival) for arrival in (add("old"), delete())] == ["inserted", "deleted"]
    lock = two.pool.submit(execute, two.connection, f"LOCK TABLE {WRITE} MODE")
    two.wait_for(lock, WRITE)
    other.commit()
    lock.result(20)
    assert [two.now(arrival) for arrival in (add("late"), delete())] == ["inserted", "deleted"]
    two.commit()
    assert one.finish(future, late) == "ignored"
    assert titles(admin) == []
    assert_consistent(admin)


# -- one event from two sessions ------------------------------------------------------------------------------------

REPEATS = {
    "update inserts": (NOTHING, update, "inserted"),
    "update updates": (ADDED, update, "updated"),
    "update ignored": (DELETED, update, "ignored"),
    "add inserts": (NOTHING, add, "inserted"),
    "first add fills nothing": (UPDATED, add, "unchanged"),
    "add updates": (ADDED, add, "updated"),
    "add inserts again": (DELETED, add, "inserted"),
    "add ignored": (DELETED_UNSEEN, add, "ignored"),
    "delete deletes": (ADDED, lambda _: delete(), "deleted"),
    "delete without row": (NOTHING, lambda _: delete(), "unchanged"),
    "delete of deleted": (DELETED, lambda _: delete(), "unchanged"),
}


@pytest.mark.parametrize("case", REPEATS)
def test_same_event_while_the_first_is_open(admin, sessions, case):
    """The answer to a commit is lost and the batch goes over another connection while the first is still at work: the
    second waits, then returns what the first one did, or has to be tried again; it changes nothing."""
    history, make, result = REPEATS[case]
    prepare(admin, history)
    one, two = sessions
    arrival = make("new")
    assert one.now(arrival) == result
    future = two.blocked(arrival)
    one.commit()
    before = state(admin)
    assert two.finish(future, arrival) == result
    assert state(admin) == before
    assert_consistent(admin)


@pytest.mark.parametrize("case", REPEATS)
def test_same_event_while_the_first_fails(admin, sessions, case):
    """The first one is undone: the second applies the event."""
    history, make, result = REPEATS[case]
    prepare(admin, history)
    arrival = make("new")
    assert meet(sessions, arrival, arrival, end=Session.rollback) == (result, result)
    assert query(admin, "SELECT result FROM vcc.ticket_events WHERE event_id = %s", str(arrival.id)) == [(result,)]
    assert_consistent(admin)


# -- isolation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [psycopg2.extensions.ISOLATION_LEVEL_REPEATABLE_READ,
                                   psycopg2.extensions.ISOLATION_LEVEL_SERIALIZABLE],
                         ids=["repeatable read", "serializable"])  # fmt: skip
def test_another_isolation_level(connect, admin, level):
    """A server may have another default_transaction_isolation. The functions may refuse to work there, but a
    deleted ticket does not come back."""
    connections = [connect(), connect()]
    for connection in connections:
        connection.set_session(isolation_level=level)
    one, two = (Session(connection, admin) for connection in connections)
    late, refused = update("late"), False
    try:
        assert one.now(delete()) == "unchanged"
        future = two.blocked(late)
        one.commit()
        assert two.finish(future, late) == "ignored"
    except psycopg2.Error as error:
        refused = True
        assert error.pgcode.startswith(("25", "0A", "55")), error
    finally:
        for session in (one, two):
            session.rollback()
            session.pool.shutdown()
    assert titles(admin) == []
    assert_consistent(admin)
    assert refused == (query(admin, "SELECT * FROM vcc.ticket_events") == [])


# -- plans ----------------------------------------------------------------------------------------------------------


def test_plans_made_while_the_tables_are_empty(connect, admin):
    """Vacuumed, they are best read whole then, or by a whole index; the connection keeps its plans while they grow."""
    execute(admin, "VACUUM ANALYZE " + ", ".join(TABLES))
    execute(admin, "SELECT pg_stat_reset()")
    connection = connect(autocommit=True)
    arrivals = [Arrival(body) for body in random_events(random.Random(5), 200, [(1, n) for n in range(20)])]
    for arrival in arrivals[:100]:
        apply(connection, arrival)
    execute(admin, """INSERT INTO vcc.tickets (project_id, ticket_id, first_event_at, last_event_at)
        SELECT 2, n, now(), now() FROM generate_series(1, 10000) n""")
    execute(admin, "INSERT INTO vcc.deleted_tickets SELECT 3, n, now() FROM generate_series(1, 10000) n")
    in_rounds(connection, arrivals[100:])
    connection.close()
    all_counted = "SELECT FROM pg_stat_user_tables WHERE relname ~ '^ticket_events' HAVING sum(n_tup_ins) = 200"
    wait_until(lambda: query(admin, all_counted), what="the statistics")
    read = query(admin, """SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = 'vcc' AND seq_tup_read > 0
        UNION ALL SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE idx_tup_read > 5000""")
    assert read == []


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_no_call_is_compiled(connect, admin, rows):
    """A plan that was forbidden and all the same is the only one has a cost at which PostgreSQL would compile it."""
    for n in range(rows):
        apply(admin, add("a", n))
        apply(admin, delete(100 + n))
    execute(admin, "VACUUM ANALYZE " + ", ".join(TABLES))
    connection = connect(autocommit=True)
    execute(connection, "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET client_min_messages = log; "
                        "SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on")  # fmt: skip
    apply_events(connection, [update("b", 0), add("c", 1), delete(2), add("d", 100)])
    assert any("vcc.deleted_tickets" in notice for notice in connection.notices)
    assert not [notice for notice in connection.notices if "JIT:" in notice]
