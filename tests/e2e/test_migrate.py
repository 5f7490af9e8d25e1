"""`ticketd migrate`: definitions are replaced where they differ and nothing of a user's is lost, locks hold up nobody, and what
belongs to another role is left alone. The programs with other definitions are built of a copy of the tree."""

import concurrent.futures
import contextlib
import hashlib
import os
import re
import subprocess
import threading
import time

import psycopg2
import pytest
from conftest import ROOT, TICKETD, Handler, build, command, copy_of_the_tree, environment, wait_until
from test_optional import event, stopping, submit
from test_upgrade import ADDED, Empty, bring_to, empty, migrate  # noqa: F401

CATALOGS = "pg_proc", "pg_class", "pg_attribute", "pg_namespace", "pg_type", "pg_description", "pg_rewrite", "pg_depend", "pg_attrdef"


def run(database, program=TICKETD, owner=None, **settings):
    """Returns the exit status and what it says."""
    done = subprocess.run([program, "migrate"], env=environment(TICKETD_DATABASE=owner or database.owner, **settings),
                          capture_output=True, text=True)  # fmt: skip
    return done.returncode, done.stderr


def rows_of(database, *catalogs):
    """Each row's version: one that was written again has another. Statistics are not counted, which VACUUM keeps."""
    return {each: database.query(f"SELECT ctid::text, xmin::text FROM {each} ORDER BY 1, 2") for each in catalogs}


class Tree:
    """A copy of the tree with other SQL: program({path: text}) builds it; None removes a file."""

    def __init__(self, folder):
        self.folder = folder
        copy_of_the_tree(folder)

    def program(self, changes):
        before = {path: (ROOT / path).read_text() if (ROOT / path).exists() else None for path in changes}
        self._write(changes)
        built = self.folder / f"ticketd-{time.time_ns()}"
        os.rename(build(self.folder), built)
        self._write(before)
        return str(built)

    def _write(self, texts):
        for path, text in texts.items():
            if text is None:
                (self.folder / path).unlink()
            else:
                (self.folder / path).write_text(text)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("tree"))


def text(path):
    return (ROOT / "sql" / path).read_text()


PROBE = """CREATE OR REPLACE FUNCTION vcc.probe(%s) RETURNS %s
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ SELECT %s $$;
COMMENT ON FUNCTION vcc.probe IS 'For the test';
"""
VIEW = """CREATE OR REPLACE VIEW vcc.probe_view AS SELECT %s;
COMMENT ON VIEW vcc.probe_view IS 'For the test';
"""
ON_VIEW = """CREATE OR REPLACE VIEW vcc.a_view_on_it AS SELECT p.one FROM vcc.probe_view p;
COMMENT ON VIEW vcc.a_view_on_it IS 'For the test';
"""


@pytest.fixture(scope="module")
def programs(tree):
    """By name."""
    base = {"sql/functions/probe.sql": PROBE % ("one integer", "integer", "one"),
            "sql/views/probe_view.sql": VIEW % "1 AS one, 2 AS two, vcc.probe(3) AS three",
            "sql/views/a_view_on_it.sql": ON_VIEW}  # fmt: skip
    made = {
        "probe": {},
        "other body": {"sql/functions/probe.sql": PROBE % ("one integer", "integer", "one + 1")},
        "more parameters": {"sql/functions/probe.sql": PROBE % ("one integer, more integer DEFAULT NULL", "integer", "one")},
        "more parameters, named": {"sql/functions/probe.sql": (PROBE % ("one integer, more integer DEFAULT NULL", "integer", "one")).replace(
            "FUNCTION vcc.probe IS", "FUNCTION vcc.probe(integer, integer) IS")},
        "other result": {"sql/functions/probe.sql": PROBE % ("one integer", "bigint", "one")},
        "a column more": {"sql/views/probe_view.sql": VIEW % "1 AS one, 2 AS two, vcc.probe(3) AS three, 4 AS four"},
        "a column less": {"sql/views/probe_view.sql": VIEW % "1 AS one, vcc.probe(3) AS three"},
        "broken and a migration": {"sql/schema/997_before.sql": "CREATE TABLE vcc.before (project_id bigint);\n",
                                   "sql/views/probe_view.sql": VIEW % "1 AS one"},
    }  # fmt: skip
    built = {name: tree.program({**base, **changes}) for name, changes in made.items()}
    built["a newer schema"] = tree.program({"sql/schema/998_next.sql": ADDED})
    return built


