"""`ticketd verify`: the tables are what the journal says, after all that can happen; each damage is found, and mended."""

import os
import pty
import re
import subprocess
import threading

import pytest
import test_rule
from conftest import TICKETD, command, environment
from test_report import reader  # noqa: F401, a fixture
from test_rule import apply, event, query


@pytest.fixture
def verify(database, reader):  # noqa: F811
    """Runs it; returns its status, the lines of differences and the numbers."""

    def verify(*arguments, status=0, **settings):
        done = command("verify", *map(str, arguments), **{
            "TICKETD_DATABASE": database.handler, "TICKETD_REPORT_DATABASE": reader, **settings})
        assert done.returncode == status, done.stdout + done.stderr
        assert status == 2 or done.stderr == "", done.stderr
        numbers = {name: int(n) for name, n in re.findall(r"^([a-z ]+?) +(\d+)$", done.stdout, re.MULTILINE)}
        return [line for line in done.stdout.splitlines() if line.startswith("project")] + done.stderr.splitlines(), numbers

    return verify


@pytest.fixture
def tickets(database):
    """Six that are there and four that were deleted, each with a history, and one of another project."""
    one = database.connection
    live(one, range(1, 11), gone=range(7, 11))
    query(one, """SELECT vcc.apply_events(project => -2, ticket_id => '{1}', action => '{add}',
                      payload => '{"{\\"action\\": \\"add\\"}"}')""")
    return one


def live(connection, numbers, gone=()):
    apply(connection, [event("add", "a", ticket=n, softDeadline="2026-01-01", colour="red") for n in numbers])
    apply(connection, [event("update", "ab", ticket=n, userId=5, colour="blue") for n in numbers])
    apply(connection, [event("update", "abc", ticket=n) for n in numbers])
    apply(connection, [event("delete", ticket=n) for n in gone])


def test_it_is_as_the_journal_says(database, verify):
    """After fresh events, late ones, repeats, tickets that came again, and erased ones."""
    query(database.connection, "ALTER ROLE reports SET timezone = 'Pacific/Auckland'")
    test_rule.test_random_sequence(database.connection, 5, 100)
    erased = database.value("SELECT count(*) FROM vcc.deleted_tickets WHERE erased")
    known = database.value("SELECT count(*) FROM (SELECT DISTINCT project_id, ticket_id FROM vcc.ticket_events UNION "
                           "SELECT project_id, ticket_id FROM vcc.deleted_tickets) t")
    found, numbers = verify()
    assert (found, numbers) == ([], {"verified": known - erased, "differ": 0, "no history": erased})
    assert known > 50 and erased > 0


SET = "UPDATE vcc.tickets SET {} WHERE ticket_id = %s"
COPY = """INSERT INTO vcc.tickets SELECT (r).* FROM (
    SELECT jsonb_populate_record(t, jsonb_build_object('ticket_id', %s::bigint)) AS r FROM vcc.tickets t WHERE ticket_id = 1) c"""
LAST = "last_event_at: * | *"
BROKEN = "journal: rows are missing or changed, or the table was before an event"
BYTES = "not rebuilt: the journal does not have the bytes of its adds"
DAMAGED = "not rebuilt: the journal itself is damaged"
# What is done to a ticket (with "gone" to a deleted one); what is said of it: name, journal | table; and what --rebuild
# says where it does not mend it.
GO = "DELETE FROM vcc.ticket_events WHERE ticket_id = %s AND "
DAMAGES = {
    "a text": (SET.format("title = 'private'"), ["title: a string of 3 characters | a string of 7 characters"]),
    "a number": (SET.format("user_id = 6"), ["user_id: 5 | 6"]),
    "a time": (SET.format("soft_deadline = NULL"), ["soft_deadline: 2026-01-01T00:00:00+00:00 | nothing"]),
    "housekeeping": (SET.format("last_event_at = '2031-02-03Z'"), ["last_event_at: * | 2031-*"]),
    "names in extra": (SET.format("""extra = extra || '{"colour": "no", "x\\ny": 1}'"""), [
        "extra.colour: a string of 4 characters | a string of 2 characters",
        "extra.x\\ny: nothing | a number of 1 characters"]),
    "a row less": ("DELETE FROM vcc.tickets WHERE ticket_id = %s", ["row: one | none"]),
    "a row of gone": (COPY, ["row: none | one"]),
    "a row of none": (COPY, ["row: none | one"]),
    "a deletion of gone less": (
        "DELETE FROM vcc.deleted_tickets WHERE ticket_id = %s", ["deletion: * | none"]),
    "a deletion more": ("INSERT INTO vcc.deleted_tickets VALUES (1, %s, now())", ["deletion: none | *"]),
    "a digest less": ("DELETE FROM vcc.ticket_adds WHERE ticket_id = %s", ["digests of adds: 1 | 0"], BYTES),
    "a digest more": ("INSERT INTO vcc.ticket_adds VALUES (1, %s, 'x')", ["digests of adds: 1 | 2"], BYTES),
    "the last row of the journal": (GO + "payload @> '{\"ticket\": {\"title\": \"abc\"}}'", [
        LAST, "title: a string of 2 characters | a string of 3 characters"]),
    "a row amid the journal": (GO + "payload -> 'ticket' ? 'userId'", [
        "extra.colour: a string of 3 characters | a string of 4 characters", BROKEN,
        "user_id: nothing | 5"], DAMAGED),
    "the first row of gone": (GO + "result = 'inserted'", [
        "digests of adds: 0 | 1", BROKEN], DAMAGED),
}  # fmt: skip


