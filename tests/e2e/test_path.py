"""An event through nginx is a committed row."""

import concurrent.futures
import contextlib
import decimal
import json
import os
import random
import re
import threading
import time
import uuid

import fastcgi
import model
import pytest
from conftest import LOCATION, ROOT, command, event, sample, send, wait_until
from test_spool import ask


def test_the_vendors_samples(nginx, database):
    answer = send(nginx.port, sample("add"))
    assert (answer.status, answer.json["result"]) == (200, "inserted")
    assert answer.headers["Content-Type"] == "application/json"
    row = database.query("""SELECT entity_id, contact_id, ticket_no, title, type, description, cc, status, sub_status,
        created_user_id, created_user_name, project_name, agent_name, agent_user_name, user_id,
        first_open_time AT TIME ZONE 'UTC', soft_deadline AT TIME ZONE 'UTC', extra
        FROM vcc.tickets WHERE project_id = 130 AND ticket_id = 21""")[0]
    assert [str(v) for v in row] == [
        "1814", "1220", "130-20240215-270338", "bug", "complaint", "a", "None", "park", "waiting4agent", "6", "John Smith",
        "Manual", "John Smith", "john_smith", "8", "2024-02-15 14:46:46", "2024-02-15 14:46:00", "{}"]

    assert send(nginx.port, sample("update"), method="PUT").json["result"] == "updated"
    assert database.query("SELECT title, cc, sub_status, project_name, description, status FROM vcc.tickets") == [
        ("Customer complaint", "[email protected]", "waiting4entity", "Customer complaints on email", "a", "park")]

    assert send(nginx.port, sample("delete")).json["result"] == "deleted"
    assert database.query("SELECT * FROM vcc.tickets") == []
    assert database.query("SELECT project_id, ticket_id FROM vcc.deleted_tickets") == [(130, 21)]

    journal = database.query("SELECT event_id::text, action, result, payload FROM vcc.ticket_events ORDER BY event_id")
    assert [(a, r) for _, a, r, _ in journal] == [("add", "inserted"), ("update", "updated"), ("delete", "deleted")]
    assert journal[0][0] == answer.json["event"]
    assert [p for *_, p in journal] == [json.loads(sample(n)) for n in ("add", "update", "delete")]


def test_event_ids_are_uuid7_in_order_of_receipt(nginx, database):
    before = time.time()
    ids = [uuid.UUID(send(nginx.port, event("update", title=str(i))).json["event"]) for i in range(20)]
    assert ids == sorted(ids) and {i.version for i in ids} == {7}
    for i in ids:
        assert before - 1 < (i.int >> 80) / 1000 < time.time() + 1
    assert [uuid.UUID(r[0]) for r in database.query("SELECT event_id::text FROM vcc.ticket_events ORDER BY received_at")] == ids


def test_the_journal_holds_what_came(nginx, database):
    body = '\ufeff{"action":"update","ticket":{"projectId":1,"ticketId":2,"big":12345678901234567890.12,"title":"a","title":"b"}}'
    assert send(nginx.port, body.encode()).status == 200
    assert database.value("SELECT payload->'ticket'->>'big' FROM vcc.ticket_events") == "12345678901234567890.12"
    assert database.query("SELECT title, extra->>'big' FROM vcc.tickets") == [("b", "12345678901234567890.12")]


@pytest.mark.parametrize("body, status, pointers", [
    (b"", 400, None),
    (b"{", 400, None),
    (b'{"action":"\xff"}', 400, None),
    (b'{"a":01}', 400, None),
    (b"[]", 422, [""]),
    (b"{}", 422, ["/action", "/ticket"]),
    (b'{"action":"close","ticket":{"ticketId":1.5,"title":[],"softDeadline":"2023-02-29"}}', 422,
     ["/action", "/ticket/projectId", "/ticket/softDeadline", "/ticket/ticketId", "/ticket/title"]),
    (b'{"action":"add","ticket":{"projectId":1,"ticketId":2,"title":"a\\u0000b"}}', 422, ["/ticket/title"]),
])
def test_refusals(nginx, database, body, status, pointers):
    answer = send(nginx.port, body)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status and answer.json["title"]
    if pointers is None:
        assert answer.json["detail"]
    else:
        assert sorted(e["pointer"] for e in answer.json["errors"]) == pointers
    assert send(nginx.port, body).status == status
    kept, attempts, reason = database.query("SELECT body, attempts, reason FROM vcc.rejected_events")[0]
    assert (bytes(kept), attempts) == (body, 2)
    assert all(p in reason for p in pointers or [])
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 0


