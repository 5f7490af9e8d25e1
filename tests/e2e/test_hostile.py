"""Whoever reaches the handler's socket, or nginx, and means no good. Whatever comes: the handler lives on, it stores
nothing that was not sent as an event, and an honest request beside it is answered at once."""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time

import fastcgi
import pytest
from conftest import LOCATION, SANITIZED, Handler, Nginx, body, send, wait_until
from fastcgi import ABORT, BEGIN, END, PARAMS, STDIN, STDOUT

DATA, GET_VALUES, UNKNOWN_TYPE = 8, 9, 11
TOKEN = "T0ken-of-the-desk"
LONG = 32768  # from here on a request is gathered in memory


def event(*attributes, ticket=2):
    """A body with these attributes, written as they are."""
    return b'{"action":"update","ticket":{"projectId":1,"ticketId":%d%s}}' % (ticket, b"".join(b"," + a for a in attributes))


@contextlib.contextmanager
def stopped(handler):
    handler.process.send_signal(signal.SIGSTOP)
    os.waitpid(handler.process.pid, os.WUNTRACED)
    yield
    handler.process.send_signal(signal.SIGCONT)


def status(text):
    return int(re.match(r"Status: (\d+)", text)[1])


def ask(path, content, **more):
    with fastcgi.Connection(path) as c:
        c.send(fastcgi.request(content, **more))
        return status(c.answer())


def memory(handler, what="VmRSS"):
    """In MB."""
    return int(re.search(what + r":\s+(\d+)", pathlib.Path(f"/proc/{handler.process.pid}/status").read_text())[1]) // 1024


def descriptors(handler):
    """How many it has open; 0 where only root may look (it is not dumpable)."""
    try:
        return len(os.listdir(f"/proc/{handler.process.pid}/fd"))
    except PermissionError:
        return 0


@pytest.fixture
def start(start):
    """Looks at the end for more: the same process, and no descriptor left open."""
    started = []

    def start_and_look(**settings):
        handler = start(**settings)
        ask(handler.socket, b"")  # connected to the database
        started.append((handler, handler.process.pid, descriptors(handler)))
        return handler
    yield start_and_look
    for handler, pid, files in started:
        assert handler.process.poll() is None and handler.process.pid == pid, handler.log.read_text(errors="replace")
        # a connection to the database may be new
        wait_until(lambda: descriptors(handler) <= files + 2, 7, "the end of its connections")


class Honest:
    """One who sends an event every 20 ms, on a new connection or on the one it keeps, and measures the answers."""

    def __init__(self, handler, size=1, what="", limit=1.0):
        self.handler, self.size, self.what, self.limit = handler, size, what, limit
        self.seconds, self.wrong = [], []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        kept = fastcgi.Connection(self.handler.socket)
        for i in range(1000000):
            if self.done.is_set() and i >= 10:
                break
            begin = time.monotonic()
            try:
                c = kept if i % 2 else fastcgi.Connection(self.handler.socket)
                c.send(fastcgi.request(body(1, "h" * self.size)))
                answer = c.answer()
                if status(answer) != 200:
                    self.wrong.append(answer)
                if c is not kept:
                    c.socket.close()
            except (OSError, EOFError) as e:
                self.wrong.append(repr(e))
                if c is kept:
                    kept = fastcgi.Connection(self.handler.socket)
            self.seconds.append(time.monotonic() - begin)
            self.done.wait(0.02)
        kept.socket.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *exception):
        self.done.set()
        self.thread.join()
        print(f"{self.what}: {len(self.seconds)} honest requests, median {statistics.median(self.seconds) * 1000:.1f} ms, "
              f"max {max(self.seconds) * 1000:.0f} ms, {len(self.wrong)} not served")
        if kind is None:
            assert not self.wrong, collections.Counter(self.wrong).most_common(3)
            assert max(self.seconds) < self.limit * (9 if SANITIZED else 4), "starved; the rest is for a machine under load"


def try_send(connection, content):
    """Whether all of it was taken."""
    try:
        connection.send(content)
        return True
    except OSError:
        return False


def closed_within(connections, seconds):
    """Waits until the other side has closed all of these; what it sends before is read away."""
    until = time.monotonic() + seconds
    left = list(connections)
    for c in left:
        c.socket.setblocking(False)
    while left and time.monotonic() < until:
        for c in list(left):
            try:
                if c.socket.recv(65536) == b"":
                    left.remove(c)
            except BlockingIOError:
                pass
            except OSError:
                left.remove(c)
        time.sleep(0.02)
    return not left


@contextlib.contextmanager
def many(handler, count):
    connections = [fastcgi.Connection(handler.socket) for _ in range(count)]
    try:
        yield connections
    finally:
        for c in connections:
            c.socket.close()


# Requests that are none