def test_each_damage_is_found_and_mended(database, verify):
    """What it says has no value of a text in it. Only --rebuild changes anything, and only where the journal is whole."""
    numbers = dict(zip(DAMAGES, range(101, 200)))
    live(database.connection, [1, *(n for what, n in numbers.items() if "none" not in what)],
         gone=[n for what, n in numbers.items() if "gone" in what])
    assert verify()[0] == []

    def rows():
        return {(table, row["ticket_id"]): row for table in ("tickets", "deleted_tickets")
                for row, in query(database.connection, f"SELECT to_jsonb(t) FROM vcc.{table} t")}  # fmt: skip

    before = rows()
    for what, (sql, *_) in DAMAGES.items():
        query(database.connection, sql, numbers[what])
    after, journal = rows(), query(database.connection, "TABLE vcc.ticket_events")
    found, counts = verify(status=1)
    expected = [f"project 1 ticket {numbers[what]}: " + re.sub("(.+?: )(.+) [|] ", r"\1the journal says \2, the table ", line)
                for what, (_, lines, *_) in DAMAGES.items() for line in lines]  # fmt: skip
    patterns = [re.escape(line).replace(r"\*", ".+") for line in expected]
    assert len(found) == len(patterns) and all(map(re.fullmatch, patterns, found)), found
    assert counts == {"verified": len(DAMAGES) + 1, "differ": len(DAMAGES), "no history": 0} and rows() == after
    assert verify(-2, status=2)[0] == ["ticketd: there is no ticket and no event of project -2"]

    found, counts = verify("--rebuild", 1, status=1)
    assert [line for line in found if "rebuilt" in line] == [
        f"project 1 ticket {numbers[what]}: {(*more, 'rebuilt')[0]}" for what, (_, _, *more) in DAMAGES.items()]
    left = {numbers[what] for what, (_, _, *more) in DAMAGES.items() if more}
    assert counts["rebuilt"] == len(DAMAGES) - len(left)
    undone = numbers["the last row of the journal"]  # what that row had done is not what the journal says
    assert {key for key in {**rows(), **before} if rows().get(key) != before.get(key)} == {("tickets", undone)}
    assert verify("--rebuild", status=1)[1]["rebuilt"] == 0
    assert query(database.connection, "TABLE vcc.ticket_events") == journal


def test_what_was_dropped_is_no_difference(database, tickets, verify):
    """Of a ticket whose rows are gone from the journal nothing is said; one that is whole behind the horizon is compared."""
    apply(tickets, [event("add", "a", ticket=20), event("add", "b", ticket=21)])
    query(tickets, "UPDATE vcc.ticket_events SET received_at = now() WHERE ticket_id IN (20, 21)")
    query(tickets, "UPDATE vcc.tickets SET first_event_at = now(), last_event_at = now() WHERE ticket_id = 20")
    query(tickets, "SELECT vcc.drop_events_before(current_date)")
    found, numbers = verify(1, status=1)
    # 21 has a time of before.
    assert numbers == {"verified": 1, "differ": 1, "no history": 11}
    assert {line.partition(":")[0] for line in found} == {"project 1 ticket 20"}
    query(tickets, "UPDATE vcc.tickets t SET (first_event_at, last_event_at) = (SELECT received_at, received_at "
                   "FROM vcc.ticket_events e WHERE e.ticket_id = t.ticket_id) WHERE ticket_id IN (20, 21)")
    assert verify(1) == ([], {"verified": 2, "differ": 0, "no history": 10})
    # A late event that was dropped may have left what no other carried; not what one behind the horizon did.
    query(tickets, "UPDATE vcc.tickets SET cc = 'x' WHERE ticket_id = 20")
    assert verify(1)[1] == {"verified": 1, "differ": 0, "no history": 11}
    query(tickets, "UPDATE vcc.tickets SET title = 'x' WHERE ticket_id = 21")
    assert verify(1, status=1)[1] == {"verified": 1, "differ": 1, "no history": 11}