@pytest.fixture
def probe(empty, programs):  # noqa: F811
    """A database with a function and two views more, and what users granted on them."""
    migrate(empty, programs["probe"])
    empty.query("DO $$ BEGIN CREATE ROLE bob; CREATE ROLE eve; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    empty.query("GRANT EXECUTE ON FUNCTION vcc.probe TO bob WITH GRANT OPTION")
    empty.query("GRANT SELECT ON vcc.probe_view TO bob, PUBLIC; GRANT SELECT (one), UPDATE (three) ON vcc.probe_view TO eve")
    empty.query("GRANT SELECT ON vcc.a_view_on_it TO bob")
    return empty


def grants(database):
    return database.query("""
        SELECT proname::text, NULL, a.grantee::regrole::text, privilege_type, is_grantable
          FROM pg_proc, aclexplode(proacl) a WHERE pronamespace = 'vcc'::regnamespace UNION
        SELECT relname, NULL, a.grantee::regrole::text, privilege_type, is_grantable
          FROM pg_class, aclexplode(relacl) a WHERE relnamespace = 'vcc'::regnamespace UNION
        SELECT relname, attname, a.grantee::regrole::text, privilege_type, is_grantable
          FROM pg_class c JOIN pg_attribute ON attrelid = c.oid, aclexplode(attacl) a WHERE relnamespace = 'vcc'::regnamespace
         ORDER BY 1, 2, 3, 4""")


# -- definitions ----------------------------------------------------------------------------------------------------


def test_twice_changes_nothing(empty):  # noqa: F811
    migrate(empty)
    before = rows_of(empty, *CATALOGS)
    definitions = empty.query("SELECT ctid::text, d.* FROM vcc.definitions d ORDER BY name")
    said = migrate(empty)
    assert "replaced" not in said and "applied" not in said and "up to date" in said
    assert rows_of(empty, *CATALOGS) == before
    assert empty.query("SELECT ctid::text, d.* FROM vcc.definitions d ORDER BY name") == definitions


def test_what_differs_is_replaced_and_nothing_else(probe, programs):
    """Identity, grants and what users made on it stay."""
    probe.query("CREATE VIEW public.mine AS SELECT vcc.probe(1) AS mine")
    functions = dict(probe.query("SELECT proname::text, xmin::text FROM pg_proc WHERE pronamespace = 'vcc'::regnamespace"))
    before = probe.value("SELECT 'vcc.probe'::regproc::oid"), grants(probe)
    assert "files=1" in migrate(probe, programs["other body"])
    after = dict(probe.query("SELECT proname::text, xmin::text FROM pg_proc WHERE pronamespace = 'vcc'::regnamespace"))
    assert {name for name in after if after[name] != functions[name]} == {"probe"}
    assert (probe.value("SELECT 'vcc.probe'::regproc::oid"), grants(probe)) == before
    assert probe.value("SELECT mine FROM public.mine") == 2


@pytest.mark.parametrize("changed, arguments", [("more parameters", "one integer, more integer DEFAULT NULL::integer"),
                                                ("more parameters, named", "one integer, more integer DEFAULT NULL::integer"),
                                                ("other result", "one integer")])  # fmt: skip
def test_another_signature(probe, programs, changed, arguments):
    """The old one goes; our views that need it are made again; grants stay."""
    before = grants(probe)
    migrate(probe, programs[changed])
    assert probe.query("SELECT pg_get_function_arguments(oid) FROM pg_proc WHERE proname = 'probe'") == [(arguments,)]
    assert probe.query("SELECT * FROM vcc.probe_view, vcc.a_view_on_it") == [(1, 2, 3, 1)]
    assert grants(probe) == before
    assert probe.value("SELECT obj_description('vcc.probe'::regproc)") == "For the test"


def test_a_column_more_keeps_what_is_built_on_the_view(probe, programs):
    probe.query("CREATE VIEW public.mine AS SELECT * FROM vcc.probe_view")
    before = probe.value("SELECT 'vcc.probe_view'::regclass::oid"), grants(probe)
    migrate(probe, programs["a column more"])
    assert (probe.value("SELECT 'vcc.probe_view'::regclass::oid"), grants(probe)) == before
    assert probe.query("SELECT * FROM vcc.probe_view") == [(1, 2, 3, 4)]
    assert probe.query("SELECT * FROM public.mine") == [(1, 2, 3)]


def test_a_column_less(probe, programs):
    """The view is dropped and made, and so is ours on it, whose file comes first by name."""
    before = grants(probe)
    migrate(probe, programs["a column less"])
    assert probe.query("SELECT p.*, a.* FROM vcc.probe_view p, vcc.a_view_on_it a") == [(1, 3, 1)]
    assert grants(probe) == before


@pytest.mark.parametrize("made, what, changed", [
    ("CREATE VIEW public.mine AS SELECT one FROM vcc.probe_view", "view public.mine", "a column less"),
    ("CREATE VIEW public.mine AS SELECT one FROM vcc.a_view_on_it", "view public.mine", "a column less"),
    ("CREATE MATERIALIZED VIEW public.mine AS SELECT one FROM vcc.probe_view", "materialized view public.mine", "a column less"),
    ("CREATE FUNCTION public.mine() RETURNS integer BEGIN ATOMIC SELECT vcc.probe(1); END", "function public.mine()", "more parameters"),
    ("CREATE FUNCTION public.mine() RETURNS SETOF vcc.probe_view LANGUAGE sql AS 'SELECT * FROM vcc.probe_view'",
     "function public.mine()", "a column less"),
    ("CREATE TABLE public.mine (n integer DEFAULT vcc.probe(1))", "default value for column n of table public.mine", "other result"),
    ("CREATE TABLE public.mine (v vcc.probe_view)", "column v of table public.mine", "a column less"),
    ("CREATE RULE mine AS ON INSERT TO vcc.probe_view DO INSTEAD NOTHING", "rule mine on view vcc.probe_view", "a column less"),
    ("CREATE VIEW vcc.mine AS SELECT one FROM vcc.probe_view", "view vcc.mine", "broken and a migration"),
])  # fmt: skip
def test_what_a_user_made_stops_it(probe, programs, made, what, changed):
    """It is named, nothing is changed, and once it is out of the way the migration goes through."""
    probe.query(made)
    before = rows_of(probe, *CATALOGS)
    status, said = run(probe, programs[changed])
    assert status == 1 and "nothing was changed" in said and f"{what} depends on" in said and f'do="drop {what}' in said, said
    assert rows_of(probe, *CATALOGS) == before
    kind = re.sub("^(default value for )?column . of ", "", what).replace("()", "").replace("on view", "on")
    probe.query(f"DROP {kind}")
    migrate(probe, programs[changed])


def test_what_the_program_has_no_more_goes(probe):
    said = migrate(probe)
    assert "up to date" in said
    assert probe.value("SELECT to_regproc('vcc.probe')::text || to_regclass('vcc.probe_view')::text") is None
    assert probe.value("SELECT count(*) FROM vcc.definitions WHERE name ~ 'probe|a_view'") == 0


def test_what_is_built_on_what_goes_stops_it(probe):
    probe.query("CREATE VIEW public.mine AS SELECT one FROM vcc.probe_view")
    status, said = run(probe)
    assert status == 1 and "view public.mine depends on view vcc.probe_view" in said
    assert probe.value("SELECT one FROM public.mine") == 1


def test_an_older_program_refuses(empty, programs):  # noqa: F811
    migrate(empty, programs["a newer schema"])
    before = rows_of(empty, *CATALOGS)
    status, said = run(empty)
    assert status == 1 and "the schema is newer than this program" in said and "schema=998" in said
    assert rows_of(empty, *CATALOGS) == before


# -- others at the same time ----------------------------------------------------------------------------------------


def test_two_upgrades_at_once(probe, programs):
    """All of them succeed, and each change is made once."""
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: run(probe, programs["a column less"]), range(6)))
    assert [status for status, _ in done] == [0] * 6, done
    assert len([said for _, said in done if "replaced" in said]) == 1


