#!/usr/bin/python3
"""Where do 10, 100 and 1,000 times of what one host does land? On paper, then in a simulation of group commit that is
held against what `make bench` measured. Prints Markdown, in ten seconds.

    make scale

    BENCH_DIR=build/bench   where there is a results.json of two processors, it replaces the measured figures below
    SEED=1                  of the simulation

Only what one host does was measured. What is "assumed" nobody measured: change it and look again."""

import functools
import itertools
import json
import math
import os
import pathlib
import random
import statistics
import textwrap

import report
import simulation
from simulation import MOST

HERE = pathlib.Path(__file__).resolve().parent
BENCH, BESIDE, SIZES = "make bench", "seen beside make bench", "tests/bench/sizes.py"

# Name, figure, what it is, where it is from, and for what is in results.json: contender, clients, path, unit there.
MEASURED = [
    ("rate_1", 1_346, "events/s, 1 client", BENCH, ("ticketd", 1, "rate"), 1),
    ("rate_64", 9_985, "events/s, 64 clients", BENCH, ("ticketd", 64, "rate"), 1),
    ("rate_256", 14_580, "events/s, 256 clients: 1x", BENCH, ("ticketd", 256, "rate"), 1),
    ("sustained", 12_517, "events/s for ten minutes, 256 clients", "BENCH_SUSTAINED_S=600 make bench",
     ("ticketd, sustained", 256, "rate"), 1),
    ("spooled", 39_546, "events/s into the spool, 256 clients", BENCH, ("ticketd, spooled", 256, "rate"), 1),
    ("nginx", 22, "us of CPU an event, nginx", BENCH, ("ticketd", 256, "cpu", "nginx"), 100),
    ("handler", 23, "us of CPU an event, ticketd", BENCH, ("ticketd", 256, "cpu", "handler"), 100),
    ("postgres", 60, "us of CPU an event, PostgreSQL", BENCH, ("ticketd", 256, "cpu", "postgres"), 100),
    ("idle", 0.11, "share of two cores idle, 256 clients", BESIDE, None, 1),
    ("session", 0.81, "share of the time the session is busy, 256 clients", BESIDE, None, 1),
    # Since then the function that pgbench calls does less: see peer.sql. No later run takes the place of this figure.
    ("pgbench_1", 2_357, "transactions/s, 1 client of pgbench, the work of ticketd", "an earlier make bench", None, 1),
    ("import_32", 10_300, "events/s, import in batches of 32", BENCH,
     ("ticketd, import in batches of 32", None, "rate"), 1),
    ("import_256", 18_600, "events/s, import in batches of 256", BENCH,
     ("ticketd, import in batches of 256", None, "rate"), 1),
    ("citus", 0.35, "of a plain database's events/s on Citus, 16 projects, 64 clients", "tests/bench/citus.py", None, 1),
    ("fsync", 155, "us, fdatasync of 8 kB", BENCH, ("machine", "fdatasync of 8 kB"), 1),
    ("journal", 717, "bytes an event in the journal: heap 578, indexes 139", SIZES, None, 1),
    ("wal", 1_162, "bytes of WAL an event", SIZES, None, 1),
    ("wal_cold", 6_302, "bytes of WAL an event right after a checkpoint", SIZES, None, 1),
    ("ticket", 485, "bytes a ticket", SIZES, None, 1),
    ("add", 172, "bytes a remembered add", SIZES, None, 1),
    ("deletion", 164, "bytes a remembered deletion", SIZES, None, 1),
]  # fmt: skip
ASSUMED = [
    ("use", 0.7, "share of a machine's capacity that is planned with"),
    ("host_cores", 2, "cores of a handler host"),
    ("node_cores", 64, "cores of a database node, where it is not said"),
    ("serial", 0.02, "share of PostgreSQL's work that one session of a node does at a time (WAL, extending files)"),
    ("network", 100, "us, handler to database and back"),
    ("wal_bytes_s", 1e9, "bytes/s that a node's disk takes of WAL"),
    ("node_bytes", 60e12, "bytes of tables on a node"),
    ("kept_days", 90, "days that vcc.drop_events_before leaves"),
    ("projects", 20, "projects for each 1x (the benchmark's)"),
    ("zipf", 1.0, "exponent of the projects' sizes: the n-th has 1/n of the largest"),
    ("coordinator", 400, "us of CPU a call at the Citus coordinator, through which all go"),
    ("together", 16, "events of one project in a call there"),
    ("adds", 0.15, "of the events make a ticket,"),
    ("deletes", 0.10, "of the events remove one: the benchmark's mix"),
]
CLIENTS = 1, 64, 256
YEAR = 365 * 86_400
LOADS = [("1x, measured", 1), ("10x", 10), ("100x", 100), ("1,000x", 1_000)]
CONTACT_CENTRE = 1_000_000 / 86_400