def test_other_methods_and_places(nginx):
    # Not ready before the first look at the database, which may come a moment after the socket.
    wait_until(lambda: send(nginx.port, method="GET", path=LOCATION + "/readyz").status == 200)
    for method, path, status, allow in [
            ("GET", LOCATION, 405, "POST, PUT"), ("DELETE", LOCATION, 405, "POST, PUT"),
            ("POST", LOCATION + "/livez", 405, "GET, HEAD"), ("GET", LOCATION + "/livez", 200, None),
            ("GET", LOCATION + "/readyz?x=/y", 200, None)]:
        answer = send(nginx.port, method=method, path=path)
        assert (answer.status, answer.headers["Allow"]) == (status, allow), (method, path)
    assert send(nginx.port, method="GET", path=LOCATION + "/readyz").json == {"ready": True, "by": "database"}


def test_bodies_around_the_cap(nginx, database):
    def body(size):
        head, tail = b'{"action":"update","ticket":{"projectId":1,"ticketId":2,"title":"', b'"}}'
        return head + b"x" * (size - len(head) - len(tail)) + tail
    cap = 1024 * 1024
    assert send(nginx.port, body(cap)).status == 200
    assert database.value("SELECT length(title) FROM vcc.tickets") > cap - 100
    assert send(nginx.port, body(cap + 1)).status == 413
    assert send(nginx.port, body(100)).status == 200


def test_a_poisoned_event_fails_alone(nginx, database):
    """The database refuses some events of a batch: those are 422, with the column; all others are stored."""
    database.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'poison'), ALTER status SET NOT NULL")
    bodies = [event("add", i, title="poison" if i % 10 == 3 else "good", **({} if i % 10 == 7 else {"status": "park"}))
              for i in range(200)]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda b: send(nginx.port, b), bodies))
    for i, answer in enumerate(answers):
        assert answer.status == (422 if i % 10 in (3, 7) else 200), answer.body
        if i % 10 == 7:
            assert answer.json["errors"][0]["pointer"] == "/ticket/status"
        if i % 10 == 3:
            assert "tickets_title_check" in answer.json["errors"][0]["detail"]
    assert database.value("SELECT count(*) FROM vcc.tickets") == 160
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 160
    rejected = database.query("SELECT convert_from(body, 'UTF8'), project_id, attempts FROM vcc.rejected_events")
    assert sorted(rejected) == sorted((json.dumps(b), 130, 1) for i, b in enumerate(bodies) if i % 10 in (3, 7))


def at_once(handler, database, bodies):
    """Sends bodies, each on a connection that is kept, while the event before them is held up: they are the next batch.
    Returns (status, JSON) of their answers."""
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    with contextlib.ExitStack() as stack:
        first, *connections = [stack.enter_context(fastcgi.Connection(handler.socket)) for _ in range(len(bodies) + 1)]
        first.send(fastcgi.request(event("delete", 999)))
        wait_until(database.handler_waits_for_a_lock)
        for connection, body in zip(connections, bodies):
            connection.send(fastcgi.request(body))
        time.sleep(0.5)  # for all to arrive
        database.query("COMMIT")
        texts = [connection.answer() for connection in connections]
    return [(int(re.match(r"Status: (\d+)", text)[1]), json.loads(text.partition("\r\n\r\n")[2])) for text in texts]


