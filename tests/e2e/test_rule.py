"""What an event does (sql/functions/apply_events.sql): random sequences against the model, in batches, with events that come
late; sessions that hammer the same tickets; and the meetings of two sessions one by one.

SEED=… repeats a run. ROUNDS=… makes the random ones longer.
"""

import contextlib
import hashlib
import json
import os
import random
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg2
import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import Cluster  # noqa: E402
from conftest import wait_until  # noqa: E402
from model import COLUMNS, FIELDS, Model, compare, decode, random_body, random_events  # noqa: E402

SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else [1, 2]
ROUNDS = int(os.environ.get("ROUNDS", 1))
TYPES = {
    "event_id": "uuid", "received_at": "timestamptz", "action": "text", "project_id": "bigint", "ticket_id": "bigint",
    "payload": "text", "digest": "bytea", "waited": "boolean", "cleared": "text", "extra_names": "text",
    **{column: {"integer": "bigint", "text": "text", "time": "timestamptz"}[kind] for column, kind in FIELDS.values()},
}  # fmt: skip
APPLY = f"""SELECT result, detail FROM vcc.apply_events({
    ', '.join(f'{name} => %({name})s::{kind}[]' for name, kind in TYPES.items())}) ORDER BY n"""
EMPTY = "; ".join(f"DELETE FROM vcc.{name}" for name in "tickets deleted_tickets ticket_adds ticket_events rejected_events journal_horizon".split())
# What the caller tries again.
RETRIED = (psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected, psycopg2.errors.UniqueViolation,
           psycopg2.errors.LockNotAvailable)  # fmt: skip


class Numbers:
    """The order of receipt."""

    last, lock = 0, threading.Lock()

    @classmethod
    def next(cls):
        with cls.lock:
            cls.last += 1
            return cls.last


def received(body, number=None):
    """An event as the handler has it: decoded, and with its place in the order of receipt."""
    return replace(decode(body), number=number or Numbers.next())


def event(action, title=None, ticket=1, waited=False, **more):
    ticket = {"projectId": 1, "ticketId": ticket, **({"title": title} if title else {}), **more}
    return replace(received(json.dumps({"action": action, "ticket": ticket}).encode()), waited=waited)


def literal(names):
    """An array in an array: each name quoted."""
    return "{" + ",".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names) + "}" if names else None


def identifier(number):
    return str(uuid.UUID(int=(number << 80) | (7 << 76) | (2 << 62)))


def time_of(number):
    return time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(1708000000 + number))


def arrays(events, rng=None):
    """What vcc.apply_events is given. What it may do without is sometimes left out."""
    values = {
        "event_id": [identifier(e.number) for e in events], "received_at": [time_of(e.number) for e in events],
        "action": [e.action for e in events], "project_id": [e.key[0] for e in events],
        "ticket_id": [e.key[1] for e in events], "payload": [e.body.decode() for e in events],
        "digest": [hashlib.sha256(e.body).digest() for e in events], "waited": [e.waited for e in events],
        "cleared": [literal([c for c, value in e.columns.items() if value is None]) for e in events],
        "extra_names": [literal(e.extra) for e in events],
        **{column: [e.columns.get(column) for e in events] for column in COLUMNS},
    }  # fmt: skip
    for name in ("digest", "waited", "cleared", "extra_names", *COLUMNS):
        if name == "digest" and rng and rng.random() < 0.2 or all(value is None or value is False for value in values[name]):
            values[name] = None
    return values


def apply(connection, events, rng=None):
    with connection.cursor() as cursor:
        cursor.execute(APPLY, arrays(events, rng))
        return cursor.fetchall()


def results(connection, *events):
    return [result for result, _ in apply(connection, events)]


def query(connection, sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings={"deadlock_timeout": "50ms"}) as cluster:
        cluster.createdb("tickets")
        cluster.install_schema("tickets")
        yield cluster


@pytest.fixture
def connect(cluster):
    cluster.execute(EMPTY, dbname="tickets")
    with contextlib.ExitStack() as stack:

        def make(autocommit=False):
            connection = cluster.connect("tickets", autocommit=autocommit)
            stack.callback(connection.close)
            return connection

        yield make


@pytest.fixture
def one(connect):
    return connect(autocommit=True)


@pytest.fixture
def two(connect):
    """In a transaction of its own: what it does stays open."""
    return connect()


