"""What is written once in a .def file agrees with everything that must follow it."""

import re
import subprocess

from conftest import ROOT, TICKETD, send



def output(argument):
    return subprocess.run([TICKETD, argument], check=True, capture_output=True, text=True).stdout


def fields():
    """(attribute, column, type) of each line of fields.def."""
    return [tuple(line.split("\t")[:3]) for line in output("fields").splitlines()[1:]]


def settings():
    return re.findall(r"^  (TICKETD_[A-Z_]+)", output("--help"), re.MULTILINE)


def test_fields_are_the_columns(database):
    """In any order: a column that came later is the last of the table."""
    columns = database.query("""SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
        WHERE attrelid = 'vcc.tickets'::regclass AND attnum > 0""")
    short = {"timestamp with time zone": "timestamptz"}
    ours = [(column, kind.removesuffix(", key")) for _, column, kind in fields()]
    assert sorted((name, short.get(kind, kind)) for name, kind in columns) == sorted(ours + [
        ("extra", "jsonb"), ("first_event_at", "timestamptz"), ("last_event_at", "timestamptz")])


def test_the_statement_has_the_parameters_of_the_function(database):
    sent = re.findall(r"(\w+) => \$(\d+)", (ROOT / "build/sql/queries/apply_events.sql").read_text())
    assert [int(n) for _, n in sent] == list(range(1, len(sent) + 1))
    names = [name for name, _ in sent]
    assert names == database.value("SELECT proargnames[:pronargs] FROM pg_proc WHERE oid = 'vcc.apply_events'::regproc")
    assert names[names.index("project") + 1:] == [column for _, column, kind in fields() if "key" not in kind]


def test_every_attribute_ends_in_its_column(nginx, database):
    """When the row is made, and when it is changed."""
    database.query("SET TIME ZONE 'UTC'")
    for n in 0, 5:
        values = {"bigint": lambda i: i + 1 + n, "bigint, key": lambda i: i + 1, "text": lambda i: f"text {i + n}",
                  "timestamptz": lambda i: f"2024-02-{i + n:02}T00:00:00+00:00"}  # fmt: skip
        ticket = {name: values[kind](i) for i, (name, _, kind) in enumerate(fields())}
        assert send(nginx.port, {"action": "update", "ticket": ticket}).status == 200
        row = database.value("SELECT to_jsonb(t) FROM vcc.tickets t")
        assert [row[column] for _, column, _ in fields()] == list(ticket.values())


def test_the_documents_list_every_setting_and_every_attribute():
    table = re.findall(r"^\| (TICKETD_[A-Z_]+) \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)
    assert table == settings() and len(table) > 5
    for name, column, _ in fields():
        assert re.search(rf"^\|.*\b{name}\b.*\|.*\b{column}\b", (ROOT / "docs/events.md").read_text(), re.MULTILINE), name
