"""sql/README.md says what the database says."""

import os
import re
import subprocess
import sys

from conftest import ROOT, TICKETD

SQL_README = (ROOT / "sql/README.md").read_text()


def test_the_dictionary_and_the_answers_are_those_of_the_database():
    """Every SQL block runs there, too. What differs is in the output, which ends with what to do."""
    done = subprocess.run([sys.executable, ROOT / "tools/dictionary", "--check"], env={**os.environ, "TICKETD": TICKETD},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_view_has_a_query(database):
    queries = "".join(re.findall(r"```sql\n(.*?)```", SQL_README, re.DOTALL))
    views = [name for name, in database.query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'vcc'::regnamespace AND relkind = 'v'")]
    assert views and [view for view in views if f"vcc.{view}" not in queries] == []


def test_files_that_are_named_exist():
    for readme in ROOT / "README.md", ROOT / "sql/README.md":
        paths = re.findall(r"\]\(([^)#:]+)\)", readme.read_text())
        assert paths and [path for path in paths if not (readme.parent / path).exists()] == [], readme
