"""`ticketd import`: every line of a file is applied once, however often the file is given and whatever happens meanwhile."""

import hashlib
import json
import os
import pty
import random
import re
import signal
import subprocess
import time
import uuid
from datetime import datetime, timedelta, timezone

import fastcgi
import model
import pytest
from conftest import TICKETD, body, command, environment, event, kill_amid, sample, wait_until

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def sample_line(name):
    """One of the vendor's, on one line."""
    return json.dumps(json.loads(sample(name))).encode()


class Importer:
    def __init__(self, folder, database, **settings):
        self.path = folder / "events.jsonl"
        self.settings = {"TICKETD_DATABASE": database.handler, **settings}

    def write(self, *lines, end=b"\n"):
        self.path.write_bytes(b"".join(l + end for l in lines))

    def start(self, name=None, **more):
        return subprocess.Popen([TICKETD, "import", str(name or self.path)], env=environment(**self.settings),
                                **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more})

    def run(self, name=None, data=None, **more):
        """The exit status, the numbers by their names, and standard error."""
        if data is not None:
            more["stdin"] = subprocess.PIPE
        process = self.start(name, **more)
        out, err = process.communicate(data, timeout=120)
        assert b"Sanitizer" not in err, err
        return process.returncode, numbers(out), err.decode()


def numbers(out):
    return {name.strip(): float(number) for name, number in
            (l.rsplit(None, 1) for l in out.decode().splitlines())}  # fmt: skip


def peak_memory(process):
    """Waits for its end. Returns the most memory that it had, in kB."""
    peak = 0
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            peak = max([peak, *(int(l.split()[1]) for l in file if l.startswith("VmHWM:"))])
        time.sleep(0.01)
    print("peak", peak)
    return peak


@pytest.fixture
def importer(folder, database):
    return Importer(folder, database)


def journal(database):
    return database.query("SELECT event_id::text, action, result FROM vcc.ticket_events ORDER BY event_id")


def random_file(importer, seed, n):
    """A file of random events, and the model after them."""
    expected = model.Model()
    keys = [(130, n) for n in range(40)] + [(131, n) for n in range(40)]
    lines = [each.replace(b"\n", b" ") for each in model.random_events(random.Random(seed), n, keys)]
    for each in lines:
        expected.apply(model.decode(each))
    importer.write(*lines)
    return expected


# What a file may hold

def test_samples_line_ends_and_bad_lines(importer, database):
    importer.settings["TICKETD_MAX_BODY_KB"] = 1
    lines = [
        b"\xef\xbb\xbf" + sample_line("add") + b"\r\n",
        b"\r\n",
        b"\n",
        sample_line("update") + b"\n",
        b"{\n",
        b" \t \r\n",
        body(1, "y" * 1024) + b"\r\n",
        b'{"action":"add","ticket":{"ticketId":"a","ticket":{}}}\r\n',
        sample_line("delete"),
    ]
    importer.path.write_bytes(b"".join(lines))
    status, count, err = importer.run()
    assert status == 1
    assert err.splitlines()[-3:] == [
        "line 5: is not JSON: it ends too early at byte 1",
        "line 7: is longer than TICKETD_MAX_BODY_KB: not stored",
        "line 8: /ticket/projectId is missing; /ticket/ticketId must be an integer or a string of digits",
    ]
    assert {k: v for k, v in count.items() if "s/s" not in k and k != "seconds"} == {
        "lines": 9, "inserted": 1, "updated": 1, "deleted": 1, "unchanged": 0, "ignored": 0, "set aside": 2, "too long": 1}
    assert [(a, r) for _, a, r in journal(database)] == [("add", "inserted"), ("update", "updated"), ("delete", "deleted")]
    assert [bytes(b) for b, in database.query("SELECT body FROM vcc.rejected_events ORDER BY last_event_id")] == [
        b"{", lines[7].rstrip()]


def test_a_line_as_long_as_may_be(importer, database):
    importer.settings["TICKETD_MAX_BODY_KB"] = 1
    fits = body(1, "y" * (1024 - len(body(1, ""))))
    importer.path.write_bytes(fits + b"\r\n" + fits + b"\n" + fits + b" \n" + fits + b" \r\n" + fits + b" \r")
    status, count, err = importer.run()
    assert (status, count["lines"], count["too long"]) == (1, 5, 3)
    assert re.findall(r"line (\d): is longer", err) == ["3", "4", "5"]