def test_a_lock_is_not_waited_for(empty, programs, folder):  # noqa: F811
    """Somebody reads vcc.tickets in a long transaction. Handlers write meanwhile, and migrate gets through in the end."""
    migrate(empty)
    empty.let_the_handler_in()
    with concurrent.futures.ThreadPoolExecutor(1) as pool, contextlib.closing(psycopg2.connect(empty.owner)) as reader:
        reader.cursor().execute("SELECT count(*) FROM vcc.tickets")
        with stopping(Handler(folder, empty)) as handler:
            migrating = pool.submit(run, empty, programs["a newer schema"])
            until, slowest, n = time.monotonic() + 4, 0, 0
            while time.monotonic() < until:
                begun = time.monotonic()
                assert submit(handler, event("add", n)) == ["inserted"]
                slowest, n = max(slowest, time.monotonic() - begun), n + 1
            assert not migrating.done() and n > 20 and slowest < 2, (n, slowest)
            reader.rollback()
            status, said = migrating.result(30)
    assert status == 0 and said.count("others use what is to be changed") == 1, said
    assert empty.value("SELECT vcc.schema_version()") == 998


def test_who_holds_the_lock_is_said(cluster, empty):  # noqa: F811
    """Any login can take it."""
    empty.query("CREATE ROLE passer_by LOGIN")
    with contextlib.closing(psycopg2.connect(cluster.conninfo(empty.name, "passer_by"))) as holder:
        holder.cursor().execute("SELECT pg_advisory_lock(8243910057)")
        process = subprocess.Popen([TICKETD, "migrate"], stderr=subprocess.PIPE, text=True,
                                   env=environment(TICKETD_DATABASE=empty.owner))  # fmt: skip
        timer = threading.Timer(20, process.kill)
        timer.start()
        said = process.stderr.readline()
        timer.cancel()
        assert f'lock_of="session {holder.info.backend_pid}, role passer_by, ' in said, said
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 0, said


