#!/usr/bin/python3
"""Tortures ticketd and its spool: load while all that can break is broken, then each answer is held against the tables.

    torture.py [--rounds N] [--seed S] [--short] [--only PHASE]

TICKETD and FAULTS in the environment name the program and the library of failing calls (default: those in build/).
Whatever was done to it:

  - an event answered 200 is in the journal once, with the identifier and the result of its answer
  - no event is there twice, also none that got no answer, and none both there and set aside
  - the events of one ticket that were answered 200 took effect in the order in which they were sent
  - results and tickets are those that model.py says
  - a body answered 400 or 422 is in vcc.rejected_events once, and so is each event that a trigger did not bear
  - no other event is set aside, unless the server process crashed twice over it alone
  - no event of a ticket that nobody locked or poisoned waits long for its answer while the database is there

Each body carries a serial number, by which the journal's payload is recognised, and is sent once. A ticket has one
sender, which waits for each answer before it sends the ticket's next event.
"""

import argparse
import collections
import contextlib
import copy
import dataclasses
import datetime
import fcntl
import functools
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import disk
import fastcgi
import model
import old_spool
import poison
import psycopg2
from cluster import Cluster
from conftest import ROOT, TICKETD, Database, Handler, command, environment, wait_until
from test_spool import waiting

FAULTS = os.environ.get("FAULTS", str(ROOT / "build/faults.so"))
TABLES = "vcc.tickets, vcc.ticket_events, vcc.deleted_tickets, vcc.ticket_adds, vcc.rejected_events"
HOWS = ["stopped fast", "stopped immediate", "killed", "frozen", "table lock", "revoke"]
FIRST = ["rounds", "events sent", "refused bodies sent", "events poisoned", "answered 200", "  of these spooled", "answered 503",
         "not answered"]
BAD = ["lost", "doubled", "out of order", "wrong tickets", "innocent set aside", "failed checks"]
WAIT_GOAL = 2  # times TICKETD_DB_TIMEOUT_MS, for who did nothing wrong
TAKEN_FOR_SLOW = 3  # times the goal: what the machine's load may add
SEEN_US = 50_000  # within 10 ms a process sees what another one spooled, and this machine is busy

# What is done to each family of calls. A fault that is no error but a way to end (KILL, TORN) is a crash at that very point.
CALLS = {
    "open": ["EMFILE", "EIO", "KILL"],
    "write": ["ENOSPC", "EIO", "SHORT", "HALF", "TORN", "KILL"],
    "fsync": ["EIO", "ENOSPC", "KILL"],
    "ftruncate": ["EIO", "KILL"],
    "unlink": ["EIO", "KILL"],
    "flock": ["EINTR", "ENOLCK", "KILL"],
    "lock": ["ENOLCK", "EAGAIN", "KILL"],
    "read": ["EIO", "KILL"],
    "mmap": ["ENOMEM", "KILL"],
    "opendir": ["EMFILE"],
}
EACH = ["write", "fsync", "send", "recv"]  # fail at every use, the others at the first few and then at some
# What is called only where another call has failed.
PAIRS = [f"{first},{then}" for first in ("write:%d:SHORT", "write:%d:EIO", "fsync:%d:EIO")
         for then in ("ftruncate:1:EIO", "ftruncate:1:KILL", "lock:9+:ENOLCK", "open:9+:EMFILE", "fsync:5+:EIO")]  # fmt: skip
SHORT_CALLS = {"open": ["EMFILE"], "write": ["HALF", "TORN"], "fsync": ["EIO"], "lock": ["EAGAIN"], "read": ["EIO"], "mmap": ["ENOMEM"]}

serials = itertools.count(1)


@dataclasses.dataclass
class Sent:
    """A request and its answer. Status 0: there was none."""

    body: bytes
    key: tuple = None  # of the ticket; None: a body that must be refused
    serial: int = 0
    status: int = 0
    result: str = ""
    event: str = ""
    poison: str = ""
    path: str = ""  # of the daemon's socket
    began: float = 0  # time.time()
    ended: float = 0

    def __str__(self):
        return f"{self.status} {self.result} {self.event} serial {self.serial} of {self.key} {self.poison}: {self.body!r}"


def new_event(rng, key, kind=""):
    serial = next(serials)
    more = b'"serial": %d, ' % serial + (b'"poison": "%s", ' % kind.encode() if kind else b"")
    return Sent(model.random_body(rng, key).replace(b'"ticket": {', b'"ticket": {' + more, 1), key, serial, poison=kind)


def new_refused(rng):
    return Sent(next(serials).to_bytes(4, "big").hex().encode().join(rng.choice([
        (b'{"action":"add","ticket":{"projectId":1,"serial":"', b'"}}'),
        (b'{"action":"close","ticket":{"projectId":1,"ticketId":2,"serial":"', b'"}}'),
        (b'{"action":"add","ticket":{"projectId":1,"ticketId":2,"title":"a\\u0000b","serial":"', b'"}}'),
        (b'["', b'"]'),
        (b'{"action":"add","ticket":{"serial":"', b'"'),
        (b"\xff\x00\x0d\x0a", b"\\"),
    ])))  # fmt: skip


def exchange(connection, request):
    """Sends a request and fills in its answer."""
    request.path, request.began = connection.socket.getpeername(), time.time()
    connection.send(fastcgi.request(request.body))
    head, _, body = connection.answer().partition("\r\n\r\n")
    request.ended = time.time()
    status = int(re.search(r"^Status: (\d+)", head, re.MULTILINE)[1])
    if status == 200:
        answer = json.loads(body)
        request.result, request.event = answer["result"], answer["event"]
    if status == 503 and "Retry-After: " not in head:
        raise ValueError("503 without Retry-After")
    request.status = status