def header(kind, length, request_id=1, padding=0, version=1):
    return struct.pack(">BBHHBB", version, kind, request_id, length, padding, 0)


def raw_params(content):
    return fastcgi.begin() + fastcgi.record(PARAMS, content)


BEGUN = fastcgi.begin()
GIVEN = BEGUN + fastcgi.params(None)
NAMES = b"".join(fastcgi.pair(n, "") for n in ["FCGI_MPXS_CONNS"] * 12)  # the answers smash 64 bytes of libfcgi's stack
ASKED = header(GET_VALUES, len(NAMES), 0) + NAMES
HUGE = struct.pack(">II", 0xc0000000, 0xc0000000)  # two lengths of 2^30: more together than malloc takes


def lying(first, second):
    return raw_params(struct.pack(">II", first, second) + b"A" * 200)


# Each is refused at its first wrong byte.
BAD = {
    "GET_VALUES first": ASKED,
    "GET_VALUES of one name": header(GET_VALUES, 16, 0) + fastcgi.pair("FCGI_MAX_CONNS", ""),
    "GET_VALUES with an id": header(GET_VALUES, len(NAMES), 1) + NAMES,
    "GET_VALUES after the beginning": BEGUN + ASKED,
    "GET_VALUES in the parameters": raw_params(fastcgi.pair("A", "b")) + ASKED,
    "GET_VALUES after the parameters": GIVEN + ASKED,
    "GET_VALUES in the body": GIVEN + fastcgi.record(STDIN, b"{") + ASKED,
    "GET_VALUES in the padding of the beginning":
        header(BEGIN, 8, padding=len(ASKED)) + BEGUN[8:] + ASKED + fastcgi.params(None) + fastcgi.stream(STDIN, b""),
    "GET_VALUES in the padding of the last parameters":
        GIVEN[:-8] + header(PARAMS, 0, padding=len(ASKED)) + ASKED + fastcgi.stream(STDIN, b""),
    "huge parameters in the padding of the beginning":
        header(BEGIN, 8, padding=216) + BEGUN[8:] + header(PARAMS, 208) + HUGE + bytes(200) + fastcgi.params(None) +
        fastcgi.stream(STDIN, b""),
    "a request in the padding of the beginning":
        header(BEGIN, 8, padding=255) + BEGUN[8:] + fastcgi.params(None)[:247].ljust(247, b"\0") + header(PARAMS, 0) +
        fastcgi.params(None) + fastcgi.stream(STDIN, body(66)),
    "ABORT first": fastcgi.record(ABORT),
    "ABORT": GIVEN + fastcgi.record(ABORT),
    "DATA": GIVEN + fastcgi.record(DATA, b"x"),
    "END": BEGUN + header(END, 8) + bytes(8),
    "STDOUT": GIVEN + fastcgi.record(STDOUT, b"Status: 200\r\n\r\n"),
    "a type that is none": BEGUN + fastcgi.record(UNKNOWN_TYPE),
    "type 255": fastcgi.record(255),
    "version 0": header(BEGIN, 8, version=0),
    "version 2": BEGUN + header(PARAMS, 5, version=2),
    "id 0": header(BEGIN, 8, 0) + BEGUN[8:],
    "another id in the parameters": BEGUN + header(PARAMS, 5, 2),
    "another id in the body": GIVEN + header(STDIN, 5, 257),
    "a role that is none": fastcgi.begin(role=0),
    "an authorizer": fastcgi.begin(role=2),
    "a filter": fastcgi.begin(role=3),
    "role 257": fastcgi.begin(role=257),
    "a short beginning": header(BEGIN, 7),
    "a long beginning": header(BEGIN, 65535),
    "two beginnings": BEGUN + BEGUN,
    "a beginning in the body": GIVEN + fastcgi.record(STDIN, b"{") + BEGUN,
    "a body before its time": raw_params(fastcgi.pair("A", "b")) + fastcgi.record(STDIN, b"{"),
    "parameters in the body": GIVEN + fastcgi.record(STDIN, b"{") + fastcgi.record(PARAMS, b"\0\0"),
    "lengths of 2^31 - 1": lying(0xffffffff, 0xffffffff),
    "lengths that add up to 2^32": lying(0xffffffff, 0xfffffffe),
    "lengths of 2^30": lying(0xc0000000, 0xc0000000),
    "a long name": lying(0xffffffff, 0x80000000),
    "a long value": lying(0x80000001, 0xffffffff),
    "a value past the end": raw_params(b"\1\7Nvalue") + header(PARAMS, 0),
    "a length past the end": raw_params(b"\1\200\0") + header(PARAMS, 0),
    "too many parameters": BEGUN + fastcgi.stream(PARAMS, fastcgi.pair("A", "b" * 70000)),
    "too many small parameters": BEGUN + fastcgi.stream(PARAMS, bytes(65538)),
    "zeros": bytes(100),
    "all bits": b"\xff" * 100,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP": b"POST /vcc/tickets HTTP/1.1\r\nHost: x\r\n\r\n",
}

