"""Clients that send events over FastCGI and keep the answers."""

import collections
import contextlib
import dataclasses
import itertools
import json
import random
import re
import threading
import time

import fastcgi
import model
import poison
from conftest import wait_until

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