def test_one_tickets_events_in_one_batch(start, database):
    """They take effect one after the other, in the order in which they arrived, which their ids tell."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("SEED =", seed)
    bodies = model.random_events(random.Random(seed), 200, [(1, 1)])
    answers = at_once(start(TICKETD_WORKERS="1", TICKETD_DB_TIMEOUT_MS="25000"), database, bodies)
    expected = model.Model()
    expected.apply(model.decode(json.dumps(event("delete", 999)).encode()))
    for answer, body in sorted(zip(answers, bodies), key=lambda pair: pair[0][1]["event"]):
        assert answer == (200, {"event": answer[1]["event"], "result": expected.apply(model.decode(body))}), body
    assert not model.compare(database.connection, expected)
    assert database.value("SELECT count(DISTINCT xmin::text) FROM vcc.ticket_events") <= 4, "they were not a few batches"


REFUSED = "PostgreSQL refuses it with SQLSTATE "
POISONS = {  # the title that is refused, how the database is made to, and why it says it is
    "before a call": (True, "SELECT", "must be a string"),
    "in a call": ("x", "ALTER TABLE vcc.tickets ADD CONSTRAINT poison CHECK (title <> 'x')",
                  REFUSED + "23514, constraint poison"),
    "in the name of another ticket": ("x", """
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE check_violation USING CONSTRAINT = 'poison', DETAIL = 'Failing row contains (1, 3, a).'; END $$;
        CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON vcc.tickets
            FOR EACH ROW WHEN (NEW.title = 'x') EXECUTE FUNCTION public.refuse()""",
                                      REFUSED + "23514, constraint poison"),
    "at the commit": ("x", """
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'poison'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON vcc.tickets DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.title = 'x') EXECUTE FUNCTION public.refuse()""", REFUSED + "P0001"),
}


@pytest.mark.parametrize("share", [0.03, 0.5, 1])
@pytest.mark.parametrize("place", POISONS)
def test_poisoned_events_of_a_batch(start, database, place, share):
    """Wherever they are refused: the good events of the same tickets are applied in their order, each once, and each of the
    others is set aside once."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("SEED =", seed)
    rng = random.Random(seed)
    poison, make, detail = POISONS[place]
    database.query(make)
    titles = [poison if n == 100 or rng.random() < share else rng.choice("abc") for n in range(200)]
    bodies = [json.dumps(event("update", rng.randrange(20), projectId=rng.choice((-1, 1)), title=title, n=n)).encode()
              for n, title in enumerate(titles)]  # fmt: skip
    handler = start(TICKETD_WORKERS="1", TICKETD_DB_TIMEOUT_MS="25000")
    answers = at_once(handler, database, bodies)
    good = [(*answer, body) for answer, body, title in zip(answers, bodies, titles) if title != poison]
    bad = [(*answer, body) for answer, body, title in zip(answers, bodies, titles) if title == poison]

    assert {status for status, *_ in good} <= {200}
    expected = model.Model()
    expected.apply(model.decode(json.dumps(event("delete", 999)).encode()))
    for _, answer, body in sorted(good, key=lambda each: each[1]["event"]):
        assert answer["result"] == expected.apply(model.decode(body)), body
    assert not model.compare(database.connection, expected)

    assert {(status, answer["errors"][0]["detail"]) for status, answer, _ in bad} == {(422, detail)}
    rejected = database.query("SELECT body, attempts FROM vcc.rejected_events")
    assert sorted((bytes(body), attempts) for body, attempts in rejected) == sorted((body, 1) for *_, body in bad)

    # Each must not cost a search through all that is left. Where nothing else is committed, two cost a made-up event as proof.
    handler.stop()
    failed = database.value("SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()")
    assert failed <= {0.03: 10, 0.5: 5, 1: 2}[share] * len(bad) * (poison == "x")


@pytest.mark.parametrize("setting, kept", [("off", "on"), ("local", "local")])
def test_what_is_answered_is_on_disk(start, database, setting, kept):
    """An asynchronous commit is answered before it is written. The trigger sees what counts when it is committed."""
    database.query(f"""
        ALTER DATABASE {database.name} SET synchronous_commit = {setting};
        CREATE TABLE public.seen (place text, setting text);
        CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            INSERT INTO public.seen VALUES (TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER look AFTER INSERT ON vcc.tickets DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.look();
        CREATE CONSTRAINT TRIGGER look AFTER INSERT ON vcc.rejected_events DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.look()""")
    handler = start()
    assert [ask(handler.socket, content)[0] for content in (event("add"), b"[]")] == [200, 422]
    assert database.query("SELECT * FROM public.seen ORDER BY 1") == [("rejected_events", kept), ("tickets", kept)]
    assert "fsync is off" in handler.log.read_text()  # as it is in these tests
    said = command("check", TICKETD_DATABASE=database.handler, TICKETD_AUTH="none").stdout
    assert re.search("^durability +note: fsync is off", said, re.M), said