@pytest.mark.parametrize("content", [b"", b"\n\r\n \n"])
def test_nothing_to_import(importer, database, content):
    importer.path.write_bytes(content)
    status, count, err = importer.run()
    assert status == 0 and count["inserted"] == 0
    assert journal(database) == []


def test_time_and_identifier_follow_from_the_file(importer, database):
    importer.write(*[body(n) for n in range(3)], b"", body(9))
    before = datetime.now(timezone.utc)
    assert importer.run()[0] == 0
    digest = hashlib.sha256(importer.path.read_bytes()).digest()
    stored, began = database.query("SELECT digest, started_at FROM vcc.imports")[0]
    assert bytes(stored) == digest and before <= began <= datetime.now(timezone.utc)
    rows = database.query("SELECT event_id::text, received_at FROM vcc.ticket_events ORDER BY event_id")
    assert [received for _, received in rows] == [began + timedelta(microseconds=k) for k in (1, 2, 3, 5)]
    for (text, received), k in zip(rows, (1, 2, 3, 5)):
        identifier, us = uuid.UUID(text), (received - EPOCH) // timedelta(microseconds=1)
        assert identifier.version == 7
        assert (identifier.int >> 80, identifier.int >> 64 & 0xfff) == (us // 1000, us % 1000 * 4096 // 1000)
        random_bits = int.from_bytes(hashlib.sha256(digest + k.to_bytes(8, "big")).digest()[:8], "big")
        assert identifier.int & (1 << 62) - 1 == random_bits & (1 << 62) - 1


def test_large_bodies(importer, database):
    """Batches are bounded by bytes too."""
    importer.settings["ASAN_OPTIONS"] = "quarantine_size_mb=1"
    importer.write(*[body(n % 7, "y" * (1_000_000 + n)) for n in range(60)])
    process = importer.start(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert peak_memory(process) < 120_000
    assert process.returncode == 0
    assert sorted(database.query("SELECT ticket_id, length(title) FROM vcc.tickets")) == [
        (n, 1_000_000 + max(range(n, 60, 7))) for n in range(7)]


def test_what_the_database_refuses_has_its_line(importer, database):
    database.query("ALTER TABLE vcc.tickets ADD CONSTRAINT short CHECK (length(title) < 5)")
    importer.write(*[body(1000 - n, "too long" if n in (3, 200, 700) else "ok") for n in range(800)])
    status, count, err = importer.run()
    assert (status, count["inserted"], count["set aside"]) == (1, 797, 3)
    assert re.findall(r"^line (\d+): .*constraint short$", err, re.M) == ["4", "201", "701"]


def test_the_one_at_fault_is_found_by_halves(importer, database):
    """Of the first sixteen, of which a connection's first pipeline is, at most five fail with it: 16, 8, 4, 2, 1."""
    def undone():
        return database.query("SELECT xact_rollback FROM pg_stat_database, pg_stat_clear_snapshot() WHERE datname = current_database()")[0][0]

    database.query("ALTER TABLE vcc.tickets ADD CONSTRAINT short CHECK (length(title) < 5)")
    importer.write(*[body(n, "too long" if n == 3 else "ok") for n in range(600)])
    before = undone()
    assert importer.run()[1]["set aside"] == 1
    wait_until(lambda: undone() > before)
    assert undone() - before <= 5


def test_a_constraint_of_any_name(importer, database):
    """PostgreSQL says it in an array of many results."""
    name = """a "b", {c}|\\ 'd' é"""
    database.query('ALTER TABLE vcc.tickets ADD CONSTRAINT "{}" CHECK (length(title) < 5)'.format(name.replace('"', '""')))
    database.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'two')")
    importer.write(*[body(n, {7: "too long", 9: "two"}.get(n, "ok")) for n in range(50)])
    status, count, err = importer.run()
    assert (status, count["inserted"], count["set aside"]) == (1, 48, 2)
    reasons = [row[0] for row in database.query("SELECT reason FROM vcc.rejected_events ORDER BY last_event_id")]
    assert reasons == [f"PostgreSQL refuses it with SQLSTATE 23514, constraint {each}" for each in (name, "tickets_title_check")]


def test_complaints_end_somewhere_and_are_harmless(importer):
    name = "\\u001b]0;owned\\u0007\\u202e"
    importer.write(*[b'{"action":"add","ticket":{"%s":{"a":"\\u0000%d"}}}' % (name.encode(), n) for n in range(150)])
    status, count, err = importer.run()
    assert (status, count["set aside"]) == (1, 150)
    assert len(re.findall(r"^line \d+: ", err, re.M)) == 100 and "… and 50 more" in err
    assert r"\x1b]0;owned\x07" in err
    assert not set(err) & {"\x1b", "\x07", "\u202e"}


def test_many_lines_that_are_too_long(importer, database):
    importer.settings["TICKETD_MAX_BODY_KB"] = 1
    importer.write(*[body(n, "y" * 1024 if n % 2 else "ok") for n in range(240)])
    status, count, err = importer.run()
    assert (status, count["inserted"], count["too long"], count["set aside"]) == (1, 120, 120, 0)
    assert [int(n) for n in re.findall(r"^line (\d+): is longer", err, re.M)] == list(range(2, 202, 2))
    assert "… and 20 more" in err


# Once each

def test_random_events_equal_the_model(importer, database):
    expected = random_file(importer, 20, 8_000)
    status, count, err = importer.run()
    assert status == 0, err
    results = [r for history in expected.journal.values() for _, r, *_ in history]
    for result in ("inserted", "updated", "unchanged", "deleted", "ignored"):
        assert count[result] == results.count(result)
    assert count["lines"] == 8_000
    assert model.compare(database.connection, expected) == []


def state(database):
    return journal(database), database.query("SELECT * FROM vcc.tickets"), database.query("SELECT * FROM vcc.rejected_events")


def test_the_same_file_again(importer, database):
    """It came to its end before: there is nothing to do, whatever the journal still knows."""
    importer.write(sample_line("add"), b"{", body(1, "a"), body(1, "b"), body(1, "a"), sample_line("delete"), sample_line("add"))
    first = importer.run()
    assert first[0] == 1 and "begun before" not in first[2]
    when = database.value("SELECT to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') FROM vcc.imports")
    database.query("UPDATE vcc.tickets SET title = 'newer'")
    for _ in range(2):
        before = state(database)
        status, count, err = importer.run()
        assert (status, count) == (0, {}) and f"at {when}" in err and "nothing to do" in err
        assert "refused then: see ticketd rejected list" in err
        assert state(database) == before
        database.query("SELECT * FROM vcc.drop_events_before((now() + interval '1 day')::date)")
    # One byte more is another file, and so are its events.
    with open(importer.path, "ab") as file:
        file.write(b"\n")
    assert "before" not in importer.run()[2]
    assert len(journal(database)) == 6


def test_an_unfinished_import_again(importer, database):
    """As is one of a version that did not remember ends."""
    importer.write(sample_line("add"), b"{", body(1, "a"), body(1, "b"), body(1, "a"), sample_line("delete"), sample_line("add"))
    first = importer.run()
    database.query("UPDATE vcc.imports SET finished_at = NULL")
    before = state(database)
    time.sleep(0.01)
    status, count, err = importer.run()
    assert status == 1 and "begun before" in err and "nothing is applied twice" in err
    assert {**count, "seconds": 0, "events/s": 0} == {**first[1], "seconds": 0, "events/s": 0}
    assert state(database) == before
    assert database.query("SELECT attempts FROM vcc.rejected_events") == [(1,)]
    assert "nothing to do" in importer.run()[2]


def test_lines_that_were_too_long_may_be_imported_later(importer, database):
    importer.write(body(1, "x" * 2000), body(2, "a"))
    importer.settings["TICKETD_MAX_BODY_KB"] = 1
    status, count, err = importer.run()
    assert status == 1 and count["too long"] == 1 and len(journal(database)) == 1
    importer.settings["TICKETD_MAX_BODY_KB"] = 10
    assert importer.run()[0] == 0 and len(journal(database)) == 2
    assert "nothing to do" in importer.run()[2]


def older(ticket):
    return json.dumps({"action": "update", "ticket": {"projectId": 130, "ticketId": ticket, "title": "old", "type": "old"}}).encode()


NEWER = b'{"action":"update","ticket":{"projectId":130,"ticketId":1,"title":"new"}}'


def test_an_unfinished_import_behind_the_horizon_only_fills(importer, database, handler):
    importer.write(older(1), older(2))
    assert importer.run()[0] == 0
    database.query("UPDATE vcc.imports SET finished_at = NULL; DELETE FROM vcc.tickets; DELETE FROM vcc.ticket_events")
    assert post(handler, NEWER) == 200
    database.query("SELECT * FROM vcc.drop_events_before((now() + interval '1 day')::date)")
    assert "begun before" in importer.run()[2]
    assert database.query("SELECT ticket_id, title, type FROM vcc.tickets ORDER BY 1") == [(1, "new", "old"), (2, "old", "old")]


def test_an_old_spool_file_behind_the_horizon_only_fills(database, start, folder):
    settings = {"TICKETD_SPOOL_DIR": folder / "spool", "TICKETD_DB_TIMEOUT_MS": 500}
    handler = start(**settings)
    database.query("REVOKE EXECUTE ON FUNCTION vcc.apply_events FROM vcc_writer")
    try:
        assert [post(handler, older(n)) for n in (1, 2)] == [200, 200]
        handler.stop()
        subprocess.run(["cp", "-r", folder / "spool", folder / "old"], check=True)
    finally:
        database.query("GRANT EXECUTE ON FUNCTION vcc.apply_events TO vcc_writer")
    drained = {**settings, "TICKETD_DATABASE": database.handler}
    assert command("spool", "drain", **drained).returncode == 0
    assert len(journal(database)) == 2
    database.query("DELETE FROM vcc.tickets")
    handler.start()
    assert post(handler, NEWER) == 200
    database.query("SELECT * FROM vcc.drop_events_before((now() + interval '1 day')::date)")
    assert journal(database) == []
    handler.stop()
    assert command("spool", "add", str(folder / "old/spool.db"), **drained).stdout.startswith("2 events")
    assert command("spool", "drain", **drained).returncode == 0
    assert database.query("SELECT ticket_id, title, type FROM vcc.tickets ORDER BY 1") == [(1, "new", "old"), (2, "old", "old")]
    handler.start()


def post(handler, content):
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(content, uri="/vcc/tickets"))
        return int(c.answer().split()[1])


