"""The scene of the torture: a PostgreSQL, daemons and their spool, and how the answers are held against the tables."""

import collections
import contextlib
import copy
import dataclasses
import datetime
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import types
import uuid

import fastcgi
import model
import poison
from clients import exchange, new_event
from cluster import Cluster
from conftest import TICKETD, Database, Handler, command, environment, wait_until
from test_spool import waiting

TABLES = "vcc.tickets, vcc.ticket_events, vcc.deleted_tickets, vcc.ticket_adds, vcc.rejected_events"
WAIT_GOAL = 2  # times TICKETD_DB_TIMEOUT_MS, for who did nothing wrong
TAKEN_FOR_SLOW = 3  # times the goal: what the machine's load may add
SEEN_US = 50_000  # within 10 ms a process sees what another one spooled, and this machine is busy


class Scene:
    """What all phases have: a server, daemons, a spool, and what is checked behind each."""

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

    # -- what is checked ------------------------------------------------------------------------------------------------

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

    # -- the server, daemons, the spool ---------------------------------------------------------------------------------

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

    def fill_spool(self, count, tickets=3):
        """As a killed process leaves it: with events in the -wal."""
        requests = [new_event(self.rng, (1, 1 + i % tickets)) for i in range(count)]
        daemon = self.daemon("c", self.nowhere(), TICKETD_DB_TIMEOUT_MS=100)
        self.send_each(daemon, requests)
        self.end(daemon, "kill -9")
        return requests
