"""`ticketd rejected`: what was set aside, for people, and once more through the whole."""

import json
import random
import re
import subprocess
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone

import fastcgi
import pytest
from conftest import TICKETD, environment, kill_amid, send
from test_import import peak_memory

START = datetime(2024, 2, 15, 12, tzinfo=timezone.utc)


def good(ticket, title="x"):
    return json.dumps({"action": "update", "ticket": {"projectId": 130, "ticketId": ticket, "title": title}}).encode()


class Rejected:
    def __init__(self, database):
        self.database = database
        self.settings = {"TICKETD_DATABASE": database.handler}

    def set_aside(self, body, minute=0, reason="because", project=130):
        """Received so many minutes after START, and the time that its identifier speaks of is the same."""
        received = START + timedelta(minutes=minute)
        identifier = uuid.UUID(int=int(received.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | random.getrandbits(62))
        self.database.query("SELECT vcc.reject_event(%s, %s, %s, %s, %s)", str(identifier), received, project, body, reason)

    def start(self, *arguments, stdout=subprocess.PIPE):
        return subprocess.Popen([TICKETD, "rejected", *arguments], env=environment(**self.settings),
                                stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE)

    def run(self, *arguments):
        """The exit status, standard output, standard error."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert b"Sanitizer" not in err, err
        return process.returncode, out.decode(), err.decode()

    def ids(self):
        return [i for i, in self.database.query("SELECT last_event_id::text FROM vcc.rejected_events ORDER BY 1")]

    def rows(self):
        return [(bytes(b), *r) for b, *r in
                self.database.query("SELECT body, reason, attempts FROM vcc.rejected_events ORDER BY last_event_id")]


@pytest.fixture
def rejected(database):
    return Rejected(database)


def journal(database):
    return database.query("SELECT ticket_id, result FROM vcc.ticket_events ORDER BY event_id")


def count(out):
    return {name: float(number) for name, number in (l.rsplit(None, 1) for l in
            (l.replace("still refused", "still-refused") for l in out.splitlines()))}  # fmt: skip


# list

def test_list(rejected):
    rejected.set_aside(b'{"action":"add"}', 0, "/ticket is missing", project=0)
    rejected.set_aside(b"", 1, "is empty", project=0)
    for minute in (2, 3, 64):
        rejected.set_aside(b'{\n\t"long": "' + "ű".encode() * 400 + b'"}', minute, "/action is missing")
    status, out, err = rejected.run("list")
    assert status == 0
    assert re.sub(r"^[0-9a-f]{8}-[0-9a-f-]{27} ", "ID ", out, flags=re.MULTILINE) == (
        "ID 2024-02-15T12:00:00.000Z 16 bytes, 1 time\n"
        "    /ticket is missing\n"
        '    {"action":"add"}\n'
        "\n"
        "ID 2024-02-15T12:01:00.000Z 0 bytes, 1 time\n"
        "    is empty\n"
        "\n"
        "ID 2024-02-15T13:04:00.000Z project 130 814 bytes, 3 times since 2024-02-15T12:02:00.000Z\n"
        "    /action is missing\n"
        '    {\\n\\t"long": "' + "ű" * 288 + " …\n")
    assert err.splitlines()[-1] == "3 bodies"
    assert re.findall(r"^(\S{36}) ", out, re.MULTILINE) == rejected.ids()


def test_list_nothing(rejected):
    status, out, err = rejected.run("list")
    assert (status, out, err.splitlines()[-1]) == (0, "", "0 bodies")


def test_list_a_range(rejected):
    for minute in range(5):
        rejected.set_aside(b"body %d" % minute, minute)

    def listed(*arguments):
        return [int(n) for n in re.findall(r"body (\d)", rejected.run("list", *arguments)[1])]

    assert listed() == [0, 1, 2, 3, 4]
    assert listed("2024-02-15T12:02Z") == [2, 3, 4]
    assert listed("2024-02-15T13:01+01:00", "2024-02-15 12:03:00Z") == [1, 2]
    assert listed("2024-02-15", "2024-02-16") == [0, 1, 2, 3, 4]
    assert listed("2024-02-16") == []
    rejected.settings["TICKETD_TIME_ZONE"] = "Europe/Budapest"
    assert listed("2024-02-15 13:04") == [4]


def test_list_many_and_large_in_little_memory(rejected, database, folder):
    database.query("SELECT vcc.reject_event(encode(sha256(n::text::bytea), 'hex')::varchar(32)::uuid, now(), 1, "
                   "convert_to(n || repeat('x', 1000000), 'UTF8'), 'why') FROM generate_series(1, 300) n")  # fmt: skip
    rejected.settings["ASAN_OPTIONS"] = "quarantine_size_mb=1"
    with open(folder / "list", "w+b") as file:
        process = rejected.start("list", stdout=file)
        assert peak_memory(process) < 250_000
        file.seek(0)
        assert sorted(int(n) for n in re.findall(rb"^    (\d+)x{200}", file.read(), re.M)) == list(range(1, 301))
    assert process.returncode == 0
    assert process.stderr.read().splitlines()[-1] == b"300 bodies"
    process.stderr.close()


def ended(process):
    """The rest of its output, behind the lines that were read: communicate() would lose some."""
    with process:
        return process.stdout.read(), process.stderr.read()


def test_the_reader_of_a_list_pauses(rejected, database):
    """For longer than any statement may take, as in `| less`."""
    database.query("SELECT vcc.reject_event(md5(n::text)::uuid, now(), 1, convert_to(n || repeat('x', 1000), 'UTF8'), 'why') "
                   "FROM generate_series(1, 1500) n")
    rejected.settings["TICKETD_DB_TIMEOUT_MS"] = 1000
    process = rejected.start("list")
    lines = []
    for part in range(3):
        time.sleep(1.5)
        lines += [process.stdout.readline() for _ in range(4 * 400)]
    out, err = ended(process)
    assert (process.returncode, err.splitlines()[-1]) == (0, b"1500 bodies"), err
    assert len(re.findall(rb"^    \d+x", b"".join(lines) + out, re.M)) == 1500


def test_a_list_goes_on_after_the_connection_is_lost(rejected, database):
    """While its reader pauses."""
    fill(rejected, database, 1500)
    process = rejected.start("list")
    first = process.stdout.readline()
    time.sleep(0.5)
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                   "WHERE datname = current_database() AND application_name = 'ticketd'")  # fmt: skip
    out, err = ended(process)
    assert (process.returncode, err.splitlines()[-1]) == (0, b"1500 bodies"), err
    assert len(re.findall(rb"^\S{36} ", first + out, re.M)) == 1500


def test_a_list_is_written_to_its_end_or_says_so(rejected, database):
    fill(rejected, database, 3)
    with open("/dev/full", "wb") as full:
        process = rejected.start("list", stdout=full)
    assert b"cannot write" in process.communicate()[1] and process.returncode == 2


# show and drop

def test_show(rejected, database):
    bodies = [b"", bytes(range(256)) * 5000, b"\xef\xbb\xbf{\n", b"no line end\x1b[2J"]
    for minute, body in enumerate(bodies):
        rejected.set_aside(body, minute, "\x1b[31mred")
    rejected.set_aside(bodies[3], 4)
    database.query("UPDATE vcc.rejected_events SET iv = '00ff', coding = 'gzip' WHERE body = ''")
    shown = {}
    for identifier in rejected.ids():
        process = rejected.start("show", identifier.upper() if identifier[0] > "9" else identifier)
        out, err = process.communicate(timeout=60)
        lines = [l for l in err.decode().splitlines() if not l.startswith("time=")]
        assert process.returncode == 0 and lines[0].startswith(identifier) and "\x1b" not in err.decode()
        shown[out] = lines
    assert sorted(shown) == sorted(bodies)
    assert shown[b""][1:] == [r"    \x1b[31mred", "    iv kept, content coding gzip"]
    assert "00ff" not in str(shown)
    assert shown[bodies[3]][0].endswith(" 14 bytes, 2 times since 2024-02-15T12:03:00.000Z".replace("14", str(len(bodies[3]))))
    assert shown[bodies[3]][2] == "    iv none, content coding none"


def test_drop(rejected, database):
    for minute in range(3):
        rejected.set_aside(b"body %d" % minute, minute)
    first, second, third = rejected.ids()
    status, out, err = rejected.run("drop", second)
    assert (status, out) == (0, f"{second} is removed\n")
    assert rejected.ids() == [first, third]
    for word in "drop", "show":
        status, out, err = rejected.run(word, second)
        assert (status, out) == (2, "") and "no such body" in err
    rejected.set_aside(b"body 0", 5)  # it came once more: another identifier
    assert rejected.run("drop", first)[0] == 2
    assert len(rejected.rows()) == 2


def test_words_of_show_and_drop(rejected, folder):
    for word in "show", "drop":
        for arguments in [], ["yesterday"], ["018daca3-4e00-7000-ad93-537f88f41fe"], [str(uuid.uuid4()), "x"]:
            status, out, err = rejected.run(word, *arguments)
            assert (status, out) == (2, "") and "takes the identifier" in err
    rejected.settings["TICKETD_DATABASE"] = f"host={folder}"
    for word in "show", "drop":
        status, out, err = rejected.run(word, str(uuid.uuid4()))
        assert (status, out) == (2, "") and "it is not known" in err and "see ticketd check" in err and "no such" not in err


# How often

def post(connection, body):
    connection.send(fastcgi.request(body, uri="/vcc/tickets"))
    return connection.answer().splitlines()[0]


def test_each_receipt_is_an_attempt(rejected, start, folder):
    """Of several processes at once: their receipts come to the database in any order."""
    handlers = []
    for name in "one", "two":
        (folder / name).mkdir()
        handlers.append(start(folder / name, TICKETD_WRITERS=3))
    wrong = []

    def send_many(handler):
        with fastcgi.Connection(handler.socket) as c:
            wrong.extend(a for a in (post(c, b'{"action":"add"}') for _ in range(100)) if "422" not in a)

    threads = [threading.Thread(target=send_many, args=[h]) for h in handlers for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert rejected.rows() == [(b'{"action":"add"}', "/ticket is missing", 800)]


def test_a_byte_order_mark_makes_no_other_body(rejected, handler):
    with fastcgi.Connection(handler.socket) as c:
        for body in b"\xef\xbb\xbf{", b"{", b"\xef\xbb\xbf{", b"\xef\xbb\xbf\xef\xbb\xbf{":
            assert "400" in post(c, body)
    assert [(b, n) for b, _, n in rejected.rows()] == [(b"\xef\xbb\xbf{", 3), (b"\xef\xbb\xbf\xef\xbb\xbf{", 1)]


@pytest.mark.parametrize("body", [
    b"\x1b]0;owned\x07\x1b[2J\x9b31m",
    b"\xff\xfe\xc3\x28\xed\xa0\x80",
    b"a\x00b\x7f",
    "\u009b31m \u202ereversed\u202c \u200b \ufeff \u2028".encode(),
    b"\r\noverwritten\b\b\b\v\f",
    bytes(range(256)),
], ids=["escapes", "not UTF-8", "NUL", "other controls", "line ends", "every byte"])
def test_a_terminal_is_safe_from_a_body(rejected, body):
    rejected.set_aside(body, reason="\x1b[31m\u202e")
    status, out, err = rejected.run("list")
    assert status == 0
    head, reason, shown = out.splitlines()
    assert reason == r"    \x1b[31m\xe2\x80\xae"
    assert all(c.isprintable() for c in head + reason + shown), out
    assert rejected.run("retry")[0] == 1
    status, out, err = rejected.run("retry")
    assert all(c.isprintable() or c == "\n" for c in out + err)


# retry

def test_retry_after_the_cause_is_gone(rejected, database, nginx):
    database.query("ALTER TABLE vcc.tickets ADD CONSTRAINT short CHECK (length(title) < 5)")
    assert [send(nginx.port, good(n, "much too long")).status for n in (1, 1, 2)] == [422] * 3
    assert send(nginx.port, good(1, "ok")).status == 200
    assert send(nginx.port, b"{").status == 400
    rows = rejected.rows()
    assert [r[2] for r in rows] == [2, 1, 1]
    assert [r[1] for r in rows] == ["PostgreSQL refuses it with SQLSTATE 23514, constraint short"] * 2 + [
        "is not JSON: it ends too early at byte 1"]

    status, out, err = rejected.run("retry")
    assert status == 1 and rejected.rows() == rows[1:]  # a later event has given the first another title: it changes nothing
    assert count(out)["tried"] == 3 and count(out)["still-refused"] == 2 and count(out)["unchanged"] == 1
    refused = [l for l in err.splitlines() if not l.startswith("time=")]
    assert [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME", l) for l in refused] == [
        "TIME project 130: PostgreSQL refuses it with SQLSTATE 23514, constraint short",
        "TIME: is not JSON: it ends too early at byte 1"]

    database.query("ALTER TABLE vcc.tickets DROP CONSTRAINT short")
    status, out, err = rejected.run("retry")
    assert status == 1
    assert count(out) | {"seconds": 0, "events/s": 0} == {
        "tried": 2, "inserted": 1, "updated": 0, "unchanged": 0, "deleted": 0, "ignored": 0, "still-refused": 1,
        "seconds": 0, "events/s": 0}
    assert rejected.rows() == rows[2:]
    assert sorted(journal(database)) == [(1, "inserted"), (1, "unchanged"), (2, "inserted")]
    assert database.query("SELECT ticket_id, title FROM vcc.tickets ORDER BY 1") == [
        (1, "ok"), (2, "much too long")]

    database.query("DELETE FROM vcc.rejected_events")
    status, out, err = rejected.run("retry")
    assert status == 0 and count(out)["tried"] == 0


def test_retry_keeps_time_and_identifier(rejected, database):
    rejected.set_aside(good(1), 7)
    event = database.query("SELECT last_event_id::text, last_received_at FROM vcc.rejected_events")
    assert rejected.run("retry")[0] == 0
    assert database.query("SELECT event_id::text, received_at FROM vcc.ticket_events") == event
    assert rejected.rows() == []


def test_refused_again_is_no_attempt(rejected, database):
    """Nor does it change when it was received; the reason is today's."""
    for minute in range(3):
        rejected.set_aside(b'\xef\xbb\xbf{"action":"add"}', minute, "an old reason", project=0)
    before = database.query("SELECT body, attempts, first_received_at, last_received_at, last_event_id::text "
                            "FROM vcc.rejected_events")
    for _ in range(2):
        assert rejected.run("retry")[0] == 1
        assert rejected.rows() == [(b'\xef\xbb\xbf{"action":"add"}', "/ticket is missing", 3)]
        assert database.query("SELECT body, attempts, first_received_at, last_received_at, last_event_id::text "
                              "FROM vcc.rejected_events") == before


def test_retry_a_range(rejected, database):
    for minute in range(5):
        rejected.set_aside(good(minute), minute)
    assert rejected.run("retry", "2024-02-15T12:01Z", "2024-02-15T12:03Z")[0] == 0
    assert journal(database) == [(1, "inserted"), (2, "inserted")]
    rejected.set_aside(b"{", 1, project=0)
    assert rejected.run("retry", "2024-02-15T12:02Z")[0] == 0
    assert len(rejected.rows()) == 2
    assert rejected.run("retry")[0] == 1
    assert len(rejected.rows()) == 1


def test_what_comes_later_is_left_alone(rejected, database):
    database.query("SELECT vcc.reject_event(%s, now() + interval '1 hour', 1, %s, 'x')", str(uuid.uuid4()), good(1))
    assert rejected.run("retry")[0] == 0
    assert len(rejected.rows()) == 1 and journal(database) == []


def fill(rejected, database, n):
    database.query("""SELECT vcc.reject_event(
        (lpad(to_hex(n), 12, '0') || '7000' || '8' || lpad('0', 15, '0'))::uuid, %s + n * interval '1 s', 130,
        convert_to('{"action":"update","ticket":{"projectId":130,"ticketId":' || n %% 50 || ',"title":"' || n || '"}}', 'UTF8'),
        'x') FROM generate_series(1, %s) n""", START, n)  # fmt: skip


def test_more_than_a_page(rejected, database):
    fill(rejected, database, 1234)
    for n in (100, 500, 501, 1000):
        rejected.database.query("UPDATE vcc.rejected_events SET body = '{}', digest = sha256(%s) WHERE last_received_at = %s",
                                str(n).encode(), START + timedelta(seconds=n))
    status, out, err = rejected.run("retry")
    assert status == 1, err
    assert count(out)["tried"] == 1234 and count(out)["still-refused"] == 4
    assert len(journal(database)) == 1230
    assert database.query("SELECT ticket_id, title FROM vcc.tickets ORDER BY 1") == [
        (n, str(n + 1200 if n < 35 else n + 1150)) for n in range(50)]


def test_retry_killed(rejected, database):
    n = 8000
    fill(rejected, database, n)
    rejected.settings["TICKETD_BATCH"] = 50
    left = [n]
    for _ in range(30):
        left.append(kill_amid(lambda: rejected.start("retry"),
                              lambda: database.value("SELECT count(*) FROM vcc.rejected_events"), database,
                              random.random() * 0.05))
        assert database.value("SELECT count(*) FROM vcc.ticket_events") == n - left[-1]
        if left[-1] < 1500:
            break
    assert len([c for c in left if 0 < c < n]) >= 2, left
    status, out, err = rejected.run("retry")
    assert status == 0 and count(out)["tried"] == left[-1]
    assert rejected.rows() == []
    assert journal(database) == [(k % 50, "inserted" if k <= 50 else "updated") for k in range(1, n + 1)]
    assert database.query("SELECT ticket_id, title FROM vcc.tickets ORDER BY 1") == [
        (k, str(n - 50 + k if k else n)) for k in range(50)]


# What can go wrong

def test_could_not_run(rejected, database, folder, cluster):
    for arguments in ([], ["remove"], ["list", "a", "b", "c"]):
        status, _, err = rejected.run(*arguments)
        assert status == 2 and "list|retry|show|drop [SINCE [UNTIL]|ID]" in err
    for arguments, words in ((["list", "yesterday"], "SINCE 'yesterday': "),
                             (["retry", "2024-02-15", "2024-02-30"], "UNTIL '2024-02-30': "),
                             (["list", "2024-02-16", "2024-02-15"], "UNTIL is not later than SINCE")):
        status, out, err = rejected.run(*arguments)
        assert (status, out) == (2, "") and words in err
    rejected.settings["TICKETD_DATABASE"] = f"host={folder}"
    status, out, err = rejected.run("list")
    assert (status, out) == (2, "") and "cannot be listed" in err and "see ticketd check" in err and "0 bodies" not in err
    status, out, err = rejected.run("retry")
    assert (status, out) == (2, "") and "nothing was tried again" in err and "half-way" not in err
    assert "events are held" not in err
    rejected.settings["TICKETD_BATCH"] = "many"
    assert rejected.run("list")[0] == 2


def test_a_web_server_does_not_choose_the_command(rejected):
    """It may pass the words of a query string on as arguments, as in GET /vcc/tickets?rejected+list."""
    rejected.set_aside(b"a secret")
    rejected.settings.update(GATEWAY_INTERFACE="CGI/1.1", REQUEST_METHOD="GET", TICKETD_AUTH="none")
    status, out, _ = rejected.run("list")
    assert out.startswith("Status: 405") and "secret" not in out


@pytest.mark.parametrize("n", [20, 300])
def test_the_database_goes_away(rejected, database, n):
    """After the list was read, and in the middle of it."""
    fill(rejected, database, n)
    rejected.settings.update(TICKETD_BATCH=100, TICKETD_DB_TIMEOUT_MS=400)
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    status, out, err = rejected.run("retry")
    assert status == 2 and "same command again" in err
    assert len(rejected.rows()) == n
    database.query("ROLLBACK")  # what the server has received by now it may commit, although nobody waits for it
    rejected.settings["TICKETD_DB_TIMEOUT_MS"] = 5000
    assert rejected.run("retry")[0] == 0
    assert rejected.rows() == []
    assert len(journal(database)) == n


def test_list_is_cut_short(rejected, database):
    fill(rejected, database, 3)
    rejected.settings["TICKETD_DB_TIMEOUT_MS"] = 400
    database.query("BEGIN; LOCK TABLE vcc.rejected_events")
    status, out, err = rejected.run("list")
    assert (status, out) == (2, "") and "same command again" in err and "bodies" not in err
    database.query("ROLLBACK")
