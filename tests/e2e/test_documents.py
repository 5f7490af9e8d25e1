"""What the documents say: their commands, as far as that needs no boot (`make deb-check` runs them), their queries,
their links; and sql/README.md says what the database says."""

import os
import re
import subprocess
import sys

import pytest

import documents
from conftest import ROOT, TICKETD

SQL_README = (ROOT / "sql/README.md").read_text()
BY_NAME = {str(file.relative_to(ROOT)): file for file in documents.MARKDOWN}


def test_the_dictionary_and_the_answers_are_those_of_the_database():
    """Every SQL block runs there, too. What differs is in the output, which ends with what to do."""
    done = subprocess.run([sys.executable, ROOT / "tools/dictionary", "--check"], capture_output=True, text=True,
                          env={**os.environ, "TICKETD": TICKETD})
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_view_has_a_query(database):
    queries = "".join(re.findall(r"```sql\n(.*?)```", SQL_README, re.DOTALL))
    views = [name for name, in database.query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'vcc'::regnamespace AND relkind = 'v'")]
    assert views and [view for view in views if f"vcc.{view}" not in queries] == []


QUESTIONS = re.findall(r"^### \d+\. [^\n]*\n\n```sql\n(.*?);\n```", SQL_README, re.MULTILINE | re.DOTALL)


def test_the_ten_questions(database, folder):
    """By a reader, with the sample data of the package: as CSV, as it is written there, and the same of what is kept."""
    database.cluster.psql("-f", str(ROOT / "sql/optional/sample.sql"), dbname=database.name)
    database.query("DO $$ BEGIN CREATE ROLE analyst LOGIN IN ROLE vcc_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    recipe = re.search(r"```\n(CREATE TEMP VIEW.*?)```", SQL_README, re.DOTALL)[1]
    script = "SELECT vcc.refresh_reports();\n"
    for kept in "", "_kept":
        for n, question in enumerate(QUESTIONS):
            question = re.sub(r"vcc\.(ticket_metrics|deadline_cycles)\b", rf"vcc.\1{kept}", question)
            question = question.replace("now()", "timestamptz '2024-11-18 18:00Z'")
            script += recipe.replace("SELECT …  -- one of the ten", question).replace("answer.csv", f"{folder}/{n}{kept}.csv")
    database.cluster.psql(dbname=database.name, user="analyst", stdin=script)
    answers = [(folder / f"{n}.csv").read_text() for n in range(10)]
    assert len(QUESTIONS) == 10 and min(answer.count("\n") for answer in answers) > 1
    assert answers == [(folder / f"{n}_kept.csv").read_text() for n in range(10)]


def test_every_document_is_looked_at():
    others = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "sql/README.md")]
    assert sorted(documents.MARKDOWN) == sorted([*ROOT.glob("docs/*.md"), *others])


@pytest.mark.parametrize("name", BY_NAME)
def test_every_block_is_run_or_says_why_not(name):
    """A block of another kind shows something: a picture, a file, an answer."""
    for block in documents.markdown(BY_NAME[name]):
        assert block.language in ("sh", "sql", "json", "text") or name == "sql/README.md", block.place
        assert block.scenes <= {"nginx", "apache", "package", "source", "upgrade"}, block.place
        if block.language == "sh":
            assert list(documents.commands(block.text)), block.place


def test_commands_at_other_places_are_run_too():
    begin = re.compile(r"^ *# {3,}(sudo|apt-get|a2en\w+|curl|systemctl|ticketd) ", re.MULTILINE)
    assert [file for file in documents.OTHERS if begin.search(file.read_text())] == []


@pytest.mark.parametrize("name", BY_NAME)
def test_links_lead_somewhere(name):
    def anchors(file):
        heads = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    for path, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", BY_NAME[name].read_text()):
        file = (BY_NAME[name].parent / path).resolve() if path else BY_NAME[name]
        assert file.exists() and (not anchor or anchor in anchors(file)), f"{path}#{anchor}"


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "sql/README.md"])
def test_lines_are_short(name):
    assert [line for line in BY_NAME[name].read_text().splitlines() if len(line) > 120] == []


def test_the_queries_run(database):
    """Those of sql/README.md are run with its answers, above."""
    queries = [q for block in documents.blocks() if block.language == "sql" and "sql/" not in block.place
               for q in block.text.split(";") if q.strip()]
    assert len(queries) > 2
    for query in queries:
        database.query(query)