def test_refused_because_of_the_one_before(start, database):
    """What is refused at the commit must not make another event of its ticket refused."""
    database.query("""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON vcc.tickets DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.type = 'late') EXECUTE FUNCTION public.refuse();
        CREATE TRIGGER pair BEFORE INSERT OR UPDATE ON vcc.tickets FOR EACH ROW
            WHEN (NEW.agent_name IS NOT NULL AND NEW.user_id IS NULL) EXECUTE FUNCTION public.refuse()""")
    handler = start(TICKETD_WORKERS="1", TICKETD_DB_TIMEOUT_MS="25000")
    bodies = [event("add", 1, userId=1), event("update", 1, type="late", userId=None), event("update", 1, agentName="Ann")]
    answers = at_once(handler, database, [json.dumps(body).encode() for body in bodies])
    assert [status for status, _ in answers] == [200, 422, 200]


def test_the_same_body_refused_twice_in_a_batch(start, database):
    database.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'x')")
    bodies = [json.dumps(event("update", ticket, title=title)).encode()
              for ticket, title in ((9, "x"), (1, "x"), (1, "x"), (2, "a"), (2, "b"))]  # fmt: skip
    at_once(start(TICKETD_WORKERS="1", TICKETD_DB_TIMEOUT_MS="25000"), database, bodies)
    assert database.value("SELECT attempts FROM vcc.rejected_events WHERE body = %s", bodies[1]) == 2


