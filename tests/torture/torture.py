#!/usr/bin/python3
"""Tortures ticketd and its spool: load while all that can break is broken, then each answer is held against the tables.

    torture.py [--rounds N] [--seed S] [--short] [--only PHASE]

TICKETD and FAULTS in the environment name the program and the library of failing calls (default: those in build/).
Whatever was done to it:

  - an event answered 200 is in the journal once, with the identifier and the result of its answer
  - no event is there twice, also none that got no answer
  - the events of one ticket that were answered 200 took effect in the order in which they were sent
  - results and tickets are those that model.py says
  - a body answered 400 or 422 is in vcc.rejected_events once

Each body carries a serial number, by which the journal's payload is recognised, and is sent once. A ticket has one
sender, which waits for each answer before it sends the ticket's next event.
"""

import argparse
import collections
import contextlib
import dataclasses
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
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import fastcgi
import model
import psycopg2
from cluster import Cluster
from conftest import ROOT, TICKETD, Database, Handler, environment, wait_until

FAULTS = os.environ.get("FAULTS", str(ROOT / "build/faults.so"))
TABLES = "vcc.tickets, vcc.ticket_events, vcc.deleted_tickets, vcc.ticket_adds, vcc.rejected_events"
HOWS = ["stopped fast", "stopped immediate", "killed", "frozen", "table lock", "revoke"]
FIRST = ["rounds", "events sent", "refused bodies sent", "answered 200", "  of these spooled", "answered 503", "not answered"]
BAD = ["lost", "doubled", "out of order", "wrong tickets", "failed checks"]

# What is done to each family of calls. A fault that is no error but a way to end (KILL, TORN) is a crash at that very point.
CALLS = {
    "open": ["EMFILE", "EIO", "KILL"],
    "write": ["ENOSPC", "EIO", "SHORT", "HALF", "TORN", "KILL"],
    "fsync": ["EIO", "ENOSPC", "KILL"],
    "rename": ["EIO", "KILL"],
    "unlink": ["EIO", "KILL"],
    "flock": ["EINTR", "ENOLCK", "KILL"],
    "read": ["EIO", "KILL"],
    "opendir": ["EMFILE", "KILL"],
    "readdir": ["EIO"],
}
# What is called only where another call has failed.
PAIRS = [f"{first},{then}" for first in ("write:%d:SHORT", "write:%d:EIO", "fsync:%d:EIO")
         for then in ("ftruncate:1:EIO", "ftruncate:1:KILL", "unlink:1:EIO", "open:9+:EMFILE", "fsync:5+:EIO")]  # fmt: skip
SHORT_CALLS = {"open": ["EMFILE"], "write": ["HALF", "TORN"], "fsync": ["EIO"], "unlink": ["KILL"], "read": ["EIO"]}

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

    def __str__(self):
        return f"{self.status} {self.result} {self.event} serial {self.serial} of {self.key}: {self.body!r}"


def new_event(rng, key):
    serial = next(serials)
    body = model.random_body(rng, key).replace(b'"ticket": {', b'"ticket": {"serial": %d, ' % serial, 1)
    return Sent(body, key, serial)


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
    connection.send(fastcgi.request(request.body))
    head, _, body = connection.answer().partition("\r\n\r\n")
    status = int(re.search(r"^Status: (\d+)", head, re.MULTILINE)[1])
    if status == 200:
        answer = json.loads(body)
        request.result, request.event = answer["result"], answer["event"]
    if status == 503 and "Retry-After: " not in head:
        raise ValueError("503 without Retry-After")
    request.status = status