# -- against the model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tickets", [3, 100])
def test_random_sequence(one, seed, tickets):
    """Events in batches: fresh ones, ones that waited, ones sent again, and now and then a ticket is erased."""
    rng = random.Random(seed * 1000 + tickets)
    keys = [(1 + n % 3, 1 + n // 3) for n in range(tickets)]
    model, seen, waiting, done, times = Model(), Counter(), [], [], {}
    bodies = random_events(rng, (400 if tickets < 10 else 1200) * ROUNDS, keys)
    while bodies or waiting:
        batch = {}
        for _ in range(rng.choice((1, 1, 3, min(30, tickets)))):
            chance = rng.random()
            if bodies and chance < 0.3:
                waiting.append(received(bodies.pop()))
                continue
            if done and chance < 0.35:
                chosen = rng.choice(done[-200:])  # the answer to its commit was lost
            elif waiting and (not bodies or chance < 0.65):
                chosen = replace(waiting.pop(rng.randrange(len(waiting))), waited=True)
            elif bodies:
                chosen = received(bodies.pop())
            else:
                break
            if chosen.key not in batch:
                batch[chosen.key] = chosen
            elif chosen not in done:
                waiting.append(chosen)  # another of its ticket goes first
        events = list(batch.values())
        rng.shuffle(events)
        fresh = [e.number not in model.taken.get(e.key, {}) for e in events]
        expected = [model.apply(e) for e in events]
        found = [result for result, _ in apply(one, events, rng)]
        assert found == expected, f"SEED={seed}\n" + "\n".join(
            f"{e}: {f}, expected {x}" for e, f, x in zip(events, found, expected) if f != x)  # fmt: skip
        for e, result, new in zip(events, expected, fresh):
            seen[e.waited, e.action, result] += 1
            if not new:
                continue
            if result == "inserted":
                times[e.key] = e.number, e.number
            elif result == "updated":
                times[e.key] = times[e.key][0], max(times[e.key][1], e.number)
        done += [replace(e, waited=True) for e in events]
        if tickets > 3 and rng.random() < 0.03:
            key = rng.choice(keys)
            model.erase(key)
            query(one, "SELECT vcc.erase_ticket(%s, %s)", *key)
    differences = compare(one, model, order="applied_no")
    assert not differences, f"SEED={seed}\n" + "\n".join(differences)
    assert {(p, t): (a, b) for p, t, a, b in query(one, """
        SELECT project_id, ticket_id, extract(epoch FROM first_event_at)::bigint - 1708000000,
               extract(epoch FROM last_event_at)::bigint - 1708000000 FROM vcc.tickets""")
            } == {key: times[key] for key in model.tickets}, f"SEED={seed}"  # fmt: skip
    assert {(p, t) for p, t in query(one, "SELECT project_id, ticket_id FROM vcc.deleted_tickets WHERE erased")} == model.erased
    assert query(one, "SELECT count(*) FROM vcc.ticket_adds") == [(sum(map(len, model.adds.values())),)]
    # The sequence must have met every kind of result, or it proves little.
    for waited in (False, True) if tickets > 3 else ():
        for action, kinds in {"add": "inserted updated unchanged ignored", "update": "inserted updated unchanged ignored",
                              "delete": "deleted unchanged"}.items():  # fmt: skip
            assert all(seen[waited, action, kind] for kind in kinds.split()), seen
    assert seen[True, "delete", "ignored"], seen


# -- many sessions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", [("add", "update", "delete"), ("update", "update", "delete")], ids=["all", "without adds"])
@pytest.mark.parametrize("seed", SEEDS)
def test_sessions_hammer_the_same_tickets(connect, one, seed, actions):
    """Whatever the interleaving: each event is in the journal once, also one that all sessions have, all are told what it did,
    no ticket is there and deleted at once, and the results add up to the tickets there are. Without adds none comes back."""
    keys = [(1, n) for n in range(8 if "add" in actions else 60)]
    spool = [received(body) for body in (random_body(random.Random(seed * 100 + n), keys[n % 8], actions) for n in range(40))]
    sent, answers, lock = list(spool), {}, threading.Lock()
    connections = [connect() for _ in range(4)]

    def work(n):
        rng = random.Random(seed * 100 + n)
        connection = connections[n]
        query(connection, "SET lock_timeout = '2s'")
        connection.commit()
        waiting = [replace(e, waited=True) for e in spool]
        for _ in range(120 * ROUNDS):
            batch = {e.key: e for e in rng.sample(waiting, min(3, len(waiting)))}
            for _ in range(rng.randint(1, 4)):
                e = received(random_body(rng, rng.choice(keys), actions))
                batch.setdefault(e.key, e)
            waiting = [e for e in waiting if e not in batch.values()]
            with lock:
                sent.extend(e for e in batch.values() if not e.waited)
            waiting += settle(connection, list(batch.values()))
        while waiting:
            batch = {e.key: e for e in waiting[::-1]}
            waiting = [e for e in waiting if e not in batch.values()] + settle(connection, list(batch.values()))

    def settle(connection, events):
        """One call, committed; returns what was held, as events that waited."""
        try:
            found = apply(connection, events)
            connection.commit()
        except RETRIED:
            connection.rollback()
            return [replace(e, waited=True) for e in events]
        with lock:
            for e, (result, _) in zip(events, found):
                assert result == "held" or answers.setdefault(e.number, result) == result, e
        return [replace(e, waited=True) for e, (result, _) in zip(events, found) if result == "held"]

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, n) for n in range(4)]:
            future.result(60)
    message = f"SEED={seed}"
    journal = {event_id: result for event_id, result in query(one, "SELECT event_id::text, result FROM vcc.ticket_events")}
    assert len(journal) == query(one, "SELECT count(*) FROM vcc.ticket_events")[0][0]
    assert journal == {identifier(e.number): answers[e.number] for e in sent}, message
    assert_consistent(one)
    adds = {(e.key, e.body) for e in sent if e.action == "add"}
    assert query(one, "SELECT count(*) FROM vcc.ticket_adds") == [(len(adds),)], message
    if not adds:
        deleted = {e.key for e in sent if e.action == "delete"}
        assert set(query(one, "SELECT project_id, ticket_id FROM vcc.tickets")) == {e.key for e in sent} - deleted, message