def test_beside_live_traffic(database, verify):
    """No difference that is none, and no event that waits."""
    ended, held = threading.Event(), []
    # Each has tickets of other parts of all tickets: within one an add waits for a delete, verify or not.
    parts = database.query("SELECT t, (hashint8extended(t, 1) & 63)::integer FROM generate_series(1, 100) t")
    tickets = [[ticket for ticket, part in parts if part % 2 == n][:10] for n in range(2)]
    connections = [database.cluster.connect(database.name) for _ in range(2)]

    def work(n):
        while not ended.is_set():
            for number in range(40):
                action = ("add", "update", "update", "delete")[(number + n) % 4]
                [(result, _)] = apply(connections[n], [event(action, str(number), ticket=tickets[n][number % 10])])
                held.extend([result] if result == "held" else [])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        numbers = [verify()[1]["verified"] for _ in range(8)]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert numbers[-1] == 20 and held == []
    for connection in connections:
        connection.close()


def test_a_rebuild_waits_for_an_event(database, tickets, verify):
    """Which has the ticket's row: then it sets right what that one left."""
    query(tickets, "UPDATE vcc.tickets SET title = 'x' WHERE ticket_id = 3")
    other = database.cluster.connect(database.name, autocommit=False)
    apply(other, [event("update", ticket=3, userId=9)])
    timer = threading.Timer(0.3, other.commit)
    timer.start()
    verify("--rebuild", status=0)
    timer.join()
    other.close()
    assert query(tickets, "SELECT title, user_id FROM vcc.tickets WHERE ticket_id = 3") == [("abc", 9)]
    verify()


def test_many_portions_and_their_progress(database, reader):  # noqa: F811
    """A portion ends with a ticket, whatever has most rows; the bar goes on to the end."""
    query(database.connection, """
            SELECT vcc.apply_events(project => 5, ticket_id => array_agg(n), action => array_agg('update'::text),
                                    title => array_agg(n::text), payload => array_agg('{}'::text))
              FROM generate_series(1, 6000) n""")
    query(database.connection, "UPDATE vcc.tickets SET title = 'x' WHERE ticket_id IN (1, 5000, 5001, 6000)")
    terminal, end = pty.openpty()
    process = subprocess.Popen([TICKETD, "verify"], env=environment(TICKETD_DATABASE=reader, TERM="xterm"), text=True,
                               stdout=subprocess.PIPE, stderr=end)  # fmt: skip
    os.close(end)
    seen = b""
    try:
        while some := os.read(terminal, 4096):
            seen += some
    except OSError:
        os.close(terminal)
    output = process.communicate(timeout=20)[0]
    assert process.returncode == 1
    assert re.findall(r"ticket (\d+): title", output) == ["1", "5000", "5001", "6000"]
    assert re.search(r"^verified +6000\ndiffer +4\nno history +0$", output, re.MULTILINE)
    bars = re.findall(rb"\rverifying \[#*-*\] +(\d+) %  (\d+) events", seen)
    assert all(int(percent) <= 100 for percent, _ in bars) and b"\n" not in seen


def test_who_may(database, tickets, verify):
    """Reading needs vcc_reader, rebuilding vcc_writer: neither has what is the other's."""
    query(tickets, "UPDATE vcc.tickets SET user_id = 6 WHERE ticket_id = 3")
    assert "GRANT vcc_reader" in verify(TICKETD_REPORT_DATABASE="", status=2)[0][-1]
    only_reads = database.cluster.conninfo(database.name, "reports")
    [*_, refused] = verify("--rebuild", TICKETD_DATABASE=only_reads, status=2)[0]
    assert "stopped half-way in project 1" in refused
    assert verify("--rebuild", TICKETD_REPORT_DATABASE=database.owner)[1]["rebuilt"] == 1


@pytest.mark.parametrize("arguments", ["x", "1 2", "--rebuild --rebuild", " ", "99999999999999999999", "--mend"])
def test_wrong_arguments(verify, arguments):
    [line] = verify(*arguments.split(" ")[:2], status=2)[0]
    many = arguments in ("1 2", "--rebuild --rebuild")
    assert re.fullmatch("ticketd: '.*'" + (" is one too many" if many else ": PROJECT is a number, or --rebuild is meant"), line)


def test_without_a_database(verify):
    [line] = verify(TICKETD_REPORT_DATABASE="host=/nonexistent", status=2)[0]
    assert 'msg="cannot verify"' in line and "No such file" in line