def test_killed_again_and_again(importer, database):
    seed = random.randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    importer.settings["TICKETD_BATCH"] = 64
    lines = 4000  # of which many are left after the last kill, also where 700 take no longer than that
    expected = random_file(importer, seed, lines)
    counts = [0]
    for _ in range(20):
        # Repeating what is applied is faster than applying it: the moment comes behind where the last one was.
        counts.append(kill_amid(importer.start, lambda: database.value("SELECT count(*) FROM vcc.ticket_events"), database,
                                rng.random() * 0.02))
        if counts[-1] > 1300:
            break
    assert len([c for c in counts if 0 < c < lines]) >= 2, counts
    status, count, err = importer.run()
    assert status == 0 and "begun before" in err, err
    assert count["lines"] == lines
    assert model.compare(database.connection, expected) == []


def test_two_at_once(importer, database):
    importer.settings["TICKETD_DB_TIMEOUT_MS"] = 20000  # each waits for the other's rows, on a loaded machine too
    expected = random_file(importer, 21, 3000)
    processes = [importer.start() for _ in range(2)]
    outputs = [p.communicate(timeout=60) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    assert model.compare(database.connection, expected) == []


def test_a_nul_is_no_blank(importer, database):
    importer.write(body(1), b"\0" + body(2), b"\0\0", b" \0 " + body(3), body(4))
    status, count, err = importer.run()
    assert (status, count["inserted"], count["set aside"]) == (1, 2, 3), err
    assert re.findall(r"^line (\d): is not JSON: a control character at byte", err, re.M) == ["2", "3", "4"]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_another_encoding(importer, database, coding):
    importer.path.write_bytes("\n".join(each.decode() for each in (body(1), body(2))).encode(coding))
    status, count, err = importer.run()
    assert (status, count) == (2, {}) and "UTF-16 or UTF-32" in err
    assert database.value("SELECT count(*) FROM vcc.rejected_events") == 0


PRETTY = [event("add", n, title="{[,", extra=[{"a": []}, {}]) for n in range(3)]


@pytest.mark.parametrize("content", [
    b"\n".join(json.dumps(each, indent=4).encode() for each in PRETTY),
    b"\xef\xbb\xbf\r\n" + "\r\n".join(json.dumps(each, indent=0) for each in PRETTY).replace("\n", "\r\n").encode(),
    json.dumps(PRETTY).encode(),
    b"\xef\xbb\xbf" + json.dumps(PRETTY, indent="\t").encode() + b"\n",
    b"[\n" + b",\n".join(json.dumps(each).encode() for each in PRETTY) + b"\n]\n",
], ids=["pretty", "not indented", "array on a line", "pretty array", "array of lines"])
def test_an_event_of_several_lines_or_of_an_array(importer, database, content):
    importer.path.write_bytes(content)
    status, count, err = importer.run()
    assert (status, count["inserted"], count["events"], count["set aside"]) == (0, 3, 3, 0), err
    assert [row[0] for row in database.query("SELECT payload FROM vcc.ticket_events ORDER BY event_id")] == PRETTY


def test_what_is_broken_off_in_a_pretty_file(importer, database):
    whole = json.dumps(PRETTY[0], indent=4).encode() + b"\n"
    bad = whole[:40], whole[:62], b'{"a": "b\n', b"word\n"
    importer.path.write_bytes(whole + b"\n".join(bad) + whole)
    status, count, err = importer.run()
    assert (status, count["inserted"], count["unchanged"], count["set aside"]) == (1, 1, 1, 4), err
    assert re.findall(r"^event (\d+): ", err, re.M) == ["2", "3", "4", "5"]
    importer.settings["TICKETD_MAX_BODY_KB"] = 1
    importer.path.write_bytes(b"[" + b",\n".join([body(1), body(2, "x" * 70_000), body(3)]))
    status, count, err = importer.run()
    assert (status, count["inserted"], count["too long"]) == (1, 2, 1)
    assert "event 2: is longer" in err and "array does not end" in err


def event_line(action, title):
    return json.dumps(event(action, title=title)).encode()


def received(when, what):
    return json.dumps({"received_at": when, "event": what}).encode()


def test_lines_with_their_time(importer, database):
    """They count on their day, those of one second in the order of the file; their months have partitions."""
    lines = [
        received("2024-02-15T23:30:00+01:00", event("add", title="a", status="open")),
        received("2024-02-15 22:30:00", event("update", title="b")),
        received("2024-02-15T22:30:00\\u002b00:00", event("update", title="c")).replace(b"\\\\", b"\\"),
        b' {"host": "x", "event" : %s , "received_at": 1710806400 }'
        % json.dumps(event("update", status="closed")).encode(),
        received(None, event("add", 1)), received("2999-01-01", event("add", 2)),
        received("1969-12-31", event("add", 3)),
        received("2024-04-01", event("add")) + b"}",
    ]
    importer.write(*lines)
    status, count, err = importer.run()
    assert (status, count["inserted"], count["updated"], count["set aside"]) == (1, 1, 3, 4), err
    assert err.splitlines()[-4:] == [
        "line 5: /received_at must be an ISO 8601 date-time or an integer", "line 6: /received_at is in the future",
        "line 7: /received_at is before 1970", "line 8: is not JSON: unexpected text at byte 103"]
    bodies = database.query("SELECT body FROM vcc.rejected_events ORDER BY last_event_id")
    assert [bytes(row[0]) for row in bodies] == lines[4:]
    assert database.query("SELECT title, status FROM vcc.tickets") == [("c", "closed")]
    when = [datetime(2024, 2, 15, 22, 30, tzinfo=timezone.utc)] * 3 + [datetime(2024, 3, 19, tzinfo=timezone.utc)]
    rows = database.query("SELECT event_id, received_at, tableoid::regclass::text, payload ->> 'action' "
                          "FROM vcc.ticket_events ORDER BY event_id")
    assert [(time, table, action) for _, time, table, action in rows] == list(zip(
        when, ["vcc.ticket_events_2024_02"] * 3 + ["vcc.ticket_events_2024_03"], ["add", "update", "update", "update"]))
    assert [uuid.UUID(row[0]).int >> 80 for row in rows] == [int(each.timestamp() * 1000) for each in when]
    database.query("SET timezone = 'UTC'")
    flow = "SELECT day::text, opened, closed FROM vcc.daily_flow WHERE opened + closed > 0 ORDER BY day"
    assert database.query(flow) == [("2024-02-15", 1, 0), ("2024-03-19", 0, 1)]
    before = state(database)
    database.query("UPDATE vcc.imports SET finished_at = NULL")
    assert "begun before" in importer.run()[2]
    assert state(database) == before


def test_a_line_with_its_time_is_late(importer, database, handler):
    assert post(handler, NEWER) == 200
    importer.write(received("2024-02-15T22:30:00Z", json.loads(older(1))))
    assert importer.run()[0] == 0
    assert database.query("SELECT title, type, last_event_at > now() - interval '1 hour' FROM vcc.tickets") == [
        ("new", "old", True)]


def test_an_erased_ticket_stays_erased_whatever_file_comes_again(importer, database):
    importer.write(event_line("add", "a"), event_line("add", "b"), event_line("update", "c"),
                   json.dumps(event("add", userId="x")).encode())
    importer.run()
    for change in "UPDATE vcc.imports SET finished_at = NULL", "TRUNCATE vcc.imports":
        database.query(f"SELECT vcc.erase_ticket(130, 21); {change}")
        assert importer.run()[1]["ignored"] == 3
        assert database.query("SELECT DISTINCT payload, changes FROM vcc.ticket_events") == [({}, None)]
        for table in "tickets", "ticket_adds", "rejected_events":
            assert database.query(f"SELECT * FROM vcc.{table}") == []


# Where it comes from

def test_standard_input(importer, database, folder):
    """A pipe, a file and a part of one; the same lines are the same import."""
    content = b"".join(body(n, "x" * 1000) + b"\n" for n in range(500))
    importer.path.write_bytes(b"skipped\n" + content)
    temporary = folder / "tmp"
    temporary.mkdir()
    importer.settings["TMPDIR"] = str(temporary)
    status, count, err = importer.run("-", data=content)
    assert (status, count["inserted"]) == (0, 500), err
    assert list(temporary.iterdir()) == []
    with open(importer.path, "rb") as file:
        os.lseek(file.fileno(), len(b"skipped\n"), os.SEEK_SET)
        status, count, err = importer.run("-", stdin=file)
    assert status == 0 and "nothing to do" in err
    importer.path.write_bytes(content)
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    writer = subprocess.Popen(["sh", "-c", f"cat {importer.path} > {fifo}"])
    status, count, err = importer.run(fifo)
    writer.wait(10)
    assert status == 0 and "nothing to do" in err
    assert "nothing to do" in importer.run()[2]
    assert len(journal(database)) == 500


def test_no_room_for_a_copy(importer, folder):
    importer.settings["TMPDIR"] = str(folder / "missing")
    status, _, err = importer.run("-", data=body(1))
    assert status == 2 and "TMPDIR" in err


# What can go wrong

def test_could_not_run(importer, database, cluster, folder):
    importer.write(body(1))
    assert importer.run(folder / "missing")[::2][0] == 2
    status, count, err = importer.run(folder)
    assert (status, count) == (2, {}) and "directory" in err
    importer.settings["TICKETD_DATABASE"] = f"host={folder}"
    status, count, err = importer.run()
    assert (status, count) == (2, {}) and "nothing was imported" in err and "see ticketd check" in err
    importer.settings["TICKETD_DATABASE"] = cluster.conninfo("postgres")
    status, count, err = importer.run()
    assert (status, count) == (2, {}) and "vcc" in err
    importer.settings["TICKETD_BATCH"] = "many"
    assert importer.run()[0] == 2
    for arguments in ([], ["a", "b"]):
        wrong = command("import", *arguments)
        assert wrong.returncode == 2 and "import FILE|-" in wrong.stderr
    assert journal(database) == []


def test_the_database_stops_taking(importer, database):
    """A transaction of somebody else's holds a ticket in the middle of the file."""
    importer.settings.update(TICKETD_DB_TIMEOUT_MS=400, TICKETD_BATCH=100)
    importer.write(*[body(n) for n in range(1000)])
    database.query("INSERT INTO vcc.tickets (project_id, ticket_id, first_event_at, last_event_at) VALUES (1, 555, now(), now())")
    database.query("BEGIN; SELECT FROM vcc.tickets FOR UPDATE")
    status, count, err = importer.run()
    stopped = int(re.search(r"stopped after line (\d+)\. Give the same command again", err)[1])
    assert status == 2 and 500 <= stopped <= 555  # what is before that ticket in its batch may get through
    assert count["lines"] == count["inserted"] == stopped
    database.query("COMMIT")
    importer.settings.update(TICKETD_DB_TIMEOUT_MS=20000)  # a slow machine is no reason to stop
    status, count, err = importer.run()
    assert (status, count["lines"], count["inserted"], count["updated"]) == (0, 1000, 999, 1)
    assert len(journal(database)) == 1000


def test_the_database_is_restarted_under_it(importer, database, cluster):
    expected = random_file(importer, 22, 8000)
    process = importer.start()
    wait_until(lambda: database.value("SELECT count(*) FROM vcc.ticket_events") > 1000)
    database.connection.close()
    cluster.restart()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    database.reconnect()
    assert model.compare(database.connection, expected) == []


@pytest.mark.parametrize("change", ["grows", "shrinks"])
def test_the_file_changes_meanwhile(importer, database, change):
    importer.settings["TICKETD_BATCH"] = 100
    importer.write(*[body(n) for n in range(5000)])
    size = importer.path.stat().st_size
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    process = importer.start()
    wait_until(database.handler_waits_for_a_lock)
    os.truncate(importer.path, size if change == "grows" else size // 2)
    if change == "grows":
        with open(importer.path, "ab") as file:
            file.write(body(6000) + b"\n")
    database.query("COMMIT")
    out, err = process.communicate(timeout=20)
    if change == "grows":
        assert process.returncode == 0 and numbers(out)["lines"] == 5000
        assert len(journal(database)) == 5000
    else:
        assert process.returncode == 2 and b"shorter" in err and b"same command again" in err
        assert numbers(out)["set aside"] == 0  # half a line is none


def test_interrupted(importer, database):
    importer.settings["TICKETD_BATCH"] = 100
    importer.write(*[body(n) for n in range(5000)])
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    process = importer.start()
    wait_until(database.handler_waits_for_a_lock)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    database.query("COMMIT")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 2 and b"stopped after line " in err and b"same command again" in err
    done = int(numbers(out)["lines"])
    assert 0 < done <= 200 and len(journal(database)) == done
    status, count, _ = importer.run()
    assert (status, count["inserted"]) == (0, 5000)
    assert len(journal(database)) == 5000


def test_interrupted_twice_is_killed(importer, database):
    importer.write(body(1))
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    process = importer.start()
    wait_until(database.handler_waits_for_a_lock)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == -signal.SIGINT
    process.communicate()
    database.query("COMMIT")


# What people see

def watch(importer, **settings):
    """Runs it with standard error on a terminal and returns what appeared there."""
    importer.settings.update(settings)
    terminal, end = pty.openpty()
    process = importer.start(stderr=end)
    os.close(end)
    seen = b""
    while True:
        try:
            some = os.read(terminal, 4096)
        except OSError:
            break
        if not some:
            break
        seen += some
    os.close(terminal)
    process.communicate(timeout=20)
    assert process.returncode in (0, 1)
    return seen.decode()


def screen(output):
    """The lines that are left on a terminal that knows \\r, \\n and ESC [ K."""
    lines = [""]
    column = 0
    for part in re.findall(r"\r|\n|\x1b\[K|[^\r\n\x1b]+", output):
        if part == "\n":
            lines.append("")
            column = 0
        elif part == "\r":
            column = 0
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        else:
            lines[-1] = lines[-1][:column] + part + lines[-1][column + len(part):]
            column += len(part)
    return lines


def test_progress_on_a_terminal(importer, database):
    importer.write(*[body(n % 100, str(n)) for n in range(8000)], b"{", *[body(n % 100, "b" + str(n)) for n in range(8000)])
    start = time.monotonic()
    seen = watch(importer, TERM="xterm", TICKETD_BATCH=100)
    seconds = time.monotonic() - start
    bars = re.findall(r"\rimporting \[#*-*\] +(\d+) %  (\d+) events  \d+/s(?:  \d+:\d\d left)?\x1b\[K\r", seen)
    assert 3 <= len(bars) <= seconds * 10 + 1, seen
    assert bars == sorted(bars, key=lambda bar: int(bar[1])) and int(bars[-1][0]) <= 100
    for bar in re.findall(r"\r(importing [^\x1b]*)", seen):
        assert len(bar) < 80
    left = screen(seen)
    assert left[-2:] == ["line 8001: is not JSON: it ends too early at byte 1", ""]
    assert not any("importing" in l for l in left)


def test_no_bar_where_there_is_no_terminal(importer, database):
    importer.write(*[body(n % 100, str(n)) for n in range(8000)])
    assert "\r" not in importer.run()[2]
    # Warnings only: an import of more than five seconds tells its progress in the log.
    assert "importing" not in watch(importer, TERM="dumb", TICKETD_LOG_LEVEL="warning")