def assert_consistent(connection):
    assert query(connection, "SELECT * FROM vcc.tickets JOIN vcc.deleted_tickets USING (project_id, ticket_id)") == []
    assert query(connection, """SELECT count(*) FILTER (WHERE result = 'inserted') - count(*) FILTER (WHERE result = 'deleted')
                                       - (SELECT count(*) FROM vcc.tickets) FROM vcc.ticket_events""") == [(0,)]  # fmt: skip


def state(connection):
    """All that is known of ticket 1, with the places of the rows: a rewritten row shows."""
    return [query(connection, f"SELECT ctid::text, t::text FROM vcc.{table} t WHERE ticket_id = 1 ORDER BY ctid")
            for table in ("tickets", "deleted_tickets", "ticket_adds", "ticket_events")]  # fmt: skip


# -- two sessions meet ----------------------------------------------------------------------------------------------

NOTHING = ()
UPDATED = (("update", "old"),)
ADDED = (("add", "old"),)
DELETED = (("add", "old"), ("delete", None))
UNSEEN = (("delete", None),)
HISTORIES = {"nothing": NOTHING, "updated": UPDATED, "added": ADDED, "deleted": DELETED, "unseen": UNSEEN}


@pytest.mark.parametrize("after", ["commit", "rollback"])
@pytest.mark.parametrize("second", ["add", "update", "delete", "same"])
@pytest.mark.parametrize("first", ["add", "update", "delete", "delete add"])
@pytest.mark.parametrize("history", HISTORIES)
def test_meeting(one, two, connect, history, first, second, after):
    """What meets another session's open change of its ticket is held at once, or waits for it: then it is as if it had come
    after it. A ticket of its own goes on. The same: another event with the same bytes."""
    three = connect(autocommit=True)
    history = HISTORIES[history]
    for action, title in history:
        results(one, event(action, title))
    begun = [event(action, "first") for action in first.split()]
    late = event(first.split()[-1], "first") if second == "same" else event(second, "second")
    other = event("update", "other", ticket=2)
    opened = [results(two, e)[0] for e in begun]
    query(one, "SET lock_timeout = '30ms'")
    before = time.monotonic()
    try:
        answer = results(one, late, other)
    except psycopg2.errors.LockNotAvailable:
        assert history in (NOTHING, DELETED, UNSEEN) or begun[1:], "where there is a row nothing waits"
        answer = ["held", *results(one, other)]
    assert time.monotonic() - before < 5
    assert answer[1] == "inserted"
    assert query(three, "SELECT count(*) FROM vcc.ticket_events WHERE ticket_id = 2") == [(1,)]
    getattr(two, after)()
    if answer[0] == "held":
        answer[0] = results(one, late)[0]
    model = Model()
    for e in [event(action, title) for action, title in history]:
        model.apply(e)
    if after == "commit":
        assert [model.apply(e) for e in begun] == opened
    assert model.apply(late) == answer[0], f"{opened}, then {answer}"
    model.apply(other)
    assert not compare(one, model, journal=False)
    assert_consistent(one)
    query(one, "RESET lock_timeout")