# -- figures ----------------------------------------------------------------------------------------------------------


class Figures:
    """What was measured and assumed, by name, and what follows from it. Times are in us."""

    def __init__(self, machine=None, runs=()):
        self.rows = []
        results = report.Results(runs)
        for name, value, what, source, path, unit in MEASURED:
            found = None
            if machine and path:
                found = float(machine[path[1]].split()[0]) if path[0] == "machine" else results.median(*path)
            if found:
                value, source = found * unit, f"{source}, this one"
            self.rows.append((what, value, source))
            setattr(self, name, value)
        for name, value, _ in ASSUMED:
            setattr(self, name, value)
        # Of the cores, what is left to the load generator.
        self.load = max(0, 2e6 * (1 - self.idle) / self.rate_256 - self.nginx - self.handler - self.postgres)
        self.batches = [(1, 1e6 / self.pgbench_1), (32, 32e6 / self.import_32), (256, 256e6 / self.import_256)]
        # Checkpointer and WAL writer. In a batch are half of the 256: the others are being served meanwhile.
        self.behind = max(0, self.postgres - self.cpu(128) / 128)
        there_and_back = self.load + self.nginx + self.handler + self.cpu(1) + self.fsync
        self.hops = max(0, 1e6 / self.rate_1 - there_and_back)  # four processes wake each other, and nobody computes

    def cpu(self, size):
        """What a batch costs its session beside the fsync: through the three sizes that were measured, straight between
        and beyond. No one line goes through them: that of both imports says 1.6 ms for an empty batch, when the event
        of a single client is there and back in 0.74; with that of the first and the last, 64 clients come out a quarter
        too fast. On a quieter machine imports in batches of 1 to 512 did lie on a line: 385 us and 27 an event."""
        (a, from_a), (b, from_b) = self.batches[:2] if size < self.batches[1][0] else self.batches[1:]
        return max(1, from_a + (size - a) * (from_b - from_a) / (b - a) - self.fsync)

    def speed(self, busy, cores):
        """What so many sessions do together, in sessions: Amdahl's law."""
        return 1 / (self.serial + (1 - self.serial) / min(busy, cores)) if busy else 0

    def of_host(self):
        return self.use * self.host_cores * 1e6 / (self.nginx + self.handler)

    def of_node(self, cores):
        """Events/s, by CPU, in large batches."""
        return self.use * self.speed(cores, cores) * 1e6 / self.postgres

    def of_citus_node(self):
        """As the benchmark saw it with four events of a project in a call; with more it is more."""
        return self.citus * self.of_node(self.node_cores)

    def kept(self):
        """Bytes an event that no retention takes: of tickets, adds and deletions."""
        return (self.adds - self.deletes) * self.ticket + self.adds * self.add + self.deletes * self.deletion


def measured():
    """What the benchmark left here; nothing, if it had other cores than the model."""
    path = pathlib.Path(os.environ.get("BENCH_DIR") or HERE.parents[1] / "build/bench") / "results.json"
    left = json.loads(path.read_text()) if path.exists() else {"machine": {}}
    return (left["machine"], left["runs"]) if left["machine"].get("processors") == 2 else ()


# -- on paper ---------------------------------------------------------------------------------------------------------


