"""Several hosts, one database: whoever gets an event, the tickets end in the states of the contract."""

import collections
import concurrent.futures
import copy
import dataclasses
import json
import os
import random
import time

import model
from conftest import event, wait_until
from test_logs import lines
from test_spool import ask, waiting

CLIENTS = 24


def test_two_handlers_on_the_same_tickets(start, folder, database):
    """Random events of few tickets, each to one of the two. In the order in which they took effect they give the results
    and the states of the model; what had to be tried again, for a lock or a deadlock, nobody sees."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("SEED =", seed)
    rng = random.Random(seed)
    handlers = [start_in(start, folder, name, TICKETD_WRITERS="2") for name in ("one", "two")]
    bodies = list(model.random_events(rng, 1500, [(1 + i % 3, i) for i in range(12)]))
    work = [(body, rng.choice(handlers)) for body in bodies]

    def send(item):
        body, handler = item
        status, answer, _ = ask(handler.socket, body)
        assert status == 200, answer
        return answer["event"], body, answer["result"]

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        sent = {identifier: (body, result) for identifier, body, result in pool.map(send, work)}
    journal = database.query("""SELECT event_id::text, result, was_open, is_open, changes::text FROM vcc.ticket_events
                                 ORDER BY applied_no""")  # fmt: skip
    assert len(journal) == len(sent) == len(bodies)
    numbers = {identifier: n for n, identifier in enumerate(sorted(sent), 1)}
    models, overtaken = collections.defaultdict(model.Model), 0
    for identifier, result, was_open, is_open, changes in journal:
        body, answered = sent[identifier]
        event = model.decode(body)
        assert result == answered
        effect = (was_open, is_open, *model.read_changes(model.parse(changes))) if changes else None
        # Where the other handler held the ticket it was tried again, and then counts as one that waited. What was ignored
        # has locked nothing: the last of them may not have been in the journal yet.
        ignored = [number for number, (_, done) in models[event.key].taken.get(event.key, {}).items() if done == "ignored"]
        for waited, unseen in [(False, [])] + [(True, ignored[len(ignored) - k:]) for k in range(min(len(ignored), 8) + 1)]:
            after = copy.deepcopy(models[event.key])
            hidden = {number: after.taken[event.key].pop(number) for number in unseen}
            taken = after.apply(dataclasses.replace(event, number=numbers[identifier], waited=waited))
            after.taken[event.key].update(hidden)
            if (taken, after.journal[event.key][-1][3]) == (result, effect):
                models[event.key] = after
                break
        else:  # it changed nothing, and so locked nothing: the ticket was made again before this was in the journal
            assert event.action != "add" and result in ("ignored", "unchanged"), (result, effect, identifier, body)
            overtaken += 1
    expected = model.Model()
    for each in models.values():
        expected.tickets |= each.tickets
        expected.deleted |= each.deleted
    assert not model.compare(database.connection, expected, journal=False)
    assert overtaken < len(bodies) / 20
    for handler in handlers:
        assert {line["msg"][:12] for line in lines(handler) if line["level"] in ("error", "warning")} <= {"fsync is off"}


def start_in(start, folder, name, **settings):
    """Each in a folder of its own, for its socket and its log."""
    (folder / name).mkdir()
    return start(folder=folder / name, **settings)


def test_deletes_stay_deleted(start, folder, database):
    """Once a delete was answered, no host brings the ticket back by an update that it got later."""
    handlers = [start_in(start, folder, name) for name in ("one", "two")]

    def live(ticket):
        rng = random.Random(ticket)
        for n in range(10):
            for action, expected in (("add", {"inserted"}), ("update", {"updated"}), ("delete", {"deleted"}),
                                     ("update", {"ignored"})):  # fmt: skip
                body = json.dumps(event(action, ticket, title=f"{ticket}/{n}/{action}")).encode()
                status, answer, _ = ask(rng.choice(handlers).socket, body)
                assert status == 200 and answer["result"] in expected, (n, action, answer)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(live, range(16)))
    assert database.query("SELECT * FROM vcc.tickets") == []
    assert database.value("SELECT count(*) FROM vcc.deleted_tickets") == 16
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 16 * 40


def test_hosts_with_writers_that_lock_in_other_orders(start, folder, database):
    """A neighbour locks tickets from the other end while two hosts write. Deadlocks are PostgreSQL's to find; an event is
    tried again, and where that lasts too long it is spooled: nobody is told of an error."""
    handlers = [start_in(start, folder, name, TICKETD_SPOOL_DIR=str(folder / name / "spool")) for name in ("one", "two")]
    tickets = list(range(30))
    for ticket in tickets:
        assert ask(handlers[0].socket, event("add", ticket))[0] == 200

    def neighbour():
        for _ in range(4):
            time.sleep(0.2)
            statements = [f"SELECT FROM vcc.tickets WHERE ticket_id = {t} FOR UPDATE" for t in reversed(tickets)]
            try:
                database.cluster.execute("BEGIN; " + "; SELECT pg_sleep(0.01); ".join(statements) + "; COMMIT",
                                         dbname=database.name)  # fmt: skip
            except Exception as error:  # it may be the one that PostgreSQL ends
                assert "deadlock" in str(error)

    def client(n):
        sent, rng = 0, random.Random(n)
        while not done.done():
            body = json.dumps(event("update", rng.choice(tickets), title=str(sent))).encode()
            status, answer, _ = ask(handlers[n % 2].socket, body)
            assert status == 200 and answer["result"] in ("updated", "unchanged", "spooled"), answer
            sent += 1
        return sent

    with concurrent.futures.ThreadPoolExecutor(21) as pool:
        done = pool.submit(neighbour)
        sent = sum(pool.map(client, range(20)))
        done.result()
    wait_until(lambda: not any(waiting(path) for path in folder.glob("*/spool")), 20, "the drain")
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == len(tickets) + sent