def test_row_made_and_deleted_meanwhile(one, two, cluster):
    """A session stops between its look at a ticket and its insert. Others make the row and delete it."""
    query(one, """CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
        CREATE TRIGGER wait BEFORE INSERT ON vcc.tickets FOR EACH ROW WHEN (NEW.title = 'slow') EXECUTE FUNCTION public.wait()""")
    try:
        query(one, "SELECT pg_advisory_lock(1)")
        with ThreadPoolExecutor(1) as pool:
            batch = [event("update", "before", ticket=2), event("update", "slow"), event("update", "behind", ticket=3)]
            slow = pool.submit(results, two, *batch)
            while not query(one, "SELECT pg_blocking_pids(%s) <> '{}'", two.get_backend_pid())[0][0]:
                assert not slow.done(), slow.result()
            assert results(one, event("add", "a")) == ["inserted"]
            assert results(one, event("delete")) == ["deleted"]
            query(one, "SELECT pg_advisory_unlock(1)")
            with pytest.raises(psycopg2.errors.SerializationFailure):
                slow.result(20)
        two.rollback()
        assert_consistent(one)
        assert query(one, "SELECT * FROM vcc.tickets") == []
        assert results(two, *[replace(e, waited=True) for e in batch]) == ["inserted", "ignored", "inserted"]
    finally:
        two.rollback()
        query(one, "SELECT pg_advisory_unlock_all(); DROP TRIGGER wait ON vcc.tickets; DROP FUNCTION public.wait()")


def test_erased_while_events_come(one, two):
    """erase_ticket waits for the event that is under way, and leaves nothing of it."""
    for history in (NOTHING, ADDED, DELETED):
        query(one, EMPTY)
        for action, title in history:
            results(one, event(action, title))
        results(two, event("update", "secret"))
        with ThreadPoolExecutor(1) as pool:
            erased = pool.submit(query, one, "SELECT vcc.erase_ticket(1, 1)")
            while not query(two, "SELECT pg_blocking_pids(%s) <> '{}'", one.get_backend_pid())[0][0]:
                assert not erased.done(), history
            two.commit()
            erased.result(20)
        assert results(one, event("update", "late"), event("add", "late", ticket=2)) == ["ignored", "inserted"]
        assert query(one, "SELECT erased FROM vcc.deleted_tickets") == [(True,)]
        assert query(one, "SELECT payload, changes FROM vcc.ticket_events WHERE ticket_id = 1") == [({}, None)]


def test_a_late_add_beside_a_deletion(one, two, connect):
    """It has looked at the journal when the deletion, received later, commits: it does not bring the ticket back."""
    three = connect()
    query(one, "ALTER FUNCTION vcc.late_events RENAME TO late_events_too")
    query(one, """DO $$ BEGIN EXECUTE replace(replace(pg_get_functiondef('vcc.late_events_too'::regproc), 'late_events_too', 'late_events'),
        ') w;', ') w; PERFORM pg_advisory_xact_lock(4711);'); END $$""")
    try:
        first, late, deletion = event("add", "a"), event("add", "b", waited=True), event("delete")
        assert results(one, first) == ["inserted"]
        query(one, "SELECT pg_advisory_lock(4711)")
        assert results(two, deletion) == ["deleted"]  # and does not commit yet
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(results, three, late)
            wait_until(lambda: query(one, "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'") == [(1,)])
            two.commit()
            query(one, "SELECT pg_advisory_unlock(4711)")
            assert found.result() == ["ignored"]
        three.commit()
        assert query(one, "SELECT count(*) FROM vcc.tickets") == [(0,)]
    finally:
        two.rollback()
        three.rollback()
        query(one, "SELECT pg_advisory_unlock_all(); DROP FUNCTION vcc.late_events; ALTER FUNCTION vcc.late_events_too RENAME TO late_events")


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_isolation(cluster, level):
    connection = cluster.connect("tickets", autocommit=False)
    try:
        connection.set_session(isolation_level=level)
        with pytest.raises(psycopg2.errors.FeatureNotSupported, match="read committed"):
            results(connection, event("update", "a"))
    finally:
        connection.close()


