"""No space, failing calls, lost connections, power cuts, damaged files, the old format."""

import contextlib
import fcntl
import functools
import os
import shutil
import sqlite3
import subprocess
import time
import uuid

import disk
import old_spool
from clients import Load, new_event, new_refused
from conftest import ROOT, TICKETD, environment, wait_until
from scene import Scene
from test_spool import waiting

FAULTS = os.environ.get("FAULTS", str(ROOT / "build/faults.so"))

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


class Files(Scene):
    """Phases that break the spool's files, and the calls that read and write them."""

    # -- no space -------------------------------------------------------------------------------------------------------

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

    # -- failing calls --------------------------------------------------------------------------------------------------

    def fault(self, call, n, what, folder=None):
        """The environment that makes a call fail on the spool's files or those of another folder, and a question whether it
        did. `call` may hold several, with %d for n."""
        report = self.folder / "report"
        report.unlink(missing_ok=True)
        fault = call % n if "%d" in call else f"{call}:{n}:{what}"
        if what == "HALF":
            fault += f",write:{n + 1}:ENOSPC"  # there is no space for the rest, and then there is again
        return {"LD_PRELOAD": FAULTS, "FAULT_DIR": folder or self.spool, "FAULT": fault, "FAULT_REPORT": report}, report.exists

    def drain_badly(self, fault):
        done = self.drain(**fault)
        self.check_end(done)
        self.check(done.returncode != 0 or not self.waiting(), "spool drain: status 0 with events left")

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

    # -- lost connections -----------------------------------------------------------------------------------------------

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

    # -- power cut ------------------------------------------------------------------------------------------------------

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

    # -- a spool that was damaged while nobody ran, and one of the old format -------------------------------------------

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