# Good as far as they go, and they go no further.
HALF = {
    "a byte": b"\1",
    "half a beginning": BEGUN[:12],
    "a beginning": BEGUN,
    "a record that is promised": BEGUN + header(PARAMS, 65535),
    "a pair that is promised": raw_params(b"\177\177N"),
    "padding that is promised": GIVEN + header(STDIN, 0, padding=0)[:4],
    "a body that is promised": GIVEN + header(STDIN, 65535) + b"{}",
    "a body without an end": GIVEN + fastcgi.record(STDIN, body(66)),
    "half of a long body": fastcgi.request(body(66, "x" * 500000))[:400000],
}


def test_what_is_no_request_is_closed_at_once(start, database):
    handler = start()
    wrong = []
    with Honest(handler, what="malformed"):
        for name, content in BAD.items():
            for pieces in 1, 0:
                with fastcgi.Connection(handler.socket, timeout=2) as c:
                    for piece in [content] if pieces else [content[i:i + 11] for i in range(0, min(len(content), 500), 11)]:
                        if not try_send(c, piece):
                            break
                    if len(content) > 500 and not pieces:
                        continue
                    try:
                        if not c.is_closed():
                            wrong.append(f"answered: {name}")
                    except TimeoutError:
                        wrong.append(f"not closed: {name}")
            if handler.process.poll() is not None:
                pytest.fail(f"{name} killed it: {handler.log.read_text()[-300:]}")
    assert not wrong
    assert database.query("SELECT DISTINCT ticket_id FROM vcc.ticket_events") == [(1,)]


def test_what_stops_half_way_is_closed(start, database):
    handler = start()
    with Honest(handler, what="half"), many(handler, len(HALF)) as connections:
        for c, content in zip(connections, HALF.values()):
            c.send(content)
        time.sleep(2)
        assert not closed_within(connections, 0.1)
        assert closed_within(connections, 8)
    assert database.query("SELECT DISTINCT ticket_id FROM vcc.ticket_events") == [(1,)]


def test_a_pause_of_the_process_closes_no_upload(start):
    """What came meanwhile is read before it is asked how long nothing came."""
    handler = start()
    whole = fastcgi.request(body(1, "x" * 100000))
    with fastcgi.Connection(handler.socket) as connection:
        connection.send(whole[:50000])
        time.sleep(0.2)
        with stopped(handler):
            time.sleep(1.2)  # the clock ticks before they come
            connection.send(whole[50000:])
            time.sleep(4.5)
        assert status(connection.answer()) == 200


def test_random_bytes_and_damaged_requests(start, database):
    handler = start()
    rng = random.Random(3)
    with Honest(handler, what="random"):
        for i in range(1500):
            content = bytearray(fastcgi.request(body(3, "x" * rng.randrange(300))) if rng.random() < 0.9 else
                                rng.randbytes(rng.randrange(1, 300)))
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(min(len(content), 60) if rng.random() < 0.5 else len(content))
                content[at] = rng.choice([0, 1, 4, 5, 9, 127, 128, 255, rng.randrange(256)])
            with fastcgi.Connection(handler.socket) as c:
                try_send(c, bytes(content))
                if i % 10 == 0:
                    try_send(c, ASKED)
    assert handler.process.poll() is None


# Requests in pieces

def in_pieces(content, size, pause=0.0):
    for at in range(0, len(content), size):
        yield content[at:at + size]
        if pause:
            time.sleep(pause)


@pytest.mark.parametrize("length, size, pause", [
    (60, 1, 0.002), (3000, 1, 0), (30000, 7, 0), (30000, 100, 0), (300000, 1024, 0.001), (300000, 8193, 0.001),
    (900000, 65536, 0.005),
])
def test_a_request_in_pieces(start, database, length, size, pause):
    handler = start()
    with fastcgi.Connection(handler.socket, timeout=7) as c:
        for i in range(2):
            for piece in in_pieces(fastcgi.request(body(i, "p" * length)), size, pause):
                c.send(piece)
            assert status(c.answer()) == 200
    assert database.query("SELECT ticket_id, length(title) FROM vcc.tickets ORDER BY 1") == [(0, length), (1, length)]


