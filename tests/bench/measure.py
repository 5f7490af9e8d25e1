"""What a run costs: CPU, context switches, memory, database connections, and what nginx and the journal say."""

import collections
import os
import threading
import time

import psycopg2
from cluster import every_process, process_stat

TICK = os.sysconf("SC_CLK_TCK")


def tree(root):
    """A process and all that descends from it."""
    children = collections.defaultdict(list)
    for pid, fields in every_process():
        children[int(fields[1])].append(pid)
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def cpu(root):
    """CPU-seconds that a process and its descendants used so far, those that ended included, as their parent inherits
    them."""
    every = [process_stat(pid) for pid in tree(root)]
    return sum(sum(int(ticks) for ticks in fields[11:15]) for fields in every if fields) / TICK


def status(path, *names):
    with open(path, encoding="ascii", errors="replace") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    return sum(int(lines[name].split()[0]) for name in names)


def switches(root):
    """Context switches so far, wanted and not, of all threads of a process and its descendants."""
    total = 0
    for pid in tree(root):
        for task in os.listdir(f"/proc/{pid}/task"):
            total += status(f"/proc/{pid}/task/{task}/status", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    return total


def peak_mb(root):
    """The most memory that each of the processes ever had resident, added up. Shared pages count in each."""
    return sum(status(f"/proc/{pid}/status", "VmHWM") for pid in tree(root)) / 1024


class Connections(threading.Thread):
    """Counts a database's connections while a run lasts."""

    def __init__(self, conninfo, database):
        super().__init__(daemon=True)
        self.most = 0
        self.database = database
        self.connection = psycopg2.connect(conninfo)
        self.connection.autocommit = True
        self.ending = threading.Event()
        self.start()

    def run(self):
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
        with self.connection.cursor() as cursor:
            while True:
                cursor.execute(sql, (self.database,))
                self.most = max(self.most, cursor.fetchone()[0])
                if self.ending.wait(0.2):
                    return

    def end(self):
        self.ending.set()
        self.join()
        self.connection.close()
        return self.most


class AccessLog:
    """nginx's log of a run: a line of connection, status and query string for each request that it answered, also for
    those whose client had gone: the load generator drops what is under way when it ends, and the handler carries it out
    all the same."""

    def __init__(self, path):
        self.path = path

    def settle(self, patience=15):
        """Waits until nothing more comes."""
        deadline = time.monotonic() + patience
        size, since = -1, time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < 0.7:
            now = os.path.getsize(self.path)
            if now != size:
                size, since = now, time.monotonic()
            time.sleep(0.05)

    def read(self):
        """How many got which status, and how many requests each connection of the load proper got answered, fewest
        first."""
        statuses, connections = collections.Counter(), collections.Counter()
        with open(self.path, encoding="ascii") as file:
            for line in file:
                connection, status, mark = line.split()
                statuses[status] += 1
                if mark == "run":
                    connections[connection] += 1
        return statuses, sorted(connections.values())


def fsync_us(folder, count=50):
    """What one fdatasync of a page costs here, the median: the base of every durable figure."""
    path = os.path.join(folder, "fsync")
    times = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(8192))
            begun = time.monotonic()
            os.fdatasync(file)
            times.append(time.monotonic() - begun)
    os.remove(path)
    return sorted(times)[count // 2] * 1e6