def test_what_is_refused_only_together(start, database):
    """No single event is to blame: all are applied, in smaller parts."""
    database.query("""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF (SELECT count(*) > 3 FROM made) THEN RAISE 'too many'; END IF; RETURN NULL; END $$;
        CREATE TRIGGER refuse AFTER INSERT ON vcc.tickets REFERENCING NEW TABLE AS made
            FOR EACH STATEMENT EXECUTE FUNCTION public.refuse()""")
    bodies = [json.dumps(event("update", n % 150, title=str(n // 150))).encode() for n in range(450)]
    answers = at_once(start(TICKETD_WORKERS="1", TICKETD_DB_TIMEOUT_MS="25000"), database, bodies)
    assert [(status, answer["result"]) for status, answer in answers] == [(200, "inserted")] * 150 + [(200, "updated")] * 300
    assert database.query("SELECT title, count(*) FROM vcc.tickets GROUP BY title") == [("2", 150)]
    assert database.value("SELECT count(*) FROM vcc.rejected_events") == 0


def test_another_session_applied_the_event_just_now(nginx, database):
    """The journal says so by its key: the event is tried again, not refused."""
    database.query("""
        CREATE SEQUENCE public.tries;  -- keeps its value when a transaction is undone
        CREATE FUNCTION public.faster() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
                IF nextval('public.tries') = 1 THEN RAISE unique_violation USING TABLE = 'ticket_events'; END IF;
                RETURN NEW;
            END $$;
        CREATE TRIGGER faster BEFORE INSERT ON vcc.ticket_events FOR EACH ROW EXECUTE FUNCTION public.faster()""")
    answer = send(nginx.port, event("update", 1, title="a"))
    assert (answer.status, answer.json["result"]) == (200, "inserted")
    assert database.value("SELECT last_value FROM public.tries") == 2
    assert database.value("SELECT count(*) FROM vcc.rejected_events") == 0


def test_a_column_added_while_serving(nginx, database):
    """A user's column in a table that the session knows already stays the user's; repeats still change nothing."""

    def update(title):
        answer = send(nginx.port, event("update", 1, title=title))
        assert answer.status == 200, answer.json
        return answer.json["result"]

    assert [update("a"), update("a")] == ["inserted", "unchanged"]
    database.query("""ALTER TABLE vcc.tickets ADD note text NOT NULL DEFAULT 'mine',
        ADD n bigint GENERATED ALWAYS AS IDENTITY""")
    assert [update("a"), update("b"), update("b")] == ["unchanged", "updated", "unchanged"]
    assert database.query("SELECT title, note, n FROM vcc.tickets") == [("b", "mine", 1)]


def test_sixty_four_clients(nginx, database):
    """Every answer is right, every journal row there, by one database connection."""
    clients, each = 64, 40
    most = []
    done = threading.Event()

    def watch():
        while not done.is_set():
            most.append(database.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'handler'"))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()

    def client(n):
        return [send(nginx.port, event("add" if i == 0 else "update", n, title=f"{n}/{i}")) for i in range(each)]

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(client, range(clients)))
    done.set()
    watcher.join()
    for a in answers:
        assert [x.json["result"] for x in a] == ["inserted"] + ["updated"] * (each - 1)
    # Everyone gets the own answer: it names the row of what was sent.
    sent = {x.json["event"]: f"{n}/{i}" for n, a in enumerate(answers) for i, x in enumerate(a)}
    assert len(sent) == clients * each
    assert dict(database.query("SELECT event_id::text, payload #>> '{ticket,title}' FROM vcc.ticket_events")) == sent
    assert sorted(database.query("SELECT ticket_id, title FROM vcc.tickets")) == [
        (n, f"{n}/{each - 1}") for n in range(clients)]
    assert max(most) == 1


def test_what_waits_shares_a_commit(nginx, handler, database):
    """While one commit is under way the others gather: they are the next batch."""
    clients = 64
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = pool.map(lambda n: send(nginx.port, event("update", n)), range(clients))
        wait_until(database.handler_waits_for_a_lock)
        time.sleep(1)  # for the others to arrive
        database.query("COMMIT")
        assert {a.status for a in answers} == {200}
    assert database.value("SELECT count(DISTINCT xmin::text) FROM vcc.ticket_events") < clients / 2


def test_random_events_give_the_states_of_the_model(nginx, database):
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("SEED =", seed)
    rng = random.Random(seed)
    expected = model.Model()
    for body in model.random_events(rng, 1500, [(1 + i % 3, i) for i in range(12)]):
        answer = send(nginx.port, body)
        assert answer.status == 200, (body, answer.body)
        assert answer.json["result"] == expected.apply(model.decode(body)), body
    assert not model.compare(database.connection, expected)


def test_idle_connections_delay_nobody(nginx, handler):
    """Half of them have carried a request and are kept, half have never said a word."""
    idle = []
    try:
        for i in range(256):
            idle.append(fastcgi.Connection(handler.socket))
            if i % 2:
                idle[-1].send(fastcgi.request(event("update", i)))
                assert "inserted" in idle[-1].answer()
        start = time.monotonic()
        for i in range(20):
            assert send(nginx.port, event("update", 1000 + i, title="x")).status == 200
        assert time.monotonic() - start < 5
    finally:
        for connection in idle:
            connection.socket.close()


def exactly(text):
    return json.loads(text, parse_int=decimal.Decimal, parse_float=decimal.Decimal)


def test_the_bodies_of_the_unit_tests(nginx, database):
    """Each of tests/data through the whole path: the same status, and what is stored is what was sent."""
    bodies = sorted((ROOT / "tests/data").rglob("*.json"))
    assert len(bodies) > 300
    for path in bodies:
        outcome = re.search(r"^outcome (\w+)", path.with_suffix(".expect").read_text(), re.MULTILINE)[1]
        answer = send(nginx.port, path.read_bytes())
        assert answer.status == (200 if outcome == "decoded" else int(outcome)), (path, answer.body)
        if outcome == "decoded":
            journal = database.value("SELECT payload::text FROM vcc.ticket_events WHERE event_id = %s", answer.json["event"])
            assert exactly(journal) == exactly(path.read_bytes().decode("utf-8-sig")), path
