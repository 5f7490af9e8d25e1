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
import contextlib
import functools
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import poison
import psycopg2
from clients import Load, new_event
from conftest import wait_until
from files import CALLS, FAULTS, Files
from scene import WAIT_GOAL

HOWS = ["stopped fast", "stopped immediate", "killed", "frozen", "table lock", "revoke"]
FIRST = ["rounds", "events sent", "refused bodies sent", "events poisoned", "answered 200", "  of these spooled", "answered 503",
         "not answered"]
BAD = ["lost", "doubled", "out of order", "wrong tickets", "innocent set aside", "failed checks"]


class Torture(Files):
    # -- rounds of load -------------------------------------------------------------------------------------------------

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

    # -- nothing waits for what is held, slow or refused ----------------------------------------------------------------

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