# -- one event from two sessions ------------------------------------------------------------------------------------

REPEATS = {
    "update inserts": (NOTHING, "update", "inserted"),
    "update updates": (ADDED, "update", "updated"),
    "update ignored": (DELETED, "update", "ignored"),
    "add inserts": (NOTHING, "add", "inserted"),
    "first add fills nothing": (UPDATED, "add", "unchanged"),
    "add updates": (ADDED, "add", "updated"),
    "add inserts again": (DELETED, "add", "inserted"),
    "add ignored": (UNSEEN, "add", "ignored"),
    "delete deletes": (ADDED, "delete", "deleted"),
    "delete without row": (NOTHING, "delete", "unchanged"),
    "delete of deleted": (DELETED, "delete", "unchanged"),
}


@pytest.mark.parametrize("after", ["commit", "rollback"])
@pytest.mark.parametrize("case", REPEATS)
def test_same_event_while_the_first_is_open(one, two, case, after):
    """The answer to a commit is lost and the batch goes over another connection while the first is still at work: it is held
    or waits. Once the first is committed it changes nothing and says what that did; else it is applied."""
    history, action, result = REPEATS[case]
    for each, title in history:
        results(one, event(each, title))
    sent = event(action, "new")
    batch = [replace(sent, waited=True), event("update", "fresh", ticket=2)]
    assert results(two, sent) == [result]
    query(one, "SET lock_timeout = '30ms'")
    with contextlib.suppress(*RETRIED):
        assert results(one, *batch) == ["held", "inserted"]
    getattr(two, after)()
    before = state(one)
    assert results(one, *[replace(e, waited=True) for e in batch]) == [result, "inserted"]
    if after == "commit":
        assert state(one) == before
    assert query(one, "SELECT result FROM vcc.ticket_events WHERE event_id = %s", identifier(sent.number)) == [(result,)]
    assert_consistent(one)


# -- others commit in between ---------------------------------------------------------------------------------------

# Where a call can be stopped half-way. A lock on a table stops it before its first look at the ticket, and between that and
# its statement; a trigger in the middle of that statement.
STOPS = {
    "before the lock": "LOCK TABLE vcc.tickets IN EXCLUSIVE MODE",
    "behind the lock": "LOCK TABLE vcc.ticket_adds IN ACCESS EXCLUSIVE MODE",
    "while it writes": "SELECT pg_advisory_xact_lock(1)",
}
MEANWHILE = [
    [("update", "b")], [("add", "late")], [("add", "b")], [("delete", None)], [("add", "b"), ("delete", None)],
    [("add", "late"), ("delete", None)], [("delete", None), ("add", "b")], [("delete", None), ("add", "late")],
    [("delete", None), ("add", "late"), ("delete", None)],
]  # fmt: skip


@pytest.fixture
def slow(one):
    """A session of this name writes a row only when nobody has the advisory lock 1."""
    query(one, """CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF current_setting('application_name') = 'slow' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
            RETURN coalesce(NEW, OLD);
        END $$;
        CREATE TRIGGER wait BEFORE INSERT OR UPDATE OR DELETE ON vcc.tickets FOR EACH ROW EXECUTE FUNCTION public.wait()""")
    yield
    query(one, "DROP TRIGGER wait ON vcc.tickets; DROP FUNCTION public.wait()")


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("kind", ["update", "add", "add again", "delete"])
def test_others_commit_in_between(one, two, connect, slow, kind, stop):
    """Whatever is committed while a call is half-way: what all are told, and what there is then, is that of some order of the
    events. What had to be tried again came as one that waited. Events of other tickets in the call are as if alone."""
    other, wrong, met = connect(), [], 0
    query(two, "SET application_name = 'slow'")
    two.commit()
    late_one = ("add", "old") if kind == "add again" else (kind, "late" if kind != "delete" else None)
    with ThreadPoolExecutor(1) as pool:
        for name, history in HISTORIES.items():
            for meanwhile in MEANWHILE:
                query(one, EMPTY)
                before = [event(*each) for each in history]
                for e in before:
                    results(one, e)
                late, others = event(*late_one), [event(*each) for each in meanwhile]
                batch = [event("update", "x", ticket=0), late, event("update", "y", ticket=2)]
                told, met_it = race(pool, one, two, other, STOPS[stop], batch, others)
                met += met_it
                done = [e for e in others if told.get(e.number) not in (None, "held")]
                answer = told.pop(late.number)
                waited = answer is None
                if waited:
                    answer = results(two, *[replace(e, waited=True) for e in batch])[1]
                    two.commit()
                told = {e.number: told[e.number] for e in done}
                for place in [len(done)] if waited else range(len(done) + 1):
                    model = Model()
                    for e in before:
                        model.apply(e)
                    order = [*done[:place], replace(late, waited=waited), *done[place:]]
                    if {e.number: model.apply(e) for e in order} == {**told, late.number: answer}:
                        for e in (batch[0], batch[2]):
                            model.apply(e)
                        if not compare(one, model, journal=False):
                            break
                else:
                    wrong.append(f"{name}, meanwhile {meanwhile}: {told}, {answer}")
                assert_consistent(one)
    assert not wrong, "\n".join(wrong)
    assert met >= len(MEANWHILE), f"{met} were stopped: the test proves little"