def test_two_migrates_and_one_that_is_killed(empty):  # noqa: F811
    """Nothing is left half done."""
    for delay in (0.05, 0.2, 0.4):
        process = subprocess.Popen([TICKETD, "migrate"], env=environment(TICKETD_DATABASE=empty.owner), stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait()
        found = wait_until(lambda: empty.query("SELECT count(*) FROM pg_namespace WHERE nspname = 'vcc'"))[0][0]
        if found and empty.value("SELECT to_regclass('vcc.definitions')::text"):
            assert empty.value("SELECT count(*) FROM pg_proc WHERE pronamespace = 'vcc'::regnamespace") > 10
    migrate(empty)


# -- owners ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def roles(cluster):
    """Logins without any right, and the groups, of which one is a member of the other."""
    cluster.execute("""DO $$ BEGIN
        CREATE ROLE owner LOGIN; CREATE ROLE member LOGIN IN ROLE owner; CREATE ROLE stranger LOGIN;
        EXCEPTION WHEN duplicate_object THEN NULL; END $$""")
    for group in ("vcc_writer", "vcc_reader"):
        cluster.execute(f"DO $$ BEGIN CREATE ROLE {group}; EXCEPTION WHEN duplicate_object THEN NULL; END $$")


def conninfo(database, role):
    return database.cluster.conninfo(database.name, role)


def test_an_owner_without_any_other_right(empty, roles, folder):  # noqa: F811
    """May not create roles, databases nor schemas. Others' defaults do not matter: default privileges, PUBLIC's rights."""
    empty.query("CREATE SCHEMA vcc AUTHORIZATION owner")
    empty.query(f'REVOKE ALL ON DATABASE "{empty.name}" FROM PUBLIC; GRANT CONNECT ON DATABASE "{empty.name}" TO PUBLIC')
    assert run(empty, owner=conninfo(empty, "owner"))[0] == 0
    status, said = run(empty, owner=conninfo(empty, "owner"))
    assert status == 0 and "warning" not in said, said
    assert empty.query("""SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'vcc'::regnamespace UNION
        SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'vcc'::regnamespace""") == [("owner",)]
    empty.let_the_handler_in()
    with stopping(Handler(folder, empty)) as handler:
        assert submit(handler, event("add", 1), event("delete", 1)) == ["inserted", "deleted"]


@pytest.mark.parametrize("who", ["superuser", "member", "stranger"])
def test_the_schema_of_another(empty, roles, who):  # noqa: F811
    empty.query("CREATE SCHEMA vcc AUTHORIZATION owner")
    status, said = run(empty, owner=empty.owner if who == "superuser" else conninfo(empty, who))
    assert status == 1 and "migration refused" in said and 'what="schema vcc" owner=owner' in said and "docs/install-database.md" in said, said
    assert empty.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'vcc'::regnamespace") == 0
    # As a member one says so.
    if who == "member":
        status, said = run(empty, owner=conninfo(empty, "member"), PGOPTIONS="-c role=owner")
        assert status == 0, said


@pytest.mark.parametrize("laid_out, what", [
    ("CREATE TABLE vcc.migrations (version integer PRIMARY KEY, name text, applied_at timestamptz DEFAULT now())", "table vcc.migrations"),
    ("CREATE VIEW vcc.open_tickets AS SELECT 1", "view vcc.open_tickets"),
    ("CREATE SEQUENCE vcc.applied_no", "sequence vcc.applied_no"),
    ("CREATE FUNCTION vcc.first_event_id(timestamptz) RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
     "function vcc.first_event_id(timestamp with time zone)"),
    ("CREATE DOMAIN vcc.uuid AS text", "type vcc.uuid"),
    ("CREATE MATERIALIZED VIEW vcc.definitions AS SELECT 1", "materialized view vcc.definitions"),
])  # fmt: skip
def test_an_object_of_another_in_our_schema(empty, roles, laid_out, what):  # noqa: F811
    empty.query("CREATE SCHEMA vcc; GRANT CREATE, USAGE ON SCHEMA vcc TO stranger")
    with contextlib.closing(psycopg2.connect(conninfo(empty, "stranger"))) as stranger, stranger, stranger.cursor() as cursor:
        cursor.execute(laid_out)
    before = rows_of(empty, *CATALOGS)
    status, said = run(empty)
    assert status == 1 and "migration refused" in said and f'what="{what}" owner=stranger' in said and "objects=" in said, said
    assert rows_of(empty, *CATALOGS) == before


def test_a_trigger_that_was_laid_out_does_not_fire(empty, roles):  # noqa: F811
    """The owner of the database makes vcc.migrations with a trigger and waits for a superuser to migrate."""
    empty.query(f'ALTER DATABASE "{empty.name}" OWNER TO stranger')
    with contextlib.closing(psycopg2.connect(conninfo(empty, "stranger"))) as stranger, stranger, stranger.cursor() as cursor:
        cursor.execute("""CREATE SCHEMA vcc;
            CREATE TABLE vcc.migrations (version integer PRIMARY KEY, name text, applied_at timestamptz DEFAULT now());
            CREATE FUNCTION vcc.trap() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN ALTER ROLE stranger SUPERUSER; RETURN NEW; END';
            CREATE TRIGGER trap BEFORE INSERT ON vcc.migrations FOR EACH ROW EXECUTE FUNCTION vcc.trap()""")
    assert run(empty)[0] == 1
    assert empty.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'stranger'") is False


def test_digests_of_rejected_bodies(empty):
    """Those with a byte order mark become the digest of the rest, unless the rest is a row of its own."""
    bring_to(empty, 5)
    for n, body in enumerate((b"\xef\xbb\xbfa", b"b", b"\xef\xbb\xbfb", b"\xef\xbb\xbf", b"c")):
        empty.query("INSERT INTO vcc.rejected_events VALUES (%s, 'why', now(), now(), 1, 0, sha256(%s), %s)", body, body,
                    f"018e0000-0000-7000-8000-00000000000{n}")
    assert run(empty)[0] == 0
    digests = dict(empty.query("SELECT convert_from(body, 'UTF8'), digest FROM vcc.rejected_events"))
    kept = {"\ufeffa": b"a", "b": b"b", "\ufeffb": b"\xef\xbb\xbfb", "\ufeff": b"", "c": b"c"}
    assert {body: bytes(digest) for body, digest in digests.items()} == {
        body: hashlib.sha256(rest).digest() for body, rest in kept.items()}


def test_handing_over(empty, roles, folder):  # noqa: F811
    """A schema of 0.1.0 that postgres made, with what a user added, is handed over to an owner without special rights, by
    whom it is migrated. Rights that were granted stay, and what does not belong to the schema."""
    bring_to(empty, 5)
    empty.query((ROOT / "tests/e2e/0.1.0/999_roles.sql").read_text())
    empty.query("CREATE TABLE vcc.mine (n serial, m integer GENERATED ALWAYS AS IDENTITY); CREATE TYPE vcc.pair AS (a integer, b integer)")
    empty.query("CREATE MATERIALIZED VIEW vcc.kept AS SELECT 1 AS one; CREATE DOMAIN vcc.word AS text; CREATE TABLE public.other ()")
    empty.query("CREATE PROCEDURE vcc.proc() LANGUAGE sql AS 'SELECT 1'; GRANT SELECT ON vcc.mine TO stranger")
    granted = set(grants(empty))
    assert run(empty, owner=conninfo(empty, "owner"))[0] == 1
    for _ in range(2):
        empty.cluster.psql("-v", "owner=owner", "-f", str(ROOT / "sql/optional/hand_over.sql"), dbname=empty.name)
    assert empty.value("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'public.other'::regclass") == "postgres"
    kept = {row for row in granted if row[2] != "postgres"}
    assert kept <= set(grants(empty))
    status, said = run(empty, owner=conninfo(empty, "owner"))
    assert status == 0 and "warning" not in said, said
    assert {row for row in kept if row[0] not in ("upsert_ticket", "delete_ticket")} <= set(grants(empty))
    empty.let_the_handler_in()
    with stopping(Handler(folder, empty)) as handler:
        assert submit(handler, event("add", 1), event("delete", 1)) == ["inserted", "deleted"]


def test_no_database():
    done = command("migrate", TICKETD_DATABASE="host=/nonexistent")
    assert done.returncode == 1
    assert re.search(r'msg="migration failed, nothing was changed" at=connect why="connection to server .*failed: [^\\]*"$',
                     done.stderr.replace('\\"', "'"), re.MULTILINE)  # fmt: skip


def test_groups_that_are_missing(folder):
    """An owner who may not create them is told, and migrates once more when they are there."""
    from cluster import Cluster
    with Cluster() as other:
        database = Empty(other, "alone")
        with contextlib.closing(database.connection):
            other.execute("CREATE ROLE owner LOGIN")
            database.query("CREATE SCHEMA vcc AUTHORIZATION owner")
            said = run(database, owner=conninfo(database, "owner"))[1]
            assert "role vcc_writer does not exist and owner may not create roles" in said and "up to date" in said
            database.query("CREATE ROLE vcc_writer; CREATE ROLE vcc_reader")
            assert "warning" not in run(database, owner=conninfo(database, "owner"))[1]
            database.let_the_handler_in()
            with stopping(Handler(folder, database)) as handler:
                assert submit(handler, event("add", 1)) == ["inserted"]
            database.query("SET ROLE vcc_reader")
            assert database.value("SELECT count(*) FROM vcc.open_tickets") == 1


# -- settings -------------------------------------------------------------------------------------------------------

HOSTILE = {"standard_conforming_strings": "off", "escape_string_warning": "off", "backslash_quote": "off", "array_nulls": "off",
           "DateStyle": "'SQL, DMY'", "IntervalStyle": "sql_standard", "bytea_output": "escape", "timezone": "'Asia/Kolkata'",
           "search_path": "mine, public, pg_catalog", "default_transaction_isolation": "serializable", "transform_null_equals": "on",
           "extra_float_digits": "-10", "xmloption": "document", "quote_all_identifiers": "on", "check_function_bodies": "on",
           "default_transaction_deferrable": "on", "row_security": "off", "lc_messages": "'C.UTF-8'", "lc_time": "'C.UTF-8'",
           "plpgsql.variable_conflict": "use_variable", "plpgsql.extra_errors": "'all'", "constraint_exclusion": "off"}  # fmt: skip
# In front of what the catalogue has.
SHADOWS = """CREATE SCHEMA mine; GRANT USAGE ON SCHEMA mine TO PUBLIC;
    CREATE FUNCTION mine.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '1970-01-01'::timestamptz $$;
    CREATE FUNCTION mine.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT NULL::bytea';
    CREATE FUNCTION mine.coalesce_text(text) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
    CREATE FUNCTION mine.equal(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false';
    CREATE OPERATOR mine.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = mine.equal);
    CREATE TABLE mine.pg_class (oid oid)"""


def made(database):
    """What migrate has made, in words."""
    return database.query("""
        SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'vcc'::regnamespace UNION ALL
        SELECT pg_get_viewdef(oid) FROM pg_class WHERE relnamespace = 'vcc'::regnamespace AND relkind = 'v' UNION ALL
        SELECT pg_get_indexdef(oid) FROM pg_class WHERE relnamespace = 'vcc'::regnamespace AND relkind = 'i' UNION ALL
        SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relnamespace = 'vcc'::regnamespace UNION ALL
        SELECT concat(attrelid::regclass, attname, pg_get_expr(adbin, adrelid), col_description(adrelid, adnum))
          FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
         WHERE adrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'vcc'::regnamespace) UNION ALL
        SELECT description FROM pg_description ORDER BY 1""")


ASKED = [
    "SELECT vcc.first_event_id('2024-02-29T12:00:00.123Z')",
    r"""SELECT vcc.speaks_of(convert_to('{"ticket":{"projectId":130,"ticketId":"7","t":"\u0000"}}', 'UTF8'))""",
    "SELECT x, t, vcc.from_extra(x::jsonb, t, 'Europe/Budapest') FROM unnest(ARRAY['1', '1.0', '1.5', '\"\"', '\"12\"', '[]', 'true']) x, "
    "unnest(ARRAY['bigint', 'text', 'timestamptz']) t ORDER BY 1, 2",
    "SELECT vcc.from_extra(to_jsonb(v), 'timestamptz', 'Europe/Budapest') FROM unnest('{2024-02-29,2024-02-29 12:00+01,2024-02-29T12:00:60.1234567Z}'::text[]) v",
    "SELECT vcc.report(7, NULL)::jsonb - 'at' - 'time_zone' - 'minutes' - 'last_event' - 'agents' #- '{resolution,median_s}' #- '{resolution,p90_s}'",
    "SELECT vcc.report_ticket('1', 130)::jsonb",
    "SELECT vcc.report_ticket('7000000', NULL)::text",
    "SELECT * FROM vcc.erase_ticket(130, 2)",
    "SELECT * FROM vcc.drop_events_before('2024-01-02')",
    "SELECT vcc.prepare_journal()",
    "SELECT project, ticket, moved, kept FROM vcc.move_extra(0, 0, 10, 'UTC')",
    "SELECT ticket_id, title, status, extra FROM vcc.tickets ORDER BY 1",
]


def test_settings_of_the_session_do_not_matter(cluster, empty, folder):  # noqa: F811
    """What is made, and what every function answers, is the same where the role has set all that can be set."""
    plain = Empty(cluster, empty.name + "_plain")
    try:
        empty.query(SHADOWS)
        for name, value in HOSTILE.items():
            empty.query(f'ALTER ROLE postgres IN DATABASE "{empty.name}" SET {name} = {value}')
            if name not in ("plpgsql.variable_conflict", "default_transaction_isolation"):  # superusers', and refused by the rule
                empty.query(f'ALTER ROLE handler IN DATABASE "{empty.name}" SET {name} = {value}')
        answers = []
        for database in (plain, empty):
            migrate(database)
            assert "replaced" not in migrate(database)
            database.let_the_handler_in()
            (folder / database.name).mkdir()
            with stopping(Handler(folder / database.name, database)) as handler:
                answers.append([submit(handler, event("add", 1, title="a\\b'c", n=[None], firstOpenTime="2024-02-15T14:46:46+01"),
                                       event("update", 1, status="closed", title=None), event("add", 2, x="\\"),
                                       event("delete", 2), event("delete", 3), event("update", 4, extra={"a": "\\\\"}))])  # fmt: skip
            with contextlib.closing(psycopg2.connect(database.owner)) as session:  # with the settings of the role
                session.autocommit = True
                session.cursor().execute("SET timezone = 'UTC'")  # whose days reports have
                for statement in ASKED:
                    cursor = session.cursor()
                    cursor.execute(statement.replace("\\", "\\\\") if database is empty else statement)
                    # But for the times of receipt.
                    answers[-1].append(re.sub(r"20(?!24)\d\d-[\d-]+T[\d:.+]+", "now", str(cursor.fetchall())))
        assert made(plain) == made(empty)
        for one, other, statement in zip(*answers, ["handler", *ASKED]):
            assert one == other, statement
    finally:
        plain.connection.close()
        cluster.execute(f'DROP DATABASE "{plain.name}" WITH (FORCE)')



# -- the documents --------------------------------------------------------------------------------------------------


def script(name, database):
    """The commands of docs/install-database.md, for the throwaway server: who runs a command is who connects, which is what peer
    authentication comes to."""
    block = re.search(f"<!-- {name} -->\n```sh\n(.*?)```\n<!-- /{name} -->", (ROOT / "docs/install-database.md").read_text(), re.DOTALL)[1]
    block = re.sub(r"\bsudo -u (\w+) ", r"env PGUSER=\1 ", block)
    assert "sudo" not in block
    block = block.replace("ticketd migrate", f"{TICKETD} migrate").replace("tickets", database.name)
    return block.replace("/usr/share/ticketd/sql", str(ROOT / "sql"))


def follow(name, cluster, database):
    done = subprocess.run(["bash", "-euc", script(name, database)], capture_output=True, text=True,
                          env={**cluster.environment("postgres"), "PATH": f"{cluster.bindir}:{os.environ['PATH']}"})  # fmt: skip
    assert done.returncode == 0 and "up to date" in done.stderr and "warning" not in done.stderr, done.stdout + done.stderr
    return done.stderr


def test_the_recipe(folder):
    """As it is written: the owner has no right but its schema, and the handler may do its work."""
    from cluster import Cluster
    with Cluster() as cluster:
        database = type("Name", (), {"name": "desk"})
        follow("recipe", cluster, database)
        assert cluster.execute("SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = 'ticketd_owner'") == [(False,)]
        database.handler = cluster.conninfo("desk", "ticketd")
        with stopping(Handler(folder, database)) as handler:
            assert submit(handler, event("add", 1)) == ["inserted"]


def test_the_recipe_for_handing_over(folder):
    from cluster import Cluster
    with Cluster() as cluster:
        database = Empty(cluster, "desk")
        with contextlib.closing(database.connection):
            bring_to(database, 5)
            database.query((ROOT / "tests/e2e/0.1.0/999_roles.sql").read_text())
            database.let_the_handler_in()
            follow("handing over", cluster, database)
            with stopping(Handler(folder, database)) as handler:
                assert submit(handler, event("add", 1)) == ["inserted"]