def test_records_of_one_byte(start, database):
    """As many records as bytes, each with padding."""
    handler = start()
    for length, ticket in (100, 1), (9000, 2):
        content = body(ticket, "r" * length)
        records = b"".join(fastcgi.record(STDIN, content[i:i + 1]) for i in range(len(content)))
        with fastcgi.Connection(handler.socket) as c:
            c.send(fastcgi.begin() + fastcgi.params(len(content)) + records + fastcgi.record(STDIN))
            assert status(c.answer()) == 200
    assert database.query("SELECT ticket_id, length(title) FROM vcc.tickets ORDER BY 1") == [(1, 100), (2, 9000)]


def of_length(total, ticket, **more):
    """A request of exactly so many bytes."""
    empty = len(fastcgi.request(body(ticket, ""), **more))
    for title in range(total - empty - 100, total):
        content = body(ticket, "t" * max(title, 0))
        # The padding is ours, to hit every length.
        missing = total - len(fastcgi.begin() + fastcgi.params(len(content), **more)) - len(content) - 16
        if 0 <= missing <= 255 and len(content) <= 65535:
            return (fastcgi.begin() + fastcgi.params(len(content), **more) + header(STDIN, len(content), padding=missing) +
                    content + bytes(missing) + fastcgi.record(STDIN))
    raise AssertionError


def test_every_length_around_the_bounds(start, database):
    """Where libfcgi's buffer, the look into the socket and a record end."""
    handler = start()
    count = 0
    with fastcgi.Connection(handler.socket) as c:
        for bound in 8192, 16384, LONG, 2 * LONG - 200:
            for total in range(bound - 10, bound + 11):
                content = of_length(total, 1)
                assert len(content) == total
                cut = total - count % 20
                c.send(content[:cut])
                if cut < total:
                    c.send(content[cut:])
                assert status(c.answer()) == 200, total
                count += 1
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == count