def race(pool, one, two, other, stop, batch, others):
    """Applies the batch in session two; where it comes to the stop the others are committed. Returns what each was told (None:
    it has to be tried again), and whether they met."""
    told = {}
    query(other, stop)
    query(other, "SET lock_timeout = '30ms'")
    future = pool.submit(results, two, *batch)
    while not (met := query(one, "SELECT pg_blocking_pids(%s) <> '{}'", two.get_backend_pid())[0][0]) and not future.done():
        time.sleep(0.0005)
    try:
        found = [results(other, e)[0] for e in others]
        other.commit()
        told.update((e.number, result) for e, result in zip(others, found))
    except RETRIED:
        other.rollback()  # they wait for what we have
    try:
        found = future.result(20)
        assert (found[0], found[2]) == ("inserted", "inserted")
        two.commit()
        told[batch[1].number] = None if found[1] == "held" else found[1]
    except RETRIED:
        two.rollback()
        told[batch[1].number] = None
    return told, met


# -- plans ----------------------------------------------------------------------------------------------------------


def test_plans_made_while_the_tables_are_empty(connect, one):
    """Vacuumed, they are best read whole then, or by a whole index; the connection keeps its plans while they grow. And a plan
    that was forbidden and is all the same the only one has a cost at which PostgreSQL would compile it."""
    tables = "vcc.tickets, vcc.deleted_tickets, vcc.ticket_adds, vcc.ticket_events"
    query(one, f"TRUNCATE {tables}")
    query(one, "VACUUM ANALYZE " + tables)
    query(one, "SELECT pg_stat_reset()")
    connection = connect(autocommit=True)
    events = [received(body) for body in random_events(random.Random(5), 200, [(1, n) for n in range(20)])]
    for e in events[:100]:
        results(connection, e)
    query(one, """INSERT INTO vcc.tickets (project_id, ticket_id, first_event_at, last_event_at)
        SELECT 2, n, now(), now() FROM generate_series(1, 10000) n""")
    query(one, "INSERT INTO vcc.deleted_tickets SELECT 3, n, now() FROM generate_series(1, 10000) n")
    query(one, "INSERT INTO vcc.ticket_adds SELECT 3, n, '' FROM generate_series(1, 10000) n")
    query(connection, "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET client_min_messages = log; "
                      "SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on")  # fmt: skip
    for n, e in enumerate(events[100:]):
        results(connection, replace(e, waited=n % 2 == 1), replace(event("add", "a", ticket=100 + n), waited=n % 3 == 1))
    notices = connection.notices
    assert any("deleted_tickets_pkey" in notice for notice in notices)
    assert not [notice for notice in notices if "JIT:" in notice]
    connection.close()
    counted = "SELECT count(*) FROM pg_stat_user_tables WHERE relname ~ '^ticket_events' HAVING sum(n_tup_ins) >= 300"
    wait_until(lambda: query(one, counted), what="the statistics")
    read = query(one, """SELECT relname, seq_tup_read FROM pg_stat_user_tables
         WHERE schemaname = 'vcc' AND seq_tup_read > 0 AND relname <> 'journal_horizon'
        UNION ALL SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE idx_tup_read > 9000""")
    assert read == []
