"""Adding an attribute is one line of fields.def and one migration: done here in a copy of the tree, with a database that has
tickets, some of which have sent it before."""

import contextlib
import re
import runpy
import shutil
import subprocess
import threading
import time

import psycopg2
import pytest
from conftest import ROOT, TICKETD, Handler, build, copy_of_the_tree, environment
from test_migrate import run
from test_optional import event, stopping, submit
from test_upgrade import NEWEST, empty, migrate  # noqa: F401

FIELD = 'FIELD(priority, priority, INTEGER, "How soon it must be done, the customer\'s word: 1 is first")\n'
MIGRATION = "ALTER TABLE vcc.tickets ADD COLUMN priority bigint;\n"
# What waits in extra, and what becomes of it; None: it stays there.
SENT = {1: (5, 5), 2: ("7", 7), 3: ("x", None), 4: ([1], None), 5: (3.5, None), 6: ("", "cleared"), 7: (2.0, 2), 8: (True, None),
        9: ("-9223372036854775808", -(2 ** 63)), 10: ("9223372036854775808", None), 11: ("\\", None)}  # fmt: skip
FIT = {ticket: column for ticket, (_, column) in SENT.items() if column is not None}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attribute")
    copy_of_the_tree(folder)
    fields = folder / "handler/event/fields.def"
    text = fields.read_text()
    fields.write_text(text.replace("ALIAS(substatus", FIELD + "ALIAS(substatus"))
    (folder / f"sql/schema/{NEWEST + 1:03}_priority.sql").write_text(MIGRATION)
    build(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def program(tree):
    return str(tree / "build/ticketd")


@pytest.fixture
def waiting(empty, folder):  # noqa: F811
    """Tickets that have sent the attribute, when it had no column."""
    migrate(empty)
    empty.let_the_handler_in()
    with stopping(Handler(folder, empty)) as handler:
        submit(handler, *[event("add", ticket, priority=value, other=ticket) for ticket, (value, _) in SENT.items()],
               event("add", 12, priority=1), event("delete", 12), event("add", 13, title="never sent it"),
               event("update", 1, priority=6), event("update", 1, priority=5))  # fmt: skip
    return empty


def rows(database, columns="*"):
    return dict((row[0], row[1:]) for row in database.query(f"SELECT ticket_id, {columns} FROM vcc.tickets ORDER BY 1"))


def test_column_comment_and_lists(waiting, program, tree):
    before = {ticket: row for ticket, row in rows(waiting, "title, first_event_at, last_event_at").items()}
    journal = waiting.query("SELECT * FROM vcc.ticket_events ORDER BY event_id")
    said = migrate(waiting, program)
    verified = subprocess.run([program, "verify"], env=environment(TICKETD_DATABASE=waiting.owner), capture_output=True, text=True)
    assert re.search(r"^verified +13\ndiffer +0$", verified.stdout, re.MULTILINE), verified
    assert f"moved={len(FIT)} left_for_they_do_not_fit={len(SENT) - len(FIT)}" in said, said
    for ticket, (priority, extra) in rows(waiting, "priority, extra").items():
        if ticket in FIT:
            assert (priority, extra) == (None if FIT[ticket] == "cleared" else FIT[ticket], {"other": ticket})
        elif ticket in SENT:
            assert (priority, extra) == (None, {"priority": SENT[ticket][0], "other": ticket})
        else:
            assert (priority, extra) == (None, {})
    assert rows(waiting, "title, first_event_at, last_event_at") == before
    assert waiting.query("SELECT * FROM vcc.ticket_events ORDER BY event_id") == journal
    comment = "SELECT col_description('vcc.tickets'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'vcc.tickets'::regclass AND attname = 'priority'"
    assert waiting.value(comment) == "How soon it must be done, the customer's word: 1 is first (priority)"
    # Its changes of before are told as the column's.
    assert waiting.query("SELECT attribute, old_value, new_value FROM vcc.ticket_history WHERE ticket_id = 1 AND action = 'update' "
                         "ORDER BY applied_no") == [("priority", "5", "6"), ("priority", "6", "5")]
    said = migrate(waiting, program)
    assert "moved" not in said and "replaced" not in said and "applied" not in said
    listed = subprocess.run([program, "fields"], capture_output=True, text=True, check=True).stdout
    assert "\npriority\tpriority\tbigint" in listed


def test_every_text_has_it(tree):
    """What is written once for each attribute."""
    found = [path for path in (tree / "sql").glob("**/*.sql") if re.search(r"\{(column|names)\}", path.read_text())]
    assert len(found) >= 3
    for path in found:
        expanded = (tree / "build/sql" / path.relative_to(tree / "sql")).read_text()
        assert re.search(r"\bpriority\b", expanded) and "{column}" not in expanded


def test_dictionary(waiting, program):
    migrate(waiting, program)
    dictionary = runpy.run_path(str(ROOT / "tools/dictionary"), run_name="dictionary")
    assert ("| priority | bigint | How soon it must be done, the customer's word: 1 is first (priority) |",) in waiting.query(
        dictionary["DICTIONARY"])  # fmt: skip


def test_pgtap(cluster, waiting, program):
    """The tests of what writes attributes do not mind."""
    if not cluster.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pgtap'"):
        pytest.skip("the server does not offer the extension pgtap")
    migrate(waiting, program)
    waiting.query("TRUNCATE vcc.tickets, vcc.ticket_events, vcc.deleted_tickets, vcc.ticket_adds")
    files = [f"tests/sql/{name}.sql" for name in ("apply_events", "add", "update", "delete", "extra", "late")]
    done = subprocess.run(["pg_prove", *files], cwd=ROOT, capture_output=True, text=True,
                          env=cluster.environment(waiting.name))  # fmt: skip
    assert done.returncode == 0 and "Result: PASS" in done.stdout, done.stdout + done.stderr


def test_in_portions_beside_others(waiting, program):
    """More than a portion has. One ticket is locked by somebody, who sees it move when he lets go."""
    waiting.query("""INSERT INTO vcc.tickets (project_id, ticket_id, extra, first_event_at, last_event_at)
        SELECT n % 7, 1000 + n, jsonb_build_object('priority', n), now(), now() FROM generate_series(1, 2300) n""")
    with contextlib.closing(psycopg2.connect(waiting.owner)) as other:
        # The column is there before the ticket can be locked: the ALTER TABLE would wait for it.
        waiting.query("CREATE TABLE public.seen (n bigint)")
        done = []
        other.cursor().execute("SELECT 1")  # connected
        other.commit()
        thread = threading.Thread(target=lambda: done.append(run(waiting, program)))
        thread.start()
        while waiting.value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'vcc.tickets'::regclass AND attname = 'priority'") == 0:
            time.sleep(0.002)
        other.cursor().execute("SELECT 1 FROM vcc.tickets WHERE ticket_id = 3300 FOR UPDATE")
        time.sleep(1)
        assert not done
        other.rollback()
        thread.join(30)
    assert done[0][0] == 0 and f"moved={2300 + len(FIT)} " in done[0][1], done
    assert waiting.value("SELECT count(*) FROM vcc.tickets WHERE ticket_id > 1000 AND priority = ticket_id - 1000 AND extra = '{}'") == 2300


def test_triggers_and_constraints_of_users(waiting, program):
    """Triggers fire and are named; what a constraint refuses stays where it is."""
    waiting.query("""CREATE TABLE public.fired (n bigint);
        CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.fired VALUES (NEW.ticket_id); IF NEW.ticket_id = 2 THEN RAISE division_by_zero; END IF; RETURN NEW; END';
        CREATE TRIGGER mine BEFORE UPDATE ON vcc.tickets FOR EACH ROW EXECUTE FUNCTION public.tell();
        CREATE TRIGGER other BEFORE INSERT ON vcc.tickets FOR EACH ROW EXECUTE FUNCTION public.tell()""")
    said = migrate(waiting, program)
    assert "triggers=mine" in said and f"moved={len(FIT) - 1} " in said, said
    assert waiting.value("SELECT extra ->> 'priority' FROM vcc.tickets WHERE ticket_id = 2") == "7"
    assert waiting.value("SELECT count(*) FROM public.fired") == len(FIT) - 1


def test_a_value_in_the_column_is_newer(waiting, program):
    migrate(waiting, program)
    waiting.query("""UPDATE vcc.tickets SET priority = 3, extra = '{"priority": 4}' WHERE ticket_id = 13""")
    waiting.query("DELETE FROM vcc.definitions WHERE name = 'extra moved'")
    assert "moved=1 " in migrate(waiting, program)
    assert rows(waiting, "priority, extra")[13] == (3, {})


def test_a_list_that_has_not_changed_is_not_looked_for(waiting):
    waiting.query("""UPDATE vcc.tickets SET extra = '{"title": "sent by nobody"}' WHERE ticket_id = 13""")
    assert "moved" not in migrate(waiting)


def test_events(waiting, program, folder):
    """By a handler of the new version, and beside it one of the old, which has it in extra still."""
    migrate(waiting, program)
    (folder / "new").mkdir()
    class New(Handler):
        pass

    New.program = program
    with stopping(New(folder / "new", waiting)) as handler:
        assert submit(handler, event("update", 1, priority=9), event("update", 2, priority=None), event("add", 20, priority=1),
                      event("update", 1, priority=9)) == ["updated", "updated", "inserted", "unchanged"]
    found = rows(waiting, "priority, extra")
    assert (found[1][0], found[2][0], found[20]) == (9, None, (1, {}))
    assert waiting.query("SELECT changes -> 'priority' FROM vcc.ticket_events WHERE ticket_id = 1 AND result = 'updated' "
                         "ORDER BY applied_no DESC LIMIT 1") == [([5, 9],)]
