"""Group commit simulated, for scale.py: events come, wait for the commit under way and share the next, on cores that
all who compute share. What each step takes are the `figures` of scale.py. The same seed gives the same run."""

import collections
import functools
import heapq
import itertools
import random

MOST = 512  # events a batch: TICKETD_BATCH


class Time:
    """What happens when, in us."""

    def __init__(self, seed):
        self.now, self.queue, self.number, self.random = 0.0, [], itertools.count(), random.Random(seed)

    def after(self, us, then):
        heapq.heappush(self.queue, (self.now + us, next(self.number), then))

    def run(self, until):
        while self.queue and self.queue[0][0] < until:
            self.now, _, then = heapq.heappop(self.queue)
            then()

    def about(self, us, spread=0.5):
        return us * self.random.uniform(1 - spread, 1 + spread)


class Cores:
    """Shared evenly by those who compute, each of whom fills one core at most: only when one begins or ends does the
    pace of all change."""

    def __init__(self, time, speed):
        self.time, self.speed = time, speed
        self.running, self.done, self.since, self.turn = [], 0.0, 0.0, 0

    def work(self, us, then):
        self.advance()
        heapq.heappush(self.running, (self.done + us, next(self.time.number), then))
        self.plan()

    def advance(self):
        if self.running:
            self.done += (self.time.now - self.since) * self.speed(len(self.running)) / len(self.running)
        self.since = self.time.now

    def plan(self):
        self.turn += 1
        if self.running:
            left = max(0.0, self.running[0][0] - self.done)
            self.time.after(left * len(self.running) / self.speed(len(self.running)),
                            functools.partial(self.ended, self.turn))  # fmt: skip

    def ended(self, turn):
        if turn == self.turn:  # otherwise another began meanwhile
            self.advance()
            then = heapq.heappop(self.running)[2]
            self.plan()
            then()


class Front:
    """nginx, the handler's threads and, in the benchmark, the load generator: two at a time, in order."""

    def __init__(self, time, cores):
        self.time, self.cores, self.waiting, self.free = time, cores, collections.deque(), 2

    def work(self, us, then):
        self.waiting.append((us, then))
        self.next()

    def next(self):
        if self.free and self.waiting:
            self.free -= 1
            us, then = self.waiting.popleft()
            self.cores.work(us, functools.partial(self.ended, then))

    def ended(self, then):
        self.free += 1
        then()
        self.next()


class Wal:
    """One flush at a time. Whoever commits during it shares the next."""

    def __init__(self, time, us):
        self.time, self.us, self.waiting, self.busy = time, us, [], False

    def flush(self, then):
        self.waiting.append(then)
        if not self.busy:
            self.begin()

    def begin(self):
        shared, self.waiting, self.busy = self.waiting, [], True
        self.time.after(self.us, functools.partial(self.ended, shared))

    def ended(self, shared):
        self.busy = False
        for then in shared:
            then()
        if self.waiting and not self.busy:
            self.begin()


class Session:
    """A writer with its database connection: what comes while a commit is under way is the next batch."""

    def __init__(self, figures, time, cores, wal, network):
        self.figures, self.time, self.cores, self.wal, self.network = figures, time, cores, wal, network
        self.waiting, self.busy, self.sizes, self.used = collections.deque(), False, [], 0.0

    def submit(self, answer):
        self.waiting.append(answer)
        if not self.busy:
            self.begin()

    def begin(self):
        batch = [self.waiting.popleft() for _ in range(min(MOST, len(self.waiting)))]
        self.busy = True
        us = self.time.about(self.figures.cpu(len(batch)), 0.1)
        self.used += us
        commit = functools.partial(self.wal.flush, functools.partial(self.committed, batch))
        self.time.after(self.network, functools.partial(self.cores.work, us, commit))

    def committed(self, batch):
        self.cores.work(len(batch) * self.figures.behind, lambda: None)  # somebody will have to write the pages
        self.sizes.append((self.time.now, len(batch)))
        self.busy = False
        for answer in batch:
            answer()
        if self.waiting and not self.busy:
            self.begin()


def outcome(sessions, waits, begin, end):
    """What was seen between the two: rate, median and p99 in ms, events a batch, how busy a session was."""
    sizes = [size for session in sessions for at, size in session.sizes if at >= begin]
    waits = sorted(waited / 1000 for at, waited in waits if at >= begin)
    return {
        "rate": len(waits) * 1e6 / (end - begin),
        "p50": waits[len(waits) // 2],
        "p99": waits[len(waits) * 99 // 100],
        "size": sum(sizes) / len(sizes),
        "session": sum(session.used for session in sessions) / end / len(sessions),
    }


def bench(figures, clients, seed, seconds=1.0, warm_up=0.2):
    """The benchmark's host, all on two cores: each client sends its next event when it has the answer."""
    time, waits, end = Time(seed), [], (warm_up + seconds) * 1e6
    cores = Cores(time, lambda busy: min(busy, 2))
    front, session = Front(time, cores), Session(figures, time, cores, Wal(time, figures.fsync), 0)
    half = (figures.load + figures.nginx + figures.handler) / 2  # one half on the way there, one on the way back

    def send():
        answer = functools.partial(pass_front, functools.partial(answered, time.now))
        pass_front(functools.partial(session.submit, answer))

    def pass_front(then):
        time.after(figures.hops / 2, lambda: front.work(time.about(half), then))

    def answered(begun):
        waits.append((time.now, time.now - begun))
        send()

    for _ in range(clients):
        send()
    time.run(end)
    return outcome([session], waits, warm_up * 1e6, end)


def node(figures, rate, sessions, cores, seed, seconds=0.3, warm_up=2.0):
    """One database node under events that come when they like, each to any of the sessions. A handler host has room, so
    it only delays."""
    time, waits, end = Time(seed), [], (warm_up + seconds) * 1e6
    shared, wal = Cores(time, lambda busy: figures.speed(busy, cores)), Wal(time, figures.fsync)
    writers = [Session(figures, time, shared, wal, figures.network) for _ in range(sessions)]
    front = figures.nginx + figures.handler + figures.hops

    def arrive():
        time.random.choice(writers).submit(functools.partial(answered, time.now))
        time.after(time.random.expovariate(rate / 1e6), arrive)

    def answered(begun):
        waits.append((time.now, time.now - begun + front))

    arrive()
    time.run(end)
    return outcome(writers, waits, warm_up * 1e6, end)