class Load:
    """Clients that send until the block ends."""

    def __init__(self, sockets, rng, clients, pause=0.012):
        self.sockets, self.pause = sockets, pause
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
            request = new_refused(rng) if rng.random() < 0.03 else new_event(rng, (n, rng.randrange(3)))
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
            time.sleep(rng.random() * self.pause)
        for connection in connections.values():
            connection.socket.close()

    def wait_for(self, kind, what, count=1):
        """Waits for further answers of a kind: "spooled", a status, 200 being one from the database."""
        before = self.seen[kind]
        wait_until(lambda: self.seen[kind] >= before + count, 30, what)

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
        # The time of each commit tells the order in which events took effect.
        self.cluster = stack.enter_context(Cluster(settings={"track_commit_timestamp": "on"}))
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

    def segments(self):
        return sorted(self.spool.glob("*.segment"))

    def check_bad(self, damaged=False):
        """A segment is kept aside only where the disk lost something; what a killed process leaves is no damage."""
        bad = list(self.spool.glob("*.bad"))
        self.tally["segments kept as .bad"] += len(bad)
        self.check(damaged or not bad, f"nothing was damaged: {bad}")
        for path in bad:
            path.unlink()

    def verify(self, requests):
        """Holds the answers against the tables, and empties these."""
        database = self.database
        database.reconnect()
        wait_until(self.no_backend, 20, "the end of the handler's sessions")
        Row = collections.namedtuple("Row", "event serial committed result payload")
        rows = [Row(*row) for row in database.query(
            "SELECT event_id::text, (payload->'ticket'->>'serial')::int, pg_xact_commit_timestamp(xmin), result, payload::text"
            " FROM vcc.ticket_events ORDER BY event_id")]  # fmt: skip
        journal = {row.serial: row for row in rows}
        known = {request.serial: request for request in requests if request.key}
        for serial, times in collections.Counter(row.serial for row in rows).items():
            if times > 1 or serial not in known:
                self.bad("doubled", f"{times} rows of {known.get(serial, f'an event never sent, {serial}')}")
        self.verify_answers(known.values(), journal)
        self.verify_effects([row for row in rows if row.serial in known], known)
        self.verify_refused(requests)
        database.query(f"TRUNCATE {TABLES}")
        self.tally["events sent"] += len(known)
        self.tally["refused bodies sent"] += len(requests) - len(known)
        self.tally["answered 200"] += sum(r.status == 200 for r in requests)
        self.tally["  of these spooled"] += sum(r.result == "spooled" for r in requests)
        self.tally["answered 503"] += sum(r.status == 503 for r in requests)
        self.tally["not answered"] += sum(r.status == 0 for r in requests)

    def no_backend(self):
        return not self.database.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'handler'")

    def verify_answers(self, events, journal):
        last = {}  # ticket → identifier of its last event answered 200
        for request in events:
            row = journal.get(request.serial)
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

    def verify_effects(self, rows, known):
        """Repeats the journal in the order of the commits, which must be that of the identifiers. Excused is an event
        that was not answered: its daemon was killed, and the backend may commit what it had in hand at any later time."""
        expected, last, wrong = model.Model(), {}, {}
        for row in sorted(rows, key=lambda row: (row.committed, row.event)):
            request = known[row.serial]
            if row.event < last.get(request.key, ""):
                if request.status == 200:
                    self.bad("out of order", f"took effect after {last[request.key]}: {request}")
                self.tally["overtaken without an answer"] += request.status != 200
            last[request.key] = max(row.event, last.get(request.key, ""))
            result = expected.apply(model.decode(request.body))
            if result != row.result or not model.same(model.parse(row.payload), model.parse(request.body.decode())):
                wrong.setdefault(str(request.key), f"expected {result}: {row}")
        for line in model.compare(self.database.connection, expected, journal=False):
            wrong.setdefault(re.match(r"ticket (\(.*?\))", line)[1], line)
        for key, text in wrong.items():
            self.bad("wrong tickets", f"{key}: {text}")

    def verify_refused(self, requests):
        rows = self.database.query("SELECT body, attempts FROM vcc.rejected_events")
        aside = collections.defaultdict(int)
        for body, attempts in rows:
            aside[bytes(body)] += attempts
        for request in requests:
            times = aside.pop(request.body, 0)
            if request.key is None:
                self.check(request.status in (0, 400, 422, 503), f"a bad body was not refused: {request}")
                if request.status in (400, 422) and times == 0:
                    self.bad("lost", f"a refused body: {request}")
            self.check(times == 0 or request.key is None, f"a good event was set aside: {request}")
            if times > 1:
                self.bad("doubled", f"a refused body, counted {times} times: {request}")
        self.check(not aside, f"set aside and never sent: {aside}")

    # -- daemons --------------------------------------------------------------------------------------------------

    def new_database(self, name):
        if self.database:
            self.database.connection.close()
        self.database = Database(self.cluster, name)
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
            self.tally["ended while draining"] += bool(self.segments() and not self.is_away)
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
            self.cluster.restart(self.rng.choice(["fast", "immediate"]))

    def terminations(self, daemons, load):
        connection = self.cluster.connect()
        cursor = connection.cursor()
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
            "TICKETD_DB_TIMEOUT_MS": rng.randrange(200, 301),
            "TICKETD_WRITERS": rng.choice([1, 1, 3]),
            "TICKETD_BATCH": rng.choice([16, 512]),
        }
        if not self.options.short and rng.random() < 0.3:
            calls = rng.choices([call for call in CALLS if call != "rename"], k=6)
            faults = ",".join(f"{call}:{rng.randrange(1, 120)}:{CALLS[call][0]}" for call in calls)
            settings.update(self.fault(f"{faults},write:%d:EIO", rng.randrange(1, 120), "")[0])
            self.doing += f", {settings['FAULT']}"
        daemons = [self.daemon(name, **settings) for name in "ab"[:daemon_count]]
        with Load([d.socket for d in daemons], rng, 16 if self.options.short else rng.randrange(16, 33)) as load:
            time.sleep(rng.uniform(0.1, 0.3))
            disturb(daemons, load)
            load.wait_for(200, "the database's answers under load", 20)
        wait_until(lambda: not self.segments(), 60, "an empty spool")
        for daemon in daemons:
            self.end(daemon, "SIGTERM")
        for problem in load.problems:
            self.check(False, problem)
        self.check_bad()
        self.verify(load.all())
        self.tally["rounds"] += 1
        if "FAULT_REPORT" in settings:
            report = settings["FAULT_REPORT"]
            self.tally["call faults"] += report.stat().st_size if report.exists() else 0
        done = self.tally - before
        print(f"{self.doing}, daemons: {daemon_count}: {done['events sent']} events, {done['answered 200']} answered 200, "
              f"{done['  of these spooled']} spooled, {done['kill -9']} kills, {time.monotonic() - began:.1f} s", flush=True)  # fmt: skip

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
        """On a file system that is full, and with a spool that has reached its limit."""
        self.new_database("disk")
        self.fill("spool at its limit", filler=None, TICKETD_SPOOL_MAX_MB=1)
        mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "torture", str(self.spool)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            print("skipped: disk full on a tmpfs: needs root")
            return
        try:
            self.fill("disk full", filler=self.spool / "filler")
        finally:
            subprocess.run(["umount", "-l", str(self.spool)], check=True)

    def fill(self, name, filler, **settings):
        self.doing = name
        daemon = self.daemon(TICKETD_DB_TIMEOUT_MS=300, **settings)
        if filler:
            filler.write_bytes(bytes(128 << 10))
        with Load([daemon.socket], self.rng, 16) as load:
            with self.away("stopped fast"):
                load.wait_for(503, "503 with no space left", 20)
                self.tally[name] += 1
                if filler:
                    filler.unlink()
                    load.wait_for("spooled", "spooling when there is space again")
                    load.wait_for(503, "503 with no space left again", 20)
                    self.tally[name] += 1
            load.wait_for(200, "the database's answers under load", 20)
        wait_until(lambda: not self.segments(), 30, "an empty spool")
        self.end(daemon, "SIGTERM")
        self.check(load.seen["spooled"] > 0, "nothing was spooled")
        self.verify(load.all())
        print(f"{name}: {load.seen['spooled']} spooled, {load.seen[503]} answered 503", flush=True)

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
        self.check(done.returncode != 0 or not self.segments(), "spool drain: status 0 with segments left")

    def drain_and_verify(self, requests, damaged=False):
        done = self.drain()
        self.check(done.returncode == 0 and not self.segments(), f"{done}: {sorted(self.spool.iterdir())}")
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

    def filled_spool(self):
        """A spool of some segments, two of them with half a record at the end, as a killed process leaves it."""
        self.doing = "filling a spool"
        self.new_spool()
        requests = [new_event(self.rng, (1, 1 + i % 3)) for i in range(12)] + [new_refused(self.rng) for _ in range(3)]
        self.rng.shuffle(requests)
        # Each append is a note in append.lock, the record, and another note.
        parts = [(requests[:5], "write", 6, "TORN"), (requests[5:10], "fsync", 3, "EIO"), (requests[10:], "write", 6, "TORN")]
        for part, *what in parts:
            fault, _ = self.fault(*what)
            daemon = self.daemon("c", self.nowhere(), TICKETD_DB_TIMEOUT_MS=100, **fault)
            self.send_each(daemon, part)
            self.end(daemon, "kill -9")
        template = self.folder / "template"
        shutil.copytree(self.spool, template)
        print(f"a spool of {len(list(template.glob('*.segment')))} segments to drain")
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
        if isinstance(n, int):
            wait_until(lambda: not self.segments() or daemon.process.poll() is not None, 30, "an empty spool")
        self.check_end(daemon.process)
        self.end(daemon, "kill -9" if what in ("KILL", "TORN") else "SIGTERM")
        self.tally["call faults"] += happened()
        self.drain_and_verify(requests + later)
        return happened()

    def sweep(self, name, case, calls, limit):
        """Each call fails at its first use, then at its second, until it has no more uses."""
        for call, whats in calls.items():
            for what in whats:
                count = next(n for n in range(1, limit + 1) if not case(call, n, what) or n == limit)
                print(f"{name}: {call} {what}: {count} cases", flush=True)

    def call_faults(self):
        self.new_database("faults")
        calls, limit = (SHORT_CALLS, 3) if self.options.short else (CALLS, 200)
        self.sweep("serve", self.serve_case, calls, limit)
        for call in ("open", "write", "fsync", "flock"):
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
        for _ in range(2 if self.options.short else 20):
            self.doing = "power cut"
            self.new_spool()
            log = self.folder / "history"
            log.unlink(missing_ok=True)
            record = {"LD_PRELOAD": FAULTS, "FAULT_DIR": self.spool, "FAULT_LOG": log}
            daemon = self.daemon("c", self.nowhere(), TICKETD_DB_TIMEOUT_MS=100, **record)
            with Load([daemon.socket], self.rng, 8, pause=0.004) as load:
                load.wait_for("spooled", "spooling", self.rng.randrange(1, 200))
                self.end(daemon, "kill -9")
            self.cut_power(log.read_text().splitlines())
            self.tally["power cuts"] += 1
            self.drain_and_verify(load.all(), damaged=True)
        print(f"power cuts: {self.tally['power cuts']}", flush=True)

    def cut_power(self, history):
        kept, made = collections.Counter(), set()
        for event, path, size in (line.split(" ") for line in history):
            if event == "make":
                made.add(path)
            elif path == str(self.spool):
                made.clear()  # their names are on the disk now
            else:
                kept[path] = max(kept[path], int(size))
        for path in self.segments():
            size = kept[str(path)]
            rest = path.stat().st_size - size
            if str(path) in made:
                path.unlink()
            elif rest > 0:
                self.tally["bytes lost by power cuts"] += rest
                os.truncate(path, size)
                with open(path, "ab") as file:
                    file.write(self.rng.choice([b"", bytes(rest), self.rng.randbytes(rest)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=130, help="rounds of load (130 are about ten minutes)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--short", action="store_true", help="a little of everything")
    phases = ["rounds", "disk_full", "call_faults", "lost_connections", "power_cuts"]
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
    return 1 if any(torture.tally[kind] for kind in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