def paper_bench(f, clients):
    """Events/s of one host: at least if all clients wait for one batch and then all are served, at most if in turn one
    half is served while the other commits, as long as the cores suffice."""
    front = f.load + f.nginx + f.handler
    alone = 1e6 / (front + f.cpu(1) + f.fsync + f.hops)
    half = max(1, clients // 2)
    least = clients * 1e6 / (clients * front / min(2, clients) + f.cpu(clients) + f.fsync + f.hops)
    most = 1e6 / max((front + f.behind + f.cpu(half) / half) / 2, (f.cpu(half) + f.fsync) / half)
    return least, min(most, clients * alone)


def paper_node(f, rate, sessions, cores):
    """What a node does with a rate that is spread over its sessions: events/s, events a batch, CPU an event. Batches
    are the smallest with which the sessions keep up (what came during the one before) and the cores suffice: if those
    are full, events wait, and batches grow by themselves."""
    capacity, wait = f.speed(sessions, cores) * 1e6, f.fsync + f.network

    def most(size):
        return min(sessions * size * 1e6 / (f.cpu(size) + wait), capacity / (f.cpu(size) / size + f.behind))

    low, high = 1, MOST
    while high - low > 0.01:
        size = (low + high) / 2
        low, high = (low, size) if most(size) >= rate else (size, high)
    return {"rate": min(rate, most(high)), "size": high, "cpu": f.cpu(high) / high + f.behind}


# -- how many of them -------------------------------------------------------------------------------------------------


def disk(f, rate, days=365):
    """Bytes after a year, of which the journal keeps so many days."""
    return rate * 86_400 * (f.journal * days + f.kept() * 365)


def hosts_for(f, rate):
    return math.ceil(rate / f.of_host())


def nodes_by_work(f, rate):
    return math.ceil(rate / f.of_node(f.node_cores))


def citus_nodes(f, rate):
    return math.ceil(rate / f.of_citus_node())


def nodes_by_disk(f, rate):
    return math.ceil(disk(f, rate, f.kept_days) / f.node_bytes)


def largest_share(f, times):
    """Of all events, those of the largest project."""
    return 1 / sum(n**-f.zipf for n in range(1, f.projects * times + 1))


def busiest(f, times, nodes, seed, tries=25):
    """The share of the busiest node, when each project is put on one of them by a hash: the median of some hashes."""
    chance, seen = random.Random(seed), []
    sizes = [n**-f.zipf for n in range(1, f.projects * times + 1)]
    for _ in range(tries):
        loads = [0.0] * nodes
        for size in sizes:
            loads[chance.randrange(nodes)] += size
        seen.append(max(loads) / sum(sizes))
    return statistics.median(seen)


def nodes_by_project(f, times, seed):
    """How many nodes, so that the busiest can; None: the largest project alone is more than a node."""
    rate, able = f.rate_256 * times, f.of_citus_node()
    if largest_share(f, times) * rate > able:
        return None
    nodes = citus_nodes(f, rate)
    while busiest(f, times, nodes, seed) * rate > able:
        nodes += 1
    return nodes


# -- tables -----------------------------------------------------------------------------------------------------------


def whole(value):
    return f"{value:,.0f}"


def in_units(value, units, number=report.number):
    """With the unit that leaves the fewest digits."""
    for unit in units[:-1]:
        if value < 999.5:
            return f"{number(float(value))} {unit}"
        value /= 1000
    return f"{number(float(value))} {units[-1]}"


in_bytes = functools.partial(in_units, units=("B", "kB", "MB", "GB", "TB", "PB"))
in_words = functools.partial(in_units, units=("", "thousand", "million", "billion", "trillion"), number="{:.3g}".format)


def text(words):
    return textwrap.fill(" ".join(words.split()), 118) + "\n"


def inputs(f):
    rows = [(what, f"{value:,.5g}", source) for what, value, source in f.rows]
    yield report.markdown(("measured", "figure", "by"), rows)
    yield report.markdown(("assumed", "figure"), [(what, f"{getattr(f, name):,g}") for name, _, what in ASSUMED])


def one_host(f, seed):
    yield "## One host, as it was measured\n"
    rows = []
    for clients in CLIENTS:
        seen, really = simulation.bench(f, clients, seed), getattr(f, f"rate_{clients}")
        rows.append((clients, whole(really), " to ".join(map(whole, paper_bench(f, clients))), whole(seen["rate"]),
                     f"{seen['rate'] / really - 1:+.0%}", report.number(seen["p50"]), whole(seen["size"])))  # fmt: skip
    yield report.markdown(("clients", "measured", "paper", "simulated", "off by", "p50 ms", "events a batch"), rows)
    costs = ", ".join(f"{f.cpu(size) / size:.0f} in batches of {size}" for size in (1, 8, 32, 256, MOST))
    yield text(f"""One client is right by construction, the others are not. On paper: from all clients waiting for one
        batch, to one half being served while the other commits. At {clients} clients the session computes
        {seen["session"]:.0%} of the time, measured were {f.session:.0%}. It computes, in us an event: {costs}.""")


def one_node(f):
    yield "## A database node that only keeps events, in large batches\n"
    rows = []
    for cores in 2, 16, 64:
        rate = f.of_node(cores)
        rows.append((cores, report.number(f.speed(cores, cores)), whole(rate / f.use), whole(rate),
                     in_bytes(rate * f.wal), in_bytes(rate * f.wal_cold)))  # fmt: skip
    planned = f"at {f.use:.0%}"
    yield report.markdown(("cores", "worth", "events/s", planned, "its WAL/s", "after a checkpoint"), rows)
    hot, cold = f.wal_bytes_s / f.wal, f.wal_bytes_s / f.wal_cold
    full = next(n for n in itertools.count(1) if f.speed(n, n) * 1e6 / f.postgres > cold)
    yield text(f"""{in_bytes(f.wal_bytes_s)}/s of WAL are {whole(hot)} events/s, more than any number of cores makes
        ({whole(1e6 / f.postgres / f.serial)}). But where each event finds its pages untouched since the checkpoint they
        are {whole(cold)}, and {full} cores make that: max_wal_size should be large. The rate of fsync limits nobody,
        since a flush takes all that wait for it. A handler host does {whole(f.of_host())} events/s {planned}; into
        its spool go {whole(f.spooled)}, with the load generator beside it.""")


def farms(f):
    """Load, events/s of the node, its sessions and cores."""
    for cores in 16, 64:
        for sessions in 5, 10, 20, 80, 320:
            yield "10x", 10 * f.rate_256, sessions, cores


def many_hosts(f, seed):
    yield "## Many hosts, one node: its sessions are hosts times TICKETD_WRITERS\n"
    rows = []
    for name, rate, sessions, cores in farms(f):
        paper, seen = paper_node(f, rate, sessions, cores), simulation.node(f, rate, sessions, cores, seed)
        waits = [report.number(seen[p]) if seen["rate"] > 0.95 * rate else "grows" for p in ("p50", "p99")]
        sizes = [report.number(float(found["size"])) for found in (paper, seen)]
        rows.append((name, cores, sessions, whole(rate), whole(paper["rate"]), whole(seen["rate"]), *sizes,
                     whole(paper["cpu"]), *waits))  # fmt: skip
    yield report.markdown(("load", "cores", "sessions", "events/s come", "paper", "simulated", "a batch: paper",
                           "simulated", "us an event", "p50 ms", "p99 ms"), rows)  # fmt: skip
    yield text("""Too few sessions cannot carry the load, each being one core. More of them make smaller batches, which
        cost more for each event, until the cores are full; then events wait and batches grow by themselves: the node carries
        on, only the waits are longer. So a node whose cores are full may have room, and about one session a core is
        enough. Paper and simulation differ where batches are small and cores free: events come in bunches, which paper
        knows nothing of, and sessions slow each other down.""")


def many_nodes(f, seed):
    yield "## Many nodes: a plan for Citus, which spreads events by project; only two workers on one machine were measured\n"
    rows, coordinated = [], []
    for name, times in LOADS[1:]:
        rate = f.rate_256 * times
        nodes, share = citus_nodes(f, rate), largest_share(f, times)
        alone, uneven = share * rate / f.of_citus_node(), busiest(f, times, nodes, seed) * nodes
        rows.append((name, whole(f.projects * times), nodes, f"{share:.1%}", report.number(alone),
                     report.number(uneven), nodes_by_project(f, times, seed) or "none suffices"))  # fmt: skip
        coordinated.append(f"{rate / f.together * f.coordinator / 1e6:.0f} at {name}")
    yield report.markdown(("load", "projects", "nodes, all alike", "largest project", "is nodes",
                           "busiest / mean", "nodes, the busiest not over"), rows)  # fmt: skip
    yield text(f"""A project lives on one node, which does {whole(f.of_citus_node())} events/s: the largest project bounds
        all. All calls go through the coordinator, of whose cores that takes so many: {", ".join(coordinated)}. More than
        a server has are the end of it.""")


def result(f):
    yield "## Result\n"
    rows = []
    for name, rate in [("a contact centre", CONTACT_CENTRE), *((name, f.rate_256 * times) for name, times in LOADS)]:
        hosts, nodes = whole(hosts_for(f, rate)), whole(nodes_by_work(f, rate))
        if rate <= f.rate_256:
            hosts, nodes = "1", "on it"
        elif rate > 10 * f.rate_256:  # more than one node
            enough = rate / f.together * f.coordinator / 1e6 < f.use * f.node_cores
            nodes = f"{citus_nodes(f, rate)}, Citus" if enough else "more than one coordinator bears"
        rows.append((name, whole(rate), in_words(rate * 86_400), hosts, nodes, in_bytes(disk(f, rate)),
                     in_bytes(disk(f, rate, f.kept_days)), whole(nodes_by_disk(f, rate))))  # fmt: skip
    kept = f"with {f.kept_days} days of journal"
    yield report.markdown(("load", "events a second", "a day", "handler hosts", "database nodes", "disk a year", kept,
                           "nodes to hold that"), rows)  # fmt: skip
    yield text(f"""Only 1x was measured, the others are a plan; 1x for ten minutes on end it was {f.sustained / f.rate_256:.2f} of that. A load is
        one that never rests. Hosts and nodes have {f.host_cores} and {f.node_cores} cores, of which {f.use:.0%} are
        used: of the nodes' if batches are large, the small ones of many hosts take the rest. An event leaves
        {f.journal + f.kept():.0f} bytes, {f.journal} of them in the journal. Replicas and backups are not counted.""")


def main():
    f, seed = Figures(*measured()), int(os.environ.get("SEED") or 1)
    parts = inputs(f), one_host(f, seed), one_node(f), many_hosts(f, seed), many_nodes(f, seed), result(f)
    for text in itertools.chain(*parts):
        print(text, flush=True)


if __name__ == "__main__":
    main()