class Load:
    """Clients that send until the block ends."""

    def __init__(self, sockets, rng, clients, pause=0.012, tickets=3, poisoned=0.0):
        self.sockets, self.pause, self.tickets, self.poisoned = sockets, pause, tickets, poisoned
        self.orders = []  # kinds of poison that are to be sent next
        self.sent = [[] for _ in range(clients)]
        self.seen = collections.Counter()  # answers so far by their kind
        self.problems = []
        self.stopped = threading.Event()
        seeds = [rng.getrandbits(64) for _ in range(clients)]
        self.threads = [threading.Thread(target=self.client, args=(n, random.Random(s))) for n, s in enumerate(seeds)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def client(self, n, rng):
        connections = {}
        while not self.stopped.is_set():
            path = rng.choice(self.sockets)
            try:
                connection = connections.get(path) or fastcgi.Connection(path)
            except OSError:
                time.sleep(0.005)  # the daemon is being started
                continue
            connections[path] = connection
            request = self.next_request(n, rng)
            self.sent[n].append(request)
            try:
                exchange(connection, request)
            except TimeoutError:
                self.problems.append(f"no answer: {request}")
            except (ValueError, TypeError) as error:
                self.problems.append(f"{error!r}: {request}")
            except (OSError, EOFError):
                pass  # the daemon was killed
            if request.status == 0:
                connections.pop(path).socket.close()
            self.seen[request.result if request.result == "spooled" else request.status] += 1
            # Not as fast as the spool takes them: draining what came meanwhile would take minutes.
            time.sleep(rng.random() * self.pause * (10 if request.result == "spooled" else 1))
        for connection in connections.values():
            connection.socket.close()

    def next_request(self, n, rng):
        if rng.random() < 0.03:
            return new_refused(rng)
        kind = rng.choice(poison.REFUSED) if rng.random() < self.poisoned else ""
        with contextlib.suppress(IndexError):
            kind = self.orders.pop()
        return new_event(rng, (n, rng.randrange(self.tickets)), kind)

    def wait_for(self, kind, what, count=1):
        """Waits for further answers of a kind: "spooled", a status, 200 being one from the database."""
        before = self.seen[kind]
        wait_until(lambda: self.seen[kind] >= before + count, 180, what)  # on a slow machine too

    def all(self):
        return [request for of_client in self.sent for request in of_client]


class Torture:
    def __init__(self, options, stack):
        self.rng = random.Random(options.seed)
        self.options = options
        self.daemons = {}  # by name
        stack.callback(self.kill_daemons)
        self.tally = collections.Counter()
        self.doing = ""  # for messages
        self.is_away = False  # the database
        self.disturbances = []  # [from, until], by time.time(): when an event may have to wait
        self.longest = (0.0, 0, 0, "", "")  # wait of an innocent event: in time-outs, ms, time-out, when, its answer
        self.last_slow = time.monotonic()
        # The time of each commit tells the order in which events took effect.
        self.cluster = stack.enter_context(Cluster(settings={"track_commit_timestamp": "on"}, on_disk=not options.short))
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torture-"))).resolve()
        self.spool = self.folder / "spool"
        self.database = None

    # -- what is checked ------------------------------------------------------------------------------------------

    def bad(self, kind, text):
        self.tally[kind] += 1
        if self.tally[kind] <= 10:
            print(f"    {kind}, {self.doing}: {text[:400]}", flush=True)

    def check(self, good, text):
        if not good:
            self.bad("failed checks", text)

    def waiting(self):
        """How many events are in the spool."""
        return waiting(self.spool)

    def check_bad(self, damaged=False):
        """A spool is kept aside only where it was damaged; what a killed process leaves is no damage."""
        bad = sorted(self.spool.glob("*.bad*"))
        self.tally["spools kept as .bad"] += sum(path.suffix == ".bad" for path in bad)
        self.check(damaged or not bad, f"nothing was damaged: {bad}")
        for path in bad:
            path.unlink()

    def verify(self, requests, held=(), timeout_ms=None):
        """Holds the answers against the tables, and empties these. `held`: what Neighbour.held says."""
        database = self.database
        database.reconnect()
        wait_until(self.no_backend, 20, "the end of the handler's sessions")
        Row = collections.namedtuple("Row", "event serial committed result payload was_open is_open changes")
        rows = [Row(*row) for row in database.query(
            "SELECT event_id::text, (payload->'ticket'->>'serial')::int, pg_xact_commit_timestamp(xmin), result, payload::text,"
            " was_open, is_open, changes::text FROM vcc.ticket_events ORDER BY 3, applied_no")]  # fmt: skip
        journal = {row.serial: row for row in rows}
        known = {request.serial: request for request in requests if request.key}
        for serial, times in collections.Counter(row.serial for row in rows).items():
            if times > 1 or serial not in known:
                self.bad("doubled", f"{times} rows of {known.get(serial, f'an event never sent, {serial}')}")
        aside = self.verify_aside(requests, journal)
        self.verify_answers(known.values(), journal, aside)
        self.verify_effects([row for row in rows if row.serial in known], known)
        self.verify_waits(requests, held, timeout_ms)
        found = command("verify", TICKETD_DATABASE=database.owner)
        self.check(found.returncode == 0, f"ticketd verify: {found.stdout}{found.stderr}")
        database.query(f"TRUNCATE {TABLES}")
        self.tally["events sent"] += len(known)
        self.tally["events poisoned"] += sum(r.poison != "" for r in requests)
        self.tally["refused bodies sent"] += len(requests) - len(known)
        self.tally["answered 200"] += sum(r.status == 200 for r in requests)
        self.tally["  of these spooled"] += sum(r.result == "spooled" for r in requests)
        self.tally["answered 503"] += sum(r.status == 503 for r in requests)
        self.tally["not answered"] += sum(r.status == 0 for r in requests)

    def no_backend(self):
        return not self.database.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'handler'")

    def verify_aside(self, requests, journal):
        """Returns the bodies that were set aside."""
        aside, bodies = {bytes(body): (reason, attempts) for body, reason, attempts in self.database.query(
            "SELECT body, reason, attempts FROM vcc.rejected_events")}, set()  # fmt: skip
        for request in requests:
            reason, times = aside.get(request.body, ("", 0))
            bodies.add(request.body)
            if times > 1:
                self.bad("doubled", f"a refused body, counted {times} times: {request}")
            if times and request.serial in journal:
                self.bad("doubled", f"set aside and applied, {reason}: {request}")
            if request.key is None:
                self.check(request.status in (0, 400, 422, 503), f"a bad body was not refused: {request}")
                if request.status in (400, 422) and times == 0:
                    self.bad("lost", f"a refused body: {request}")
            elif request.poison:
                if times == 0 and request.status in (200, 422):
                    self.bad("lost", f"poison is not set aside: {request}")
                self.check(request.status in (0, 422, 503) or request.result == "spooled", f"poison was taken: {request}")
                self.check(request.serial not in journal, f"poison was applied: {request}")
            elif times and "server process ended when it worked on it, twice" in reason:
                self.tally["set aside after two crashes"] += 1
            elif times:
                self.bad("innocent set aside", f"{reason}: {request}")
        self.check(not aside.keys() - bodies, f"set aside and never sent: {aside.keys() - bodies}")
        return aside

    def verify_answers(self, events, journal, aside):
        last = {}  # ticket → identifier of its last event answered 200
        for request in events:
            row = journal.get(request.serial)
            if request.body in aside or request.poison:
                continue
            if request.status != 200:
                self.check(request.status in (0, 503), f"an event was refused: {request}")
            elif not row:
                self.bad("lost", str(request))
            else:
                self.check(row.event == request.event, f"journalled as {row.event}: {request}")
                self.check(request.result in ("spooled", row.result), f"journalled as {row.result}: {request}")
                if row.event <= last.get(request.key, ""):
                    self.bad("out of order", f"identifier not above {last[request.key]}: {request}")
                last[request.key] = row.event

    def could_not_be_read(self):
        """Then events go past those that may wait, and count as ones that waited: each daemon says so."""
        return any("the spool cannot be read" in daemon.log.read_text(errors="replace") for daemon in self.daemons.values())

    def verify_effects(self, rows, known):
        """Repeats the journal in the order of the commits, which must be that of the identifiers. Excused is an event
        that was not answered: its daemon was killed, and the backend may commit what it had in hand at any later time. And
        one that was just spooled by another process: then it counts as one that waited."""
        expected, last, wrong = model.Model(), {}, {}
        for row in rows:
            request = known[row.serial]
            event = model.decode(request.body)
            event.number = uuid.UUID(row.event).int
            newest = last.get(request.key)
            if newest and row.event < newest[0]:
                overtaker = newest[1]
                event.waited = self.waited(event, row, request, expected)
                if request.status != 200:
                    self.tally["overtaken without an answer"] += 1
                elif overtaker.path != request.path and (overtaker.began - request.ended) * 1e6 < SEEN_US:
                    self.tally["overtaken in another process"] += 1
                elif self.could_not_be_read():
                    self.tally["went past a spool that could not be read"] += 1
                else:
                    self.bad("out of order", f"took effect after {overtaker}: {request}")
            else:
                last[request.key] = (row.event, request)
            result = expected.apply(event)
            if result != row.result or not model.same(model.parse(row.payload), model.parse(request.body.decode())):
                wrong.setdefault(str(request.key), f"expected {result}: {row}")
        for line in model.compare(self.database.connection, expected, journal=False):
            wrong.setdefault(re.match(r"ticket (\(.*?\))", line)[1], line)
        for key, text in wrong.items():
            self.bad("wrong tickets", f"{key}: {text}")

    @staticmethod
    def waited(event, row, request, expected):
        """Whether an overtaken event was applied as one that waited: of one that was not answered only its effect tells."""
        if request.status == 200:
            return True
        trial = copy.deepcopy(expected)
        done = trial.apply(dataclasses.replace(event, waited=True))
        effect = (row.was_open, row.is_open, *model.read_changes(model.parse(row.changes))) if row.changes else None
        return done == row.result and model.same(trial.journal[event.key][-1][3], effect)

    def verify_waits(self, requests, held, timeout_ms):
        """How long events waited for their answers with which nothing was wrong, while the database was there."""
        if not timeout_ms:
            return
        held_by_key = collections.defaultdict(list)
        for key, *span in held:
            held_by_key[key].append(span)
        spans = self.disturbances + self.crashes()
        for request in requests:
            wait = (request.ended - request.began) * 1000
            if request.status == 0 or request.poison or wait / timeout_ms <= self.longest[0]:
                continue
            if not any(begin < request.ended and request.began < end for begin, end in spans + held_by_key[request.key]):
                self.longest = (wait / timeout_ms, wait, timeout_ms, self.doing, str(request)[:60])
                self.check(wait < TAKEN_FOR_SLOW * WAIT_GOAL * timeout_ms, f"{wait:.0f} ms of {timeout_ms} for an answer: {request}")

    def crashes(self):
        """When the server was down because one of its processes had crashed, by its log."""
        spans, began = [], None
        for line in self.cluster.log().splitlines():
            if "was terminated by signal 9" in line or "ready to accept connections" in line:
                when = datetime.datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S.%f").timestamp()
                if "ready" not in line:
                    began = began or when
                elif began:
                    spans.append([began, when + 1])
                    began = None
        return spans

    @contextlib.contextmanager
    def disturbed(self):
        """In the block, and until what was begun in it has ended, events may have to wait."""
        span = [time.time(), float("inf")]
        self.disturbances.append(span)
        try:
            yield
        finally:
            span[1] = time.time() + 0.5

    # -- daemons --------------------------------------------------------------------------------------------------

    def new_database(self, name):
        if self.database:
            self.database.connection.close()
        self.database = Database(self.cluster, name)
        self.database.query(poison.SQL)
        self.disturbances.clear()
        self.new_spool()

    def new_spool(self, template=None):
        shutil.rmtree(self.spool, ignore_errors=True)
        if template:
            shutil.copytree(template, self.spool)
        else:
            self.spool.mkdir()

    def daemon(self, name="a", database=None, **settings):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "ticketd.log").unlink(missing_ok=True)  # it tells of this one
        daemon = Handler(folder, database or self.database, TICKETD_SPOOL_DIR=self.spool, **settings)
        self.daemons[name] = daemon
        return daemon

    def start_again(self, daemon):
        daemon.start()
        self.check(daemon.process.poll() is None, f"does not start again: {daemon.log.read_text()[-300:]}")

    def kill_daemons(self):
        for daemon in self.daemons.values():
            daemon.kill()

    def end(self, daemon, how=None):
        """Ends a daemon, by chance one way or the other."""
        how = how or self.rng.choices(["kill -9", "SIGTERM"], [9, 1])[0]
        self.tally[how] += 1
        if how == "SIGTERM":
            status = daemon.stop()
            self.check(status == 0, f"SIGTERM: status {status}: {daemon.log.read_text(errors='replace')[-300:]}")
        else:
            daemon.kill()

    def nowhere(self):
        """What stands for a database and leads to none."""
        return types.SimpleNamespace(handler=f"host={self.folder}/nowhere")

    # -- rounds of load -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def away(self, how):
        """The database takes no events in the block."""
        with self.disturbed():
            with self.really_away(how):
                yield

    @contextlib.contextmanager
    def really_away(self, how):
        self.tally[f"postgres {how}"] += 1
        name, function = self.database.name, "EXECUTE ON FUNCTION vcc.apply_events"
        lock = None
        if how == "frozen":
            self.cluster.freeze()
        elif how == "table lock":
            lock = self.cluster.connect(name, autocommit=False)
            lock.cursor().execute("LOCK TABLE vcc.tickets")
        elif how == "revoke":
            self.cluster.execute(f"REVOKE {function} FROM vcc_writer", dbname=name)
        elif how == "killed":
            self.cluster.kill9()
        else:
            self.cluster.stop(how.split()[1])
        self.is_away = True
        try:
            yield
        finally:
            self.is_away = False
            if how == "frozen":
                self.cluster.thaw()
            elif how == "table lock":
                lock.close()
            elif how == "revoke":
                self.cluster.execute(f"GRANT {function} TO vcc_writer", dbname=name)
            else:
                self.cluster.start()

    def kills(self, daemons, longest):
        for _ in range(10 if self.options.short else 15):
            time.sleep(self.rng.uniform(0, longest))
            daemon = self.rng.choice(daemons)
            self.tally["ended while draining"] += bool(not self.is_away and self.waiting())
            self.end(daemon)
            if self.rng.random() < 0.2:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.drain(self.rng.uniform(0.01, 0.1))
                self.tally["spool drain beside the load"] += 1
            self.start_again(daemon)

    def only_kills(self, daemons, load):
        self.kills(daemons, 0.25)

    def kills_while_away(self, daemons, load):
        # A backend that waits for a lock outlives its daemon: many kills would use up the connections.
        with self.away(self.rng.choice([how for how in HOWS if how != "table lock"])):
            self.kills(daemons, 0.25)

    def kills_while_draining(self, daemons, load):
        with self.away(self.rng.choice(HOWS)):
            load.wait_for("spooled", "spooling", 400 if self.options.short else 1500)
        self.kills(daemons, 0.06)  # a daemon drains from its start

    def only_away(self, daemons, load, how=None):
        for how in [how] if how else self.rng.sample(HOWS, 2):
            with self.away(how):
                load.wait_for("spooled", f"spooling, {how}", 100)
            time.sleep(self.rng.uniform(0, 1.5))

    def restarts(self, daemons, load):
        for _ in range(self.rng.randrange(1, 3)):
            time.sleep(self.rng.uniform(0, 0.5))
            self.tally["postgres restarted"] += 1
            with self.disturbed():
                self.cluster.restart(self.rng.choice(["fast", "immediate"]))

    def terminations(self, daemons, load):
        connection = self.cluster.connect()
        cursor = connection.cursor()
        with self.disturbed():
            for _ in range(30):
                time.sleep(self.rng.uniform(0, 0.1))
                cursor.execute("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'handler'")
                self.tally["backends terminated"] += cursor.fetchone()[0]
        connection.close()

    def stalls(self, daemons, load):
        with self.away(self.rng.choice(HOWS)):
            for _ in range(3):
                daemon = self.rng.choice(daemons)
                self.tally["daemon frozen"] += 1
                daemon.process.send_signal(signal.SIGSTOP)
                time.sleep(self.rng.uniform(0.1, 2.5))
                daemon.process.send_signal(signal.SIGCONT)
                time.sleep(self.rng.uniform(0, 0.2))

    def round(self, number, disturb, daemon_count):
        name = getattr(disturb, "func", disturb).__name__.replace("_", " ")
        self.doing = f"round {number}, {name}"
        began, before = time.monotonic(), self.tally.copy()
        rng = self.rng
        settings = {
            "TICKETD_DB_TIMEOUT_MS": rng.randrange(600, 901),  # a batch has a quarter of it
            "TICKETD_WRITERS": rng.choice([1, 1, 3]),
            "TICKETD_BATCH": rng.choice([16, 512]),
        }
        if not self.options.short and rng.random() < 0.3:
            calls = rng.choices([call for call in CALLS if call != "rename"], k=6)
            faults = ",".join(f"{call}:{rng.randrange(1, 120)}:{CALLS[call][0]}" for call in calls)
            settings.update(self.fault(f"{faults},write:%d:EIO", rng.randrange(1, 120), "")[0])
            self.doing += f", {settings['FAULT']}"
        daemons = [self.daemon(name, **settings) for name in "ab"[:daemon_count]]
        clients = 16 if self.options.short else rng.randrange(16, 33)
        keys = [(n, ticket) for n in range(clients) for ticket in range(3)]
        neighbour = poison.Neighbour(self.cluster, self.database.name, random.Random(rng.random()), keys, (0.5, 3))
        with Load([d.socket for d in daemons], rng, clients, poisoned=0.01) as load:
            time.sleep(rng.uniform(0.1, 0.3))
            with neighbour if rng.random() < 0.5 else contextlib.nullcontext():
                disturb(daemons, load)
                self.order_slow(load)
            load.wait_for(200, "the database's answers under load", 20)
        self.wait_for_drain()
        for daemon in daemons:
            self.end(daemon, "SIGTERM")
        for problem in load.problems:
            self.check(False, problem)
        self.check_bad()
        self.verify(load.all(), neighbour.held, settings["TICKETD_DB_TIMEOUT_MS"])
        self.tally["rows locked by neighbours"] += len(neighbour.held)
        self.tally["rounds"] += 1
        if "FAULT_REPORT" in settings:
            report = settings["FAULT_REPORT"]
            self.tally["call faults"] += report.stat().st_size if report.exists() else 0
        done = self.tally - before
        print(f"{self.doing}, daemons: {daemon_count}: {done['events sent']} events, {done['answered 200']} answered 200, "
              f"{done['  of these spooled']} spooled, {done['kill -9']} kills, {time.monotonic() - began:.1f} s", flush=True)  # fmt: skip

    def order_slow(self, load):
        """Once a minute a slow event and one that crashes the server process."""
        if time.monotonic() - self.last_slow > 60:
            load.orders += [poison.SLOW, poison.CRASH]
            self.last_slow = time.monotonic()
            wait_until(lambda: not load.orders, 20, "sending them")
            time.sleep(1)

    def wait_for_drain(self, seconds=60):
        """The tickets' tries are a minute apart at last; nobody has so much time."""
        until = time.monotonic() + seconds
        while self.waiting():
            if time.monotonic() > until:
                with contextlib.closing(sqlite3.connect(self.spool / "spool.db")) as db:
                    rows = db.execute("SELECT w.ticket, w.events, w.tries, w.why, (SELECT e.tries FROM events e WHERE e.ticket = w.ticket ORDER BY no LIMIT 1), (SELECT substr(e.body, 1, 300) FROM events e WHERE e.ticket = w.ticket ORDER BY no LIMIT 1) FROM waiting w LIMIT 9").fetchall()
                raise AssertionError(f"the spool is not empty after {seconds} s: {self.waiting()} events, {rows}")
            with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(
                    sqlite3.connect(f"file:{self.spool / 'spool.db'}?mode=rw", uri=True)) as db:  # fmt: skip
                db.execute("UPDATE waiting SET next_try = 0 WHERE tries > 2")
                db.commit()
            time.sleep(0.5)

    def rounds(self):
        self.new_database("rounds")
        plan = [
            (self.only_kills, 1),
            (self.kills_while_away, 1),
            (self.kills_while_draining, 2),
            (functools.partial(self.only_away, how="frozen"), 1),
            (functools.partial(self.only_away, how="table lock"), 1),
            (self.restarts, 2),
        ]
        kinds = [self.only_kills, self.kills_while_away, self.kills_while_draining, self.only_away, self.restarts,
                 self.terminations, self.stalls]  # fmt: skip
        while not self.options.short and len(plan) < self.options.rounds:
            plan.append((self.rng.choices(kinds, [3, 4, 5, 3, 1, 1, 1])[0], self.rng.choice([1, 1, 2])))
        for number, (disturb, daemon_count) in enumerate(plan[: self.options.rounds], 1):
            self.round(number, disturb, daemon_count)

    # -- no space -------------------------------------------------------------------------------------------------

    def disk_full(self):
        """A spool that has reached its limit, and one on a file system that is full, and read-only."""
        self.new_database("disk")
        self.fill("spool at its limit", filler=None, TICKETD_SPOOL_MAX_MB=1)
        mount = ["mount", "-t", "tmpfs", "-o", "size=28m", "torture", str(self.spool)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            print("skipped: disk full on a tmpfs: needs root")
            return
        try:
            self.fill("disk full", filler=self.spool / "filler")
            self.read_only()
        finally:
            self.kill_daemons()
            subprocess.run(["umount", "-l", str(self.spool)], check=True)

    def fill(self, name, filler, **settings):
        self.doing = name
        daemon = self.daemon(TICKETD_DB_TIMEOUT_MS=300, **settings)
        if filler:
            filler.write_bytes(bytes(11 << 20))  # a disk with less than 16 MB counts as full
        # So many tickets that some do not wait: with no space at all the others' events stay in the spool.
        with Load([daemon.socket], self.rng, 16, tickets=1000) as load:
            with self.away("stopped fast"):
                load.wait_for(503, "503 with no space left", 20)
                self.tally[name] += 1
                if filler:
                    os.truncate(filler, 10 << 20)
                    load.wait_for("spooled", "spooling when there is space again")
                    load.wait_for(503, "503 with no space left again", 20)
                    self.tally[name] += 1
                    with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
                        while file.write(bytes(65536)):
                            pass  # to the last byte: what is applied cannot be forgotten then
            load.wait_for(200, "the database's answers under load", 20)
            if filler:
                time.sleep(1)
                filler.unlink()
        self.wait_for_drain()
        self.end(daemon, "SIGTERM")
        self.check(load.seen["spooled"] > 0, "nothing was spooled")
        self.verify(load.all())
        print(f"{name}: {load.seen['spooled']} spooled, {load.seen[503]} answered 503", flush=True)

    def read_only(self):
        """Nothing can be spooled or drained, and the database's events go past it."""
        self.doing = "read-only"
        requests = self.fill_spool(20)
        subprocess.run(["mount", "-o", "remount,ro", str(self.spool)], check=True)
        daemon = self.daemon("c", self.nowhere(), TICKETD_DB_TIMEOUT_MS=100)
        refused = [new_event(self.rng, (2, i)) for i in range(5)]
        self.send_each(daemon, refused)
        self.check(all(r.status == 503 for r in refused), f"answered {[r.status for r in refused]} though nothing can be kept")
        self.end(daemon, "SIGTERM")
        daemon = self.daemon("c", TICKETD_DB_TIMEOUT_MS=3000)
        passing = [new_event(self.rng, (3, i)) for i in range(20)]
        self.send_each(daemon, passing)
        self.check(all(r.status == 200 for r in passing), f"answered {[r.status for r in passing]} by a healthy database")
        subprocess.run(["mount", "-o", "remount,rw", str(self.spool)], check=True)
        self.wait_for_drain()
        self.end(daemon, "SIGTERM")
        self.drain_and_verify(requests + refused + passing)
        self.tally["spool read-only"] += 1

    # -- failing calls --------------------------------------------------------------------------------------------

    def fault(self, call, n, what, folder=None):
        """The environment that makes a call fail on the spool's files or those of another folder, and a question whether it
        did. `call` may hold several, with %d for n."""
        report = self.folder / "report"
        report.unlink(missing_ok=True)
        fault = call % n if "%d" in call else f"{call}:{n}:{what}"
        if what == "HALF":
            fault += f",write:{n + 1}:ENOSPC"  # there is no space for the rest, and then there is again
        return {"LD_PRELOAD": FAULTS, "FAULT_DIR": folder or self.spool, "FAULT": fault, "FAULT_REPORT": report}, report.exists

    def send_each(self, daemon, requests):
        """Sends requests one after the other. A daemon that has died is started again, without the fault."""
        for request in requests:
            for _ in range(2):
                if daemon.process.poll() is not None:
                    self.check_end(daemon.process)
                    daemon.settings = {k: v for k, v in daemon.settings.items() if not k.startswith(("LD_", "FAULT"))}
                    self.start_again(daemon)
                try:
                    with fastcgi.Connection(daemon.socket) as connection:
                        exchange(connection, request)
                    break
                except ConnectionRefusedError:
                    daemon.process.wait(5)  # it died after its last answer: this one was not sent
                except (OSError, EOFError):
                    daemon.process.wait(5)
                    break

    def drain(self, timeout=60, **more):
        """`ticketd spool drain`, killed when it takes longer."""
        settings = environment(TICKETD_DATABASE=self.database.handler, TICKETD_SPOOL_DIR=self.spool, **more)
        return subprocess.run([TICKETD, "spool", "drain"], env=settings, timeout=timeout, capture_output=True)

    def drain_badly(self, fault):
        done = self.drain(**fault)
        self.check_end(done)
        self.check(done.returncode != 0 or not self.waiting(), "spool drain: status 0 with events left")

    def drain_and_verify(self, requests, damaged=False):
        done = self.drain()
        until = time.monotonic() + 20
        while done.returncode != 0 and time.monotonic() < until:
            time.sleep(0.5)  # tickets were put off
            done = self.drain()
        self.check(done.returncode == 0 and not self.waiting(), f"{done}: {sorted(self.spool.iterdir())}")
        self.check_bad(damaged)
        self.verify(requests)

    def check_end(self, daemon_or_drain):
        """A fault may keep a program from starting or from its aim; it never makes it crash."""
        self.check(daemon_or_drain.returncode in (None, 0, 1, 2, -signal.SIGKILL), f"{daemon_or_drain}")

    def serve_case(self, call, n, what):
        """A handler whose database is away and one of whose calls fails; then a drain with another fault, then one without."""
        rng = self.rng
        second = rng.choice(list(CALLS))
        more = (second, rng.randrange(1, 5), rng.choice(CALLS[second]))
        self.doing = f"serve {call}:{n}:{what}, drain {more}"
        self.new_spool()
        fault, happened = self.fault(call, n, what)
        daemon = self.daemon("c", self.nowhere(), TICKETD_DB_TIMEOUT_MS=100, **fault)
        requests = [new_event(rng, (1, 1 + i % 2)) for i in range(4)]
        requests.insert(2, new_refused(rng))
        self.send_each(daemon, requests)
        killed = "KILL" in fault["FAULT"] or "TORN" in fault["FAULT"]
        self.end(daemon, "kill -9" if killed else rng.choice(["kill -9", "SIGTERM"]))
        fired = happened()
        if (call, n) == ("fsync", "1+"):
            self.check(not any(r.status == 200 for r in requests), "answered 200 though nothing was synchronised")
        fault, happened = self.fault(*more)
        self.drain_badly(fault)
        self.tally["call faults"] += fired + happened()
        self.drain_and_verify(requests)
        return fired

    def fill_spool(self, count, tickets=3):
        """As a killed process leaves it: with events in the -wal."""
        requests = [new_event(self.rng, (1, 1 + i % tickets)) for i in range(count)]
        daemon = self.daemon("c", self.nowhere(), TICKETD_DB_TIMEOUT_MS=100)
        self.send_each(daemon, requests)
        self.end(daemon, "kill -9")
        return requests

    def filled_spool(self):
        """A spool of three processes that were killed, one after half a write, one after a failed fsync."""
        self.doing = "filling a spool"
        self.new_spool()
        requests = [new_event(self.rng, (1, 1 + i % 3)) for i in range(12)] + [new_refused(self.rng) for _ in range(3)]
        self.rng.shuffle(requests)
        parts = [(requests[:5], "write", 40, "TORN"), (requests[5:10], "fsync", 3, "EIO"), (requests[10:], "write", 6, "TORN")]
        for part, *what in parts:
            fault, _ = self.fault(*what)
            daemon = self.daemon("c", self.nowhere(), TICKETD_DB_TIMEOUT_MS=100, **fault)
            self.send_each(daemon, part)
            self.end(daemon, "kill -9")
        template = self.folder / "template"
        shutil.rmtree(template, ignore_errors=True)
        shutil.copytree(self.spool, template)
        print(f"a spool of {waiting(template)} events to drain")
        return requests, template

    def drain_case(self, requests, template, call, n, what):
        self.doing = f"drain {call}:{n}:{what}"
        self.new_spool(template)
        fault, happened = self.fault(call, n, what)
        self.drain_badly(fault)
        self.tally["call faults"] += happened()
        self.drain_and_verify(requests)
        return happened()

    def background_case(self, requests, template, call, n, what):
        """The same for the drainer inside the daemon, which must get over the fault by itself. In half of the cases another
        process drains and takes its time: new events must not overtake those in the spool."""
        self.doing = f"background {call}:{n}:{what}"
        self.new_spool(template)
        fault, happened = self.fault(call, n, what)
        with open(self.spool / "drain.lock", "a") as lock:
            if self.rng.random() < 0.5:
                self.doing += ", drained by another"
                fcntl.flock(lock, fcntl.LOCK_EX)
            daemon = self.daemon("c", TICKETD_DB_TIMEOUT_MS=300, **fault)
            later = [new_event(self.rng, (1, 1 + i % 3)) for i in range(6)]
            self.send_each(daemon, later)
        if isinstance(n, int) and what != "SHORT":  # then no write goes well any more, and what left cannot be forgotten
            wait_until(lambda: not self.waiting() or daemon.process.poll() is not None, 30, "an empty spool")
        self.check_end(daemon.process)
        self.end(daemon, "kill -9" if what in ("KILL", "TORN") else "SIGTERM")
        self.tally["call faults"] += happened()
        self.drain_and_verify(requests + later)
        return happened()

    def sweep(self, name, case, calls, limit):
        """Each call fails at its first use, then at its second, until it has no more uses."""
        for call, whats in calls.items():
            for what in whats:
                n, count = 1, 1
                while case(call, n, what) and n < limit:
                    n += 1 if n < 6 or (call in EACH and what != "KILL") else self.rng.randrange(1, 2 + n // 2)
                    count += 1
                print(f"{name}: {call} {what}: {count} cases, the last at use {n}", flush=True)

    def call_faults(self):
        self.new_database("faults")
        calls, limit = (SHORT_CALLS, 3) if self.options.short else (CALLS, 200)
        self.sweep("serve", self.serve_case, calls, limit)
        for call in ("open", "write", "fsync", "flock", "lock", "read"):
            fired = self.serve_case(call, "1+", "EIO")
            self.check(fired, f"{call} was never called")
        for pair in [] if self.options.short else PAIRS:
            for n in range(1, 8):
                self.serve_case(pair, n, "")
        spool = self.filled_spool()
        self.sweep("drain", functools.partial(self.drain_case, *spool), calls, limit)
        self.sweep("background", functools.partial(self.background_case, *spool), calls, 1 if self.options.short else 24)
        self.background_case(*spool, "opendir", "1+", "EMFILE")

    # -- lost connections -----------------------------------------------------------------------------------------

    def connection_case(self, call, n, what):
        """The handler's connection to the database ends before its Nth send or recv; what was sent may be committed."""
        self.doing = f"connection {call}:{n}:{what}"
        self.new_spool()
        fault, happened = self.fault(call, n, what, self.database.cluster.directory)
        daemon = self.daemon("c", TICKETD_DB_TIMEOUT_MS=1000, **fault)
        requests = [new_event(self.rng, (1, 1 + i % 2)) for i in range(8)]
        requests.insert(4, new_refused(self.rng))
        self.send_each(daemon, requests)
        self.end(daemon, "SIGTERM")
        self.tally["lost connections"] += happened()
        self.drain_and_verify(requests)
        return happened()

    def lost_connections(self):
        self.new_database("connections")
        calls = {"send": ["CUT", "EPIPE"], "recv": ["CUT", "ECONNRESET"]}
        self.sweep("connection", self.connection_case, calls, 4 if self.options.short else 60)

    # -- power cut ------------------------------------------------------------------------------------------------

    def power_cuts(self):
        """What was not synchronised is gone or garbage, as after a power cut. The library kept a record of what was."""
        self.new_database("power")
        for turn in range(3 if self.options.short else 30):
            self.doing = f"power cut {turn}"
            self.new_spool()
            log = self.folder / "history"
            log.unlink(missing_ok=True)
            record = {"LD_PRELOAD": FAULTS, "FAULT_DIR": self.spool, "FAULT_LOG": log}
            drains = turn % 3 == 1  # then it is cut while what was applied is forgotten
            with self.away("stopped fast") if drains else contextlib.nullcontext():
                daemon = self.daemon("c", self.database if drains else self.nowhere(), TICKETD_DB_TIMEOUT_MS=100, **record)
                load = Load([daemon.socket], self.rng, 8, pause=0.004)
                with load:
                    load.wait_for("spooled", "spooling", self.rng.choice([1, 20, 200, 600]))
                    if not drains:
                        self.end(daemon, "kill -9")
            if drains:
                time.sleep(self.rng.uniform(0, 1))
                self.end(daemon, "kill -9")
            self.tally["bytes lost by power cuts"] += disk.cut_power(log, self.spool, self.rng)
            self.tally["power cuts"] += 1
            self.drain_and_verify(load.all())
        print(f"power cuts: {self.tally['power cuts']}", flush=True)

    # -- a spool that was damaged while nobody ran, and one of the old format ----------------------------------------

    def damages(self):
        self.new_database("damage")
        for _ in range(1 if self.options.short else 10):
            for case in (self.damaged_pages, self.cut_wal, self.longer_wal, self.old_format):
                self.doing = case.__name__.replace("_", " ")
                self.new_spool()
                case()
                self.tally[f"spool: {self.doing}"] += 1
        print(f"damages: {self.tally['spool: damaged pages']} of each kind", flush=True)

    def run_and_drain(self, requests):
        """A daemon on the spool as it is, with new events of its tickets and of others."""
        daemon = self.daemon("c", TICKETD_DB_TIMEOUT_MS=300)
        requests += [new_event(self.rng, (1 + i % 2, i)) for i in range(20)]
        self.send_each(daemon, requests[-20:])
        self.check(all(r.status == 200 for r in requests[-20:]), f"answered {[r.status for r in requests[-20:]]}")
        self.wait_for_drain()
        self.end(daemon, "SIGTERM")

    def damaged_pages(self):
        requests = self.fill_spool(150, tickets=10)
        disk.checkpoint(self.spool / "spool.db")
        before = disk.damage(self.spool / "spool.db", self.rng)
        self.excuse_late(requests)
        self.run_and_drain(requests)
        for file in self.spool.glob("*.bad"):
            settings = environment(TICKETD_DATABASE=self.database.handler, TICKETD_SPOOL_DIR=self.spool)
            done = subprocess.run([TICKETD, "spool", "add", file], env=settings, timeout=60, capture_output=True, text=True)
            self.check(done.returncode in (0, 2), f"spool add: {done}")
        for request in requests:  # what was on that page is lost, and nothing else
            if request.event and uuid.UUID(request.event).bytes in before:
                request.status = 0
        self.drain_and_verify(requests, damaged=True)

    @staticmethod
    def excuse_late(requests):
        """Events that come back by hand are overtaken, by spooled ones too."""
        for request in requests:
            request.path = "by hand" if request.result == "spooled" else request.path
            request.ended += 1000

    def cut_wal(self):
        requests = self.fill_spool(40)
        wal = self.spool / "spool.db-wal"
        os.truncate(wal, self.rng.randrange(wal.stat().st_size))
        with contextlib.suppress(sqlite3.DatabaseError):
            self.tally["events in a cut -wal"] += waiting(self.spool)
        self.run_and_drain(requests)
        self.database.reconnect()
        there = {row[0] for row in self.database.query("SELECT (payload->'ticket'->>'serial')::int FROM vcc.ticket_events")}
        kept = [request.serial in there for request in requests[:40]]
        self.check(kept == sorted(kept, reverse=True), f"it is not the last that are gone: {kept}")
        for request in requests[:40]:
            request.status = 200 if request.serial in there else 0
        self.drain_and_verify(requests)

    def longer_wal(self):
        requests = self.fill_spool(40)
        with open(self.spool / "spool.db-wal", "ab") as file:
            file.write(self.rng.randbytes(self.rng.randrange(1, 20000)))
        self.run_and_drain(requests)
        self.drain_and_verify(requests)

    def old_format(self):
        """Taken over by a daemon that is killed at it."""
        requests = [new_event(self.rng, (1, i % 50)) if i % 20 else new_refused(self.rng) for i in range(1000)]
        old_spool.write(self.spool, requests, self.rng)
        for _ in range(3):
            daemon = self.daemon("c", TICKETD_DB_TIMEOUT_MS=300)
            time.sleep(self.rng.uniform(0, 0.05))
            self.end(daemon, "kill -9")
        self.run_and_drain(requests)
        self.check(not list(self.spool.glob("*.segment")), "old segments are left")
        self.drain_and_verify(requests)

    # -- nothing waits for what is held, slow or refused ------------------------------------------------------------

    def nothing_waits(self):
        """One daemon that nobody kills, and a database that is there. What must wait is one ticket at a time."""
        self.new_database("waits")
        for turn in range(1 if self.options.short else 6):
            timeout_ms, writers = 1000, self.rng.choice([1, 1, 3])
            self.doing = f"nothing waits, {writers} writers"
            began = time.monotonic()
            daemon = self.daemon(TICKETD_DB_TIMEOUT_MS=timeout_ms, TICKETD_WRITERS=writers)
            locks = (1, 3) if self.options.short or turn % 2 else (20, 90)
            keys = [(n, ticket) for n in range(16) for ticket in range(10)]
            neighbour = poison.Neighbour(self.cluster, self.database.name, random.Random(self.rng.random()), keys, locks)
            with Load([daemon.socket], self.rng, 16, tickets=10, poisoned=0.02 if self.options.short else 0.01) as load:
                with neighbour:
                    time.sleep(1)
                    load.orders.append(poison.SLOW)
                    time.sleep(4 if self.options.short else 60)
                    load.orders.append(poison.CRASH)
                    time.sleep(4 if self.options.short else 60)
                with self.away("stopped fast"):
                    load.wait_for("spooled", "spooling", 300 if self.options.short else 2000)
                load.wait_for(200, "the database's answers during the drain", 200)
            self.wait_for_drain()
            self.end(daemon, "SIGTERM")
            for problem in load.problems:
                self.check(False, problem)
            self.check_bad()
            self.verify(load.all(), neighbour.held, timeout_ms)
            self.tally["rows locked by neighbours"] += len(neighbour.held)
            print(f"{self.doing}: {len(load.all())} events, {len(neighbour.held)} rows locked, "
                  f"{time.monotonic() - began:.1f} s; longest wait so far {self.longest[0]:.2f} time-outs", flush=True)  # fmt: skip
        self.one_connection()

    def one_connection(self):
        """The login may have one connection: the drain shares it."""
        self.doing = "one connection"
        requests = self.fill_spool(20)
        self.database.query("ALTER ROLE handler CONNECTION LIMIT 1")
        daemon = self.daemon("c", TICKETD_DB_TIMEOUT_MS=1000)
        later = [new_event(self.rng, (2, i % 3)) for i in range(20)]
        self.send_each(daemon, later)
        self.wait_for_drain(20)
        self.end(daemon, "SIGTERM")
        self.database.query("ALTER ROLE handler CONNECTION LIMIT -1")
        self.verify(requests + later, (), 1000)
        self.tally["drained with one connection"] += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=130, help="rounds of load (130 are about ten minutes)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--short", action="store_true", help="a little of everything")
    phases = ["rounds", "nothing_waits", "disk_full", "call_faults", "lost_connections", "power_cuts", "damages"]
    parser.add_argument("--only", choices=phases, action="append", help="phases to run")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that everything is cleaned up

    print(f"torture, seed {options.seed}", flush=True)
    os.stat(FAULTS)  # where it is missing, the loader would only say so and go on
    with contextlib.ExitStack() as stack:
        torture = Torture(options, stack)
        for phase in options.only or phases:
            try:
                getattr(torture, phase)()
            except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError, psycopg2.Error) as error:
                torture.check(False, f"{phase} ends here: {error!r}")
                traceback.print_exc(file=sys.stdout)
                for daemon in torture.daemons.values():
                    print(daemon.log.read_text(errors="replace")[-1500:])
                torture.kill_daemons()
    print("\n" + "-" * 48)
    for kind in FIRST + sorted(torture.tally.keys() - {*FIRST, *BAD}) + BAD:
        print(f"{kind:32}{torture.tally[kind]:16,}")
    print("\nlongest wait of an innocent event: {:.2f} time-outs, {:.0f} ms of {} ({}: {}); goal: under {}".format(*torture.longest, WAIT_GOAL))
    return 1 if any(torture.tally[kind] for kind in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