def test_bodies_around_the_cap(start, database):
    handler = start(TICKETD_MAX_BODY_KB=64)
    cap, over = 65536, 8 << 20

    def ask_size(size, length="its size"):
        with fastcgi.Connection(handler.socket) as c:
            empty = len(body(1, ""))
            content = body(1, "c" * (size - empty))
            sent = try_send(c, fastcgi.request(content, length=size if length == "its size" else length))
            try:
                return status(c.answer())
            except (EOFError, ConnectionResetError):
                return "closed" if not sent or size > over else "closed without an answer"

    for length in "its size", None:
        assert ask_size(cap - 1, length) == 200
        assert ask_size(cap, length) == 200
        assert ask_size(cap + 1, length) == 413
        assert ask_size(cap + over // 2, length) == 413
        assert ask_size(cap + over + 1, length) in (413, "closed")
        assert ask_size(cap + 2 * over, length) in (413, "closed")
    assert ask_size(cap + 1, cap) in (400, 413)
    assert ask_size(cap, cap + 1) == 413
    assert ask_size(100, 10 ** 17) == 413
    for unbelievable in -1, "", "abc", "1e3", "+100", " 100", 10 ** 30:
        assert ask_size(100, unbelievable) == 200
        assert ask_size(cap, unbelievable) == 200
        assert ask_size(cap + 1, unbelievable) == 413
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 18
    assert database.value("SELECT coalesce(max(length(body)), 0) FROM vcc.rejected_events") <= cap + 1
    with fastcgi.Connection(handler.socket) as c:  # a connection is good after 413
        c.send(fastcgi.request(b"x" * (cap + 1)))
        assert status(c.answer()) == 413
        c.send(fastcgi.request(body(1)))
        assert status(c.answer()) == 200


# Requests in requests

def hidden_at(offset, secret, **values):
    """A request whose body holds another one, at that offset of the whole."""
    for fill in range(max(0, offset - 400), offset):
        content = b"x" * fill + secret
        head = fastcgi.begin() + fastcgi.params(len(content), **values)
        records = fastcgi.stream(STDIN, content)
        if (head + records).find(secret) == offset:
            return head + records
    return None


@pytest.mark.parametrize("what, code, values", [
    ("no token", 401, {}),
    ("a wrong method", 405, {"method": "DELETE"}),
    ("no JSON", 400, {"uri": f"{LOCATION}?secret-key={TOKEN}"}),
    ("a lying length", 400, {"uri": f"{LOCATION}?secret-key={TOKEN}", "CONTENT_LENGTH": "3"}),
    ("a probe", 200, {"method": "GET", "uri": f"{LOCATION}/livez"}),
])
def test_a_request_in_a_body_is_never_served(start, database, what, code, values):
    handler = start(TICKETD_TOKEN=TOKEN)
    good = f"{LOCATION}?secret-key={TOKEN}"
    secret = fastcgi.request(body(66), uri=good)
    served = 0
    for insert in secret, ASKED + secret, fastcgi.record(ABORT) + secret:
        for offset in 1000, 8192, 8192 * 2, 8192 * 3, LONG, LONG + 8192, LONG * 2:
            sent = hidden_at(offset, insert, **values)
            if sent is None:
                continue
            with fastcgi.Connection(handler.socket) as c:
                c.send(sent)
                assert status(c.answer()) == code
                try:
                    c.send(fastcgi.request(body(2), uri=good))
                    assert status(c.answer()) == 200
                    served += 1
                except (OSError, EOFError):
                    assert what == "a lying length"  # closed is right too, where the body was not read to its end
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == served
    assert database.value("SELECT count(*) FROM vcc.ticket_events WHERE ticket_id = 66") == 0


def test_a_request_in_a_body_that_is_too_large(start, database):
    handler = start(TICKETD_MAX_BODY_KB=8)
    secret = fastcgi.request(body(66))
    for size in 8193, 65536, 1 << 20, 10 << 20:
        with fastcgi.Connection(handler.socket) as c:
            c.send(fastcgi.request((secret * (size // len(secret) + 1))[:size]))
            assert status(c.answer()) == 413
            c.send(fastcgi.request(body(2)))
            assert status(c.answer()) == 200
    assert database.query("SELECT ticket_id, count(*) FROM vcc.ticket_events GROUP BY 1") == [(2, 4)]


def test_a_request_in_a_body_through_nginx(start, database, folder):
    handler = start(TICKETD_TOKEN=TOKEN)
    nginx = Nginx(folder, handler.socket)
    good = f"{LOCATION}?secret-key={TOKEN}"
    secret = fastcgi.request(body(66), uri=good)
    try:
        for fill in list(range(7700, 8200, 20)) + [LONG - 8 * n for n in range(40)] + [100000]:
            assert send(nginx.port, b"x" * fill + secret).status == 401
        assert send(nginx.port, secret * 100, path=good).status == 400
        assert send(nginx.port, body(2), path=good).status == 200
    finally:
        nginx.stop()
    assert database.query("SELECT ticket_id FROM vcc.ticket_events") == [(2,)]


# Slow ones, many ones

def test_strangers_take_no_memory(start):
    """A hundred bodies of a megabyte that come in pieces and do not end: an honest one is served beside them. When they
    end, and however large they are, they get their answer, and the connection is good."""
    handler = start(TICKETD_TOKEN=TOKEN)
    good = {"uri": f"{LOCATION}?secret-key={TOKEN}"}
    long = fastcgi.request(b"s" * MILLION)
    before = memory(handler)
    with many(handler, 100) as connections:
        for c in connections:
            c.send(long[:-9])
        assert ask(handler.socket, body(1, "h" * 20000), **good) == 200
        assert memory(handler) < before + 30
        for c in connections:
            c.send(long[-9:])
            assert status(c.answer()) == 401
        for content, code, how in (b"x" * (20 << 20), 413, good), (b"x" * (20 << 20), 401, {}), (body(2), 200, good), \
                                  (b"x" * MILLION, 405, {"method": "GET"}), (body(3, "x" * 50000), 200, good):
            c.send(fastcgi.request(content, **how))
            assert status(c.answer()) == code
        assert memory(handler) < before + 30



def test_slow_senders(start):
    """200 who send a byte now and then. They are let wait, and are closed when they stop."""
    handler = start()
    content = fastcgi.request(body(66, "x" * 50000))
    starts = [0, 12, 100, 1000, 40000]
    with Honest(handler, what="slow"), many(handler, 200) as connections:
        for i, c in enumerate(connections):
            c.at = starts[i % len(starts)]
            c.send(content[:c.at])
        for _ in range(4):
            for c in connections:
                c.send(content[c.at:c.at + 1])
                c.at += 1
            time.sleep(0.8)
        assert closed_within(connections, 8)


def test_more_than_there_are_places(start):
    """1000 connections for 64 places, idle or half way: who is slow gives way."""
    handler = start(TICKETD_CONNECTIONS=64)
    with many(handler, 500) as idle, many(handler, 500) as half:
        for c in half:
            try_send(c, fastcgi.request(body(66))[:90])
        begin = time.monotonic()
        for i in range(20):
            assert ask(handler.socket, body(1, "y" * (i * 5000))) == 200
        print(f"flood: 20 honest requests in {time.monotonic() - begin:.2f} s")
        assert time.monotonic() - begin < 3
        assert sum(not c.is_closed() for c in idle[:300]) == 0
        assert descriptors(handler) < 120


def test_more_than_there_are_descriptors(start):
    """The limit of open files may be below TICKETD_CONNECTIONS: 1024 are both, where nobody says otherwise."""
    handler = start()
    subprocess.run(["prlimit", f"--pid={handler.process.pid}", "--nofile=60:60"], check=True)
    with many(handler, 100):
        time.sleep(0.2)
        with fastcgi.Connection(handler.socket, timeout=3) as c:
            c.send(fastcgi.request(body(1)))
            assert status(c.answer()) == 200


def test_memory_of_stalled_bodies(start):
    """300 who send most of a megabyte and stop: 64 bodies and 32 MB are gathered, who comes then is closed."""
    handler = start()
    content = fastcgi.request(body(66, "m" * 1000000))[:900 * 1024]
    with Honest(handler, what="memory", limit=2), many(handler, 300) as connections:
        threads = [threading.Thread(target=lambda n: [try_send(c, content) for c in connections[n::4]], args=[n])
                   for n in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        print(f"memory: {memory(handler)} MB, at most {memory(handler, 'VmHWM')} MB")
        assert SANITIZED or memory(handler, "VmHWM") < 128 + 64 + 32
        assert closed_within(connections, 8)
    assert ask(handler.socket, body(1, "y" * 500000)) == 200


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps memory for itself")
def test_memory_after_large_bodies_is_given_back(start):
    """Texts, and 300,000 numbers each."""
    handler = start(TICKETD_DB_TIMEOUT_MS=25000)
    before = memory(handler)
    contents = [body(i, "m" * 1000000) for i in range(24)] + [event(b'"n":[' + b"1," * 300000 + b"1]", ticket=i) for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor(14) as pool:
        assert set(pool.map(lambda content: ask(handler.socket, content), contents)) == {200}
    wait_until(lambda: memory(handler) < before + 16, what=f"the end of {memory(handler)} MB")


def test_peers_that_never_read(start):
    """Their answers fill the socket; then they are closed, and no worker waits for them."""
    handler = start()
    sent = of_length(8192, 1, method="DELETE")  # libfcgi reads so many bytes at once: they can follow without a pause
    with many(handler, 30) as connections:
        def pour(c):
            c.socket.settimeout(6)
            while try_send(c, sent):
                pass
        threads = [threading.Thread(target=pour, args=[c]) for c in connections]
        with Honest(handler, what="never read"):
            for t in threads:
                t.start()
            time.sleep(3)
            for c in connections:
                with contextlib.suppress(OSError):
                    c.socket.shutdown(socket.SHUT_RDWR)
            for t in threads:
                t.join()


def test_the_end_comes_with_the_request(start):
    """It is answered, and the connection closed: nothing tells of the end again."""
    handler = start()
    with fastcgi.Connection(handler.socket) as connection:
        connection.send(fastcgi.request(body(1)))
        assert connection.answer().startswith("Status: 200")
        with stopped(handler):  # so that it sees both at once
            connection.send(fastcgi.request(body(2)))
            connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answer().startswith("Status: 200")
        assert connection.is_closed()


@pytest.mark.parametrize("length", [9000, 40000])
def test_a_request_behind_another(start, database, length):
    """A connection has one request at a time: libfcgi may have read some of the next one, so the connection ends."""
    handler = start()
    with fastcgi.Connection(handler.socket, timeout=3) as connection:
        with stopped(handler):
            connection.send(of_length(length, 1) + fastcgi.request(body(2)) + fastcgi.request(body(3)))
        assert status(connection.answer()) == 200
        assert connection.is_closed()
    assert database.query("SELECT ticket_id FROM vcc.tickets") == [(1,)]


def test_a_request_behind_one_that_is_as_long_as_what_is_looked_at(start):
    """Not seen beside the first, it is read within the second."""
    handler = start()
    with fastcgi.Connection(handler.socket, timeout=3) as connection:
        with stopped(handler):
            connection.send(of_length(16384, 1) + fastcgi.request(body(2)))
        assert status(connection.answer()) == 200
        assert status(connection.answer()) == 200


def test_peers_that_leave_at_every_byte(start, database):
    handler = start()
    content = fastcgi.request(body(7))
    long = fastcgi.request(body(8, "l" * 40000))
    with Honest(handler, what="leave"), many(handler, len(content)) as half_closed:
        for cut, c in enumerate(half_closed):
            c.send(content[:cut])
            c.socket.shutdown(socket.SHUT_WR)
        for how in socket.SHUT_RD, socket.SHUT_RDWR, None:
            for cut in range(len(content)):
                with fastcgi.Connection(handler.socket) as c:
                    c.send(content[:cut])
                    if how is not None:
                        c.socket.shutdown(how)
        assert closed_within(half_closed, 8)
        for cut in list(range(LONG - 3, LONG + 4)) + list(range(len(long) - 20, len(long))):
            with fastcgi.Connection(handler.socket) as c:
                c.send(long[:cut])
        assert database.value("SELECT count(*) FROM vcc.ticket_events WHERE ticket_id <> 1") == 0
        with fastcgi.Connection(handler.socket) as c:  # all of it, and no ear for the answer
            c.send(content)
        with fastcgi.Connection(handler.socket) as c:
            c.send(long)
            c.socket.shutdown(socket.SHUT_WR)
            assert status(c.answer()) == 200
        wait_until(lambda: database.value("SELECT count(*) FROM vcc.ticket_events WHERE ticket_id <> 1") == 2)


def test_descriptors_in_the_socket(start):
    """A peer of a unix socket may pass open files along with its bytes: they must not stay."""
    handler = start()
    before = descriptors(handler)
    content = fastcgi.request(body(1, "d" * 40000))
    with open(os.devnull, "rb") as file:
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("10i", *[file.fileno()] * 10))]
        for cut in 1, 20, 300, 35000:
            with fastcgi.Connection(handler.socket) as c:
                c.send(content[:cut])
                c.socket.sendmsg([content[cut:cut + 1]], passed)
                try_send(c, content[cut + 1:])
    assert ask(handler.socket, body(1)) == 200
    assert descriptors(handler) <= before + 5


# Bodies

MILLION = 1 << 20
BOMBS = {
    "nested within the limit": (event(b'"x":' + b"[" * 998 + b"]" * 998), 200),
    "nested too deeply": (event(b'"x":' + b"[" * 5000 + b"]" * 5000), 400),
    "a megabyte of [": (b"[" * MILLION, 400),
    "a megabyte of {\"a\":": (b'{"a":' * (MILLION // 5), 400),
    "an array of ones that does not end": (b"[" + b"1," * (MILLION // 2 - 1), 400),
    "an array of ones": (b"[" + b"1," * (MILLION // 2 - 2) + b"1]", 422),
    "an event with an array of ones": (event(b'"x":[' + b"1," * (MILLION // 3 - 100) + b"1]"), 200),
    "one that makes extra too large": (event(b'"x":[' + b"1," * (MILLION // 2 - 100) + b"1]"), 422),
    "a name again and again": (event(*[b'"k":1'] * 100000), 200),
    "a known name again and again": (event(*[b'"title":"a"'] * 70000), 200),
    "actions": (b"{" + b'"action":"update",' * 50000 + b'"ticket":{"projectId":1,"ticketId":2}}', 200),
    "escapes": (event(b'"title":"' + b"\\u00e9" * 170000 + b'"'), 200),
    "escapes of pairs": (event(b'"x":"' + b"\\ud83d\\ude00" * 80000 + b'"'), 200),
    "escaped zeros": (event(b'"x":"' + b"\\u0000" * 170000 + b'"'), 422),
    "zeros below a long name": (event(b'"' + b"n" * 900000 + b'":[' + b",".join([b'"\\u0000"'] * 101) + b"]"), 422),
    "a long name": (event(b'"' + b"n" * 500000 + b'":1'), 200),
    "1e999999": (event(b'"x":1e999999'), 422),
    "1e-999999": (event(b'"x":1e-999999'), (200, 422)),
    "a key of 1e999999": (b'{"action":"update","ticket":{"projectId":1e999999,"ticketId":2}}', 422),
    "a million digits": (event(b'"x":' + b"9" * 1000000), 422),
    "white space": (b" " * (MILLION - 2) + b"{}", 422),
    "zeros": (bytes(MILLION), 400),
    "backslashes": (b'"' + b"\\" * (MILLION - 1), 400),
    "quotes": (b'"' * MILLION, 400),
}


def test_bodies_that_cost(start):
    handler = start(TICKETD_DB_TIMEOUT_MS="20000")  # this machine may be busy
    with Honest(handler, what="JSON", limit=2):
        for name, (content, wanted) in BOMBS.items():
            begin = time.monotonic()
            found = ask(handler.socket, content)
            assert found == wanted or found in (wanted if isinstance(wanted, tuple) else ()), name
            assert time.monotonic() - begin < (9 if SANITIZED else 3), name


def test_names_without_number(start):
    """As many names that we do not know as fit, on a connection that has its prepared plans."""
    handler = start(TICKETD_DB_TIMEOUT_MS="20000")  # this machine may be busy
    for _ in range(12):
        assert ask(handler.socket, body(3)) == 200
    with Honest(handler, what="names", limit=2):
        for value in b"1", b"2", b"null":
            for _ in range(2):
                assert ask(handler.socket, event(*(b'"k%d":%s' % (i, value) for i in range(70000)))) == 200


def test_numbers_that_grow(start, database):
    """1e131000 is eight bytes and, read from a jsonb, 131001: what is stored must be readable, or no dump is ever made."""
    handler = start()
    content = event(b'"x":[' + b",".join([b"1e131000"] * 9000) + b"]")
    assert ask(handler.socket, content) in (200, 422)
    assert ask(handler.socket, body(1)) == 200
    assert database.value("SELECT sum(length(payload::text)) FROM vcc.ticket_events") < 20 * len(content)
    assert database.value("SELECT coalesce(sum(length(extra::text)), 0) FROM vcc.tickets") < 20 * len(content)


# Through nginx

def shout(port, content):
    """Sends bytes to nginx; the status of the answer, or 0 where there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as s:
        with contextlib.suppress(OSError):
            s.sendall(content)
        text = b""
        with contextlib.suppress(OSError):
            while not text.partition(b"\r\n\r\n")[1]:
                piece = s.recv(65536)
                if not piece:
                    break
                text += piece
    found = re.match(rb"HTTP/1.1 (\d+)", text)
    return int(found[1]) if found else 0


def test_rude_http_through_nginx(start, database, folder):
    handler = start()
    nginx = Nginx(folder, handler.socket)
    content = body(5)
    head = f"POST {LOCATION} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"

    def post(headers="", sent=content, line=head):
        return shout(nginx.port, (line + headers + "\r\n").encode() + sent)

    def length(n):
        return f"Content-Length: {n}\r\n"

    def chunks(size):
        pieces = [content[i:i + size] for i in range(0, len(content), size)]
        return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"

    big = body(6, "b" * 700000)
    line = f"POST {LOCATION}?" + "x" * 65536 + " HTTP/1.1\r\nHost: x\r\n"
    cases = {
        "plain": (post(length(len(content))), {200}),
        "a header of 7 KB": (post(length(len(content)) + "X-Big: " + "y" * 7000 + "\r\n"), {200}),
        "four headers of 7 KB": (post(length(len(content)) + ("X-Big: " + "y" * 7000 + "\r\n") * 4), {200, 400}),
        "a header of 64 KB": (post(length(len(content)) + "X-Big: " + "y" * 65536 + "\r\n"), {400}),
        "thousands of headers": (post(length(len(content)) + "a: b\r\n" * 3000), {200, 400, 503}),
        "as many headers as nginx takes": (post(length(len(content)) + "a:\r\n" * 8000), {200, 400, 503}),
        "a URL of 64 KB": (post(length(len(content)), line=line), {414}),
        "a URL of 7 KB": (post(length(len(content)), line=line.replace("x" * 60000, "")), {200}),
        "chunks": (post("Transfer-Encoding: chunked\r\n", chunks(7)), {200}),
        "one chunk": (post("Transfer-Encoding: chunked\r\n", chunks(1000)), {200}),
        "chunks and a length": (post("Transfer-Encoding: chunked\r\n" + length(3), chunks(7)), {200, 400}),
        "a large chunk": (post("Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(big), big)), {200}),
        "chunks over the cap": (post("Transfer-Encoding: chunked\r\n", b"200000\r\n" + b"x" * 0x200000 + b"\r\n0\r\n\r\n"),
                                {413, 0}),
        "a chunk that is none": (post("Transfer-Encoding: chunked\r\n", b"zz\r\n"), {400}),
        "two lengths": (post(length(3) + length(len(content))), {400}),
        "a length below 0": (post(length(-1)), {400}),
        "a length that is huge": (post(length(10 ** 15)), {413}),
        "a Proxy header": (post(length(len(content)) + "Proxy: evil\r\nREQUEST_METHOD: GET\r\nRequest-Method: GET\r\n"), {200}),
        "no body": (post(length(0), b""), {400}),
    }
    try:
        for name, (found, wanted) in cases.items():
            assert found in wanted, (name, found)
        results = collections.Counter()

        def client(n):
            for i in range(20):
                results[send(nginx.port, body(100 + n, f"{n}/{i}")).status] += 1
        threads = [threading.Thread(target=client, args=[n]) for n in range(50)]
        begin = time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        print(f"nginx: 1000 requests of 50 clients in {time.monotonic() - begin:.1f} s: {dict(results)}")
        assert results == {200: 1000}

        idle = [socket.create_connection(("127.0.0.1", nginx.port)) for _ in range(1000)]  # and 1000 at once
        for i, s in enumerate(idle):
            s.sendall(f"{head}Content-Length: {len(body(i))}\r\n\r\n".encode() + body(i))
        codes = collections.Counter(s.recv(4096)[:12] for s in idle)
        for s in idle:
            s.close()
        print(f"nginx: 1000 at once: {dict(codes)}")
        assert codes == {b"HTTP/1.1 200": 1000}
    finally:
        nginx.stop()
    assert not {s for s in results if s == 500 or 300 <= s < 400}


# The end

def test_sigterm_under_attack(folder, database):
    handler = Handler(folder, database)
    with many(handler, 100) as connections:
        for i, c in enumerate(connections):
            try_send(c, fastcgi.request(body(66, "x" * 50000))[:i * 500])
        begin = time.monotonic()
        assert handler.stop() == 0
        assert time.monotonic() - begin < 10
