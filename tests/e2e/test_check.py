"""`ticketd check`: each line says that something is well, or what is wrong with it and what to do."""

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess

import psycopg2
import pytest
from conftest import LOCATION, TICKETD, Nginx, body, command, environment, free_port, wait_until
from test_spool import ROOT_ONLY, Spool, ask, waiting

NAMES = ["settings", "socket", "access", "spool", "database", "encoding", "durability", "clock", "rights", "journal", "schema",
         "events"]
GRADES = {"ok", "note", "wrong", "not looked at"}


def check(*arguments, **settings):
    """The exit status, {name: (grade, words)}, standard error."""
    done = command("check", *arguments, **{"TICKETD_AUTH": "none", **settings})
    lines = re.findall(r"^(\w+) +([a-z ]+?)(?:: (.*(?:\n {11}.*)*))?$", done.stdout, re.MULTILINE)
    assert len(lines) == len(re.findall(r"^\S", done.stdout, re.MULTILINE)), done.stdout
    found = {name: (grade, words) for name, grade, words in lines}
    assert {grade for grade, _ in found.values()} <= GRADES
    assert done.returncode == any(grade == "wrong" for grade, _ in found.values()), done.stdout
    return done.returncode, found, done.stderr


def one(name, grade, words, **settings):
    """That line says so."""
    _, found, _ = check(**settings)
    assert found[name][0] == grade and re.search(words, found[name][1]), found[name]


@pytest.fixture
def conninfo(database):
    return {"TICKETD_DATABASE": database.handler}


def test_all_is_well(database, conninfo, folder):
    (folder / "token").write_text("# both are good\none-long-token-1\none-long-token-2\n")
    (folder / "token").chmod(0o600)
    (folder / "spool").mkdir()
    status, found, errors = check(**conninfo, TICKETD_AUTH="token", TICKETD_TOKEN_FILE=folder / "token",
                                  TICKETD_SPOOL_DIR=folder / "spool", TICKETD_SPOOL_MAX_MB="1")  # fmt: skip
    assert (status, errors) == (0, "")
    assert list(found) == NAMES
    assert {name for name, (grade, _) in found.items() if grade != "ok"} == {"durability"}, found  # fsync is off in tests
    assert found["settings"][1] == "times without an offset are those of UTC"
    assert found["access"][1] == "2 tokens; bodies are not encrypted"
    assert found["spool"][1] == f"{folder}/spool: nothing waits"
    assert re.fullmatch(r"PostgreSQL \d.*, database test_\d+, role handler, by unix socket", found["database"][1])
    assert found["journal"][1] == "partitions for 12 months ahead"
    assert os.listdir(folder / "spool") == [], "it changed something"
    for table in "tickets", "ticket_events", "rejected_events", "deleted_tickets", "ticket_adds":
        assert database.value(f"SELECT count(*) FROM vcc.{table}") == 0


# -- access ---------------------------------------------------------------------------------------------------------


def test_access(conninfo, folder):
    token, key = folder / "token", folder / "key"
    token.write_text("my-secret-of-old\n")
    key.write_text("my-key\n")
    for file in token, key:
        file.chmod(0o600)
    files = {**conninfo, "TICKETD_AUTH": "token", "TICKETD_TOKEN_FILE": token}
    one("access", "ok", "^1 token; bodies are encrypted with aes-128-cbc, 1 key$", TICKETD_CIPHER="aes-128-cbc",
        TICKETD_CIPHER_KEY_FILE=key, **files)  # fmt: skip
    one("access", "wrong", "^bad setting: name=TICKETD_CIPHER,", TICKETD_CIPHER="aes-128-gcm", TICKETD_CIPHER_KEY_FILE=key, **files)
    one("access", "wrong", "^secrets cannot be read: name=TICKETD_CIPHER_KEY_FILE.*No such file", TICKETD_CIPHER="aes-128-cbc",
        TICKETD_CIPHER_KEY_FILE=folder / "none", **files)  # fmt: skip
    token.chmod(0o644)
    one("access", "note", r"1 token.*\n +a file with secrets is open to every user: chmod o=", **files)
    _, found, errors = check(**files)
    assert "my-secret" not in str(found) + errors
    token.chmod(0o600)
    token.write_text("my-secret\n")
    one("access", "note", r"1 token.*\n +tokens of fewer than 16 characters can be guessed", **files)
    token.write_text("# none\n \n")
    one("access", "wrong", "^bad setting: name=TICKETD_TOKEN", **files)
    one("access", "note", "TICKETD_AUTH=none: whoever reaches the location can send events", **conninfo)


# -- socket ---------------------------------------------------------------------------------------------------------


def socket_says(conninfo, path):
    return check(**conninfo, TICKETD_LISTEN=f"unix:{path}")[1]["socket"]


def test_socket(conninfo, folder, start):
    assert socket_says(conninfo, f"{folder}/new.sock") == (
        "note", f"{folder}/new.sock is not there: ticketd makes it when it starts")
    assert socket_says(conninfo, f"{folder}/none/x.sock") == ("wrong", f"{folder}/none/x.sock: its directory is missing")
    assert socket_says(conninfo, "x.sock")[0] == "wrong"
    (folder / "file").touch()
    grade, words = socket_says(conninfo, folder / "file")
    assert grade == "wrong" and "something else than a socket" in words
    handler = start()
    os.chmod(handler.socket, 0o666)
    folder.chmod(0o755)
    grade, words = socket_says(conninfo, handler.socket)
    assert (grade, handler.accepts()) == ("ok", True)
    assert words.startswith(f"{handler.socket}: somebody listens")
    handler.kill()
    grade, words = socket_says(conninfo, handler.socket)
    assert grade == "note" and words.startswith(f"{handler.socket}: nobody listens")
    handler.start()


def has_user(name):
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    return None


@pytest.mark.skipif(not has_user("www-data"), reason="there is no user www-data here")
def test_socket_with_the_web_servers_eyes(conninfo, folder, start):
    handler = start()  # mode 0660, of our own group
    folder.chmod(0o755)
    grade, words = socket_says(conninfo, handler.socket)
    assert grade == "wrong"
    assert f"www-data may not connect: {handler.socket} (mode 0660, owner " in words
    assert words.endswith("Put the web server's user into that group, and restart the web server")
    os.chmod(handler.socket, 0o666)
    grade, words = socket_says(conninfo, handler.socket)
    assert grade == "ok" and "www-data may connect" in words
    folder.chmod(0o700)
    grade, words = socket_says(conninfo, handler.socket)
    assert grade == "wrong" and f"www-data may not connect: {folder} (mode 0700" in words
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chmod(handler.socket, 0o660)
        shutil.chown(handler.socket, group="www-data")
        assert socket_says(conninfo, handler.socket)[0] == "ok"
        # And it is so: the user himself.
        script = f"import socket; socket.socket(socket.AF_UNIX).connect('{handler.socket}')"
        user = has_user("www-data")
        subprocess.run(["/usr/bin/python3", "-c", script], check=True, user=user.pw_uid, group=user.pw_gid, extra_groups=[])


def test_socket_of_tcp(conninfo):
    port = free_port()
    _, found, errors = check(**conninfo, TICKETD_LISTEN=f"127.0.0.1:{port}")
    assert (found["socket"], errors) == (("ok", f"127.0.0.1:{port}: nobody listens there now"), "")
    with socket.create_server(("127.0.0.1", port)):
        one("socket", "note", "Address already in use", **conninfo, TICKETD_LISTEN=f"127.0.0.1:{port}")


# -- spool ----------------------------------------------------------------------------------------------------------


def test_spool(conninfo, folder, database):
    one("spool", "note", "TICKETD_SPOOL_DIR is not set: while the database is away events are answered 503", **conninfo)
    one("spool", "note", f"^{folder}/spool is missing: ticketd makes it$", TICKETD_SPOOL_DIR=folder / "spool", **conninfo)
    assert not (folder / "spool").exists(), "it changed something"
    spool = Spool(folder, database)
    try:
        handler = spool.handler(reachable=False)
        assert ask(handler.socket, body(1, "a"))[1]["result"] == "spooled"
    finally:
        spool.close()
    place = {**conninfo, "TICKETD_SPOOL_DIR": spool.path}
    one("spool", "note", f"^{spool.path}: 1 event of 1 ticket waits: see ticketd spool status", TICKETD_SPOOL_MAX_MB="1", **place)
    one("spool", "note", r"the disk has room for \d+ MB, less than TICKETD_SPOOL_MAX_MB=1048576",
        TICKETD_SPOOL_MAX_MB="1048576", **place)  # fmt: skip
    shutil.rmtree(spool.path)
    spool.path.write_text("a file")
    done = command("check", TICKETD_AUTH="none", **place)
    assert done.returncode == 1 and "TICKETD_SPOOL_DIR" in done.stderr and "Not a directory" in done.stderr


@ROOT_ONLY
def test_spool_of_another_user(conninfo, folder):
    (folder / "spool").mkdir()
    shutil.chown(folder / "spool", "nobody")
    one("spool", "wrong", "it belongs to another user", TICKETD_SPOOL_DIR=folder / "spool", **conninfo)


# -- database -------------------------------------------------------------------------------------------------------


def test_a_database_out_of_reach(database):
    one("database", "wrong", "does the server run, and is TICKETD_DATABASE right", TICKETD_DATABASE="host=/nonexistent")
    _, found, errors = check(TICKETD_DATABASE=f"host=127.0.0.1,::1 port={free_port()} password=my-secret")
    assert found["database"][0] == "wrong" and found["database"][1].count("Connection refused") == 2
    assert found["schema"] == found["events"] == ("not looked at", "")
    assert list(found)[-3:] == ["database", "schema", "events"]
    assert "my-secret" not in str(found) + errors
    one("database", "wrong", 'database "none" does not exist: see TICKETD_DATABASE',
        TICKETD_DATABASE=re.sub("dbname=\\S+", "dbname=none", database.handler))  # fmt: skip
    one("database", "wrong", 'role "none" does not exist: see TICKETD_DATABASE',
        TICKETD_DATABASE=re.sub("user=\\S+", "user=none", database.handler))  # fmt: skip


def test_reports(database, conninfo):
    one("reports", "ok", "^the dashboard has its data$", TICKETD_REPORT="on", TICKETD_REPORT_DATABASE=database.owner, **conninfo)
    _, found, errors = check(TICKETD_REPORT="on", TICKETD_REPORT_DATABASE="host=/nonexistent", **conninfo)
    assert found["reports"][0] == "wrong" and "does not answer" in found["reports"][1]
    assert "No such file" in found["reports"][1] and errors == ""


def test_a_frozen_database(cluster, conninfo):
    cluster.freeze()
    try:
        one("database", "wrong", "no answer in time|timeout", TICKETD_DB_TIMEOUT_MS="300", **conninfo)
    finally:
        cluster.thaw()


def test_a_wrong_password(cluster, database, conninfo):
    path = database.value("SHOW hba_file")
    database.query("ALTER ROLE handler PASSWORD 'right'")
    with open(path) as file:
        before = file.read()
    try:
        with open(path, "w") as file:
            file.write("local all handler scram-sha-256\n" + before)
        database.query("SELECT pg_reload_conf()")
        wait_until(lambda: check(**conninfo)[1]["database"][0] == "wrong", what="the new rule")
        one("database", "wrong", 'password authentication failed for user "handler": see TICKETD_DATABASE, the role and its',
            PGPASSWORD="wrong", **conninfo)  # fmt: skip
        one("database", "ok", "role handler", PGPASSWORD="right", **conninfo)
    finally:
        with open(path, "w") as file:
            file.write(before)
        database.query("SELECT pg_reload_conf()")


def test_a_read_only_database(database, conninfo):
    database.query("ALTER ROLE handler SET default_transaction_read_only = on")
    try:
        one("database", "wrong", "it is read-only: see default_transaction_read_only", **conninfo)
    finally:
        database.query("ALTER ROLE handler RESET default_transaction_read_only")


def test_another_encoding(cluster):
    cluster.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    one("encoding", "wrong", "LATIN1 cannot hold all that is sent", TICKETD_DATABASE=cluster.conninfo("latin"))


def test_rights(database, conninfo):
    database.query("REVOKE vcc_writer FROM handler")
    try:
        one("rights", "wrong", "GRANT vcc_writer TO handler, which may not execute apply_events, ", **conninfo)
        one("schema", "wrong", "permission denied.*: GRANT vcc_writer to the role", **conninfo)
    finally:
        database.query("GRANT vcc_writer TO handler")
    database.query("REVOKE EXECUTE ON FUNCTION vcc.apply_events FROM vcc_writer; "
                   "GRANT EXECUTE ON FUNCTION vcc.forget_rejected TO PUBLIC")  # fmt: skip
    one("rights", "ok", "", **conninfo)  # it is the group that is wrong
    one("events", "wrong", "permission denied for function apply_events: GRANT vcc_writer to the role", **conninfo)
    database.query("GRANT EXECUTE ON FUNCTION vcc.apply_events TO vcc_writer")
    one("rights", "note", "is a superuser", TICKETD_DATABASE=database.owner)


def test_schema(cluster, database, conninfo):
    cluster.createdb("empty")
    status, found, _ = check(TICKETD_DATABASE=cluster.conninfo("empty"))
    assert found["schema"][0] == "wrong" and "run ticketd migrate" in found["schema"][1]
    assert "rights" not in found and "journal" not in found
    version = database.value("SELECT vcc.schema_version()")
    database.query("INSERT INTO vcc.migrations (version, name) VALUES (%s, 'of the future')", version + 1)
    one("schema", "note", f"version {version + 1}, and this program works with {version}: it is newer", **conninfo)
    database.query("DELETE FROM vcc.migrations WHERE version >= %s", version)
    one("schema", "wrong", f"version {version - 1}, .* {version}: run ticketd migrate", **conninfo)


def test_journal(database, conninfo):
    names = [row[0] for row in database.query("""SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent = 'vcc.ticket_events'::regclass AND inhrelid::regclass::text ~ '[0-9]$' ORDER BY 1""")]
    database.query("DROP TABLE " + ", ".join(names[1:]))
    one("journal", "note", "^partitions for 0 months ahead: the handler makes them when it connects$", **conninfo)
    database.query(f"DROP TABLE {names[0]}")
    database.query("""INSERT INTO vcc.ticket_events (event_id, project_id, ticket_id, action, received_at, result, payload)
        VALUES (gen_random_uuid(), 1, 1, 'add', now(), 'inserted', '{}')""")
    database.query("ANALYZE vcc.ticket_events_default")
    one("journal", "note", "about 1 rows in the default partition: SELECT vcc.prepare_journal", **conninfo)


# -- events ---------------------------------------------------------------------------------------------------------


def trigger(table, when, does):
    return (f"CREATE FUNCTION public.theirs() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {does}; END$$; "
            f"CREATE {'CONSTRAINT ' * ('DEFERRED' in when)}TRIGGER theirs {when} FOR EACH ROW EXECUTE FUNCTION public.theirs()"
            .replace("TABLE", table), "DROP FUNCTION public.theirs CASCADE")  # fmt: skip


def alter(table, what, back):
    return f"ALTER TABLE vcc.{table} {what}", f"ALTER TABLE vcc.{table} {back}"


@pytest.mark.parametrize(("wrong", "right", "grade", "words"), [
    (*trigger("vcc.tickets", "BEFORE UPDATE ON TABLE", "RAISE 'not today'"), "wrong", "^it takes no event: not today"),
    (*trigger("vcc.tickets", "AFTER DELETE ON TABLE DEFERRABLE INITIALLY DEFERRED", "RAISE 'at the end' USING ERRCODE = 'UE001'"),
     "wrong", "at the end"),
    (*trigger("vcc.tickets", "BEFORE INSERT ON TABLE", "RETURN NULL"), "wrong", "^one cannot be written now: "),
    (*alter("tickets", "RENAME title TO headline", "RENAME headline TO title"), "wrong", 'column t.title does not exist'),
    (*alter("rejected_events", "RENAME reason TO why", "RENAME why TO reason"), "wrong", 'column "reason"'),
    ("ALTER ROLE handler SET default_transaction_isolation = 'serializable'", "ALTER ROLE handler RESET ALL", "wrong",
     "default_transaction_isolation = 'read committed'"),
    (*alter("tickets", "ADD CONSTRAINT theirs CHECK (title <> 'ticketd check')", "DROP CONSTRAINT theirs"), "note",
     'violates check constraint "theirs".*others may be taken'),
], ids=["trigger", "deferred trigger", "trigger that drops the row", "column", "column of another table", "isolation",
        "constraint"])  # fmt: skip
def test_what_stops_events(database, conninfo, wrong, right, grade, words):
    database.query(wrong)
    one("events", grade, words, **conninfo)
    database.query(right)
    one("events", "ok", "^one was applied, changed, deleted and set aside, and all of it taken back$", **conninfo)


def test_no_answer(database, conninfo):
    """The database lets in, and then a lock stops all."""
    with contextlib.closing(psycopg2.connect(database.owner)) as lock, lock.cursor() as cursor:
        cursor.execute("LOCK vcc.migrations")
        one("schema", "wrong", "^no answer in time: does the server run", TICKETD_DB_TIMEOUT_MS="300", **conninfo)


@ROOT_ONLY
def test_no_permission_is_not_no_answer(folder):
    folder.chmod(0o755)
    (folder / "closed").mkdir(0o700)
    done = subprocess.run([shutil.copy(TICKETD, folder), "check"], user="nobody", stdout=subprocess.PIPE, text=True,
                          env=environment(TICKETD_DATABASE=f"host={folder}/closed", TICKETD_AUTH="none"))  # fmt: skip
    assert "Permission denied: this user may not open the server's socket" in done.stdout
    (folder / "token").touch(0o600)
    done = subprocess.run([folder / "ticketd", "check"], user="nobody", stdout=subprocess.PIPE, text=True,
                          env=environment(TICKETD_TOKEN_FILE=folder / "token"))  # fmt: skip
    assert ("why=Permission denied, user=nobody, expected=a file that this user may read: chgrp it to his group, and chmod 640"
            in done.stdout)  # fmt: skip


# -- the way through the web server ---------------------------------------------------------------------------------


TOKEN = "S3cret-t0ken/+&ü"
EMPTY = "SELECT " + " + ".join(f"(SELECT count(*) FROM vcc.{table})" for table in (
    "tickets", "ticket_adds", "ticket_events", "rejected_events", "deleted_tickets"))  # fmt: skip


@pytest.fixture
def way(start, folder, database, conninfo):
    """An nginx with what users install, a handler behind it, and what `check` says of a URL there."""
    def way(query="", place=LOCATION, grade="wrong", words="", also=None, **settings):
        (folder / "token").write_text(TOKEN + "\n")
        (folder / "token").chmod(0o600)
        settings = {**conninfo, "TICKETD_AUTH": "token", "TICKETD_TOKEN_FILE": folder / "token", **settings}
        handler = start(**settings)
        nginx = Nginx(folder, handler.socket)
        try:
            _, found, errors = check("--url", f"http://127.0.0.1:{nginx.port}{place}{query}", **{**settings, **(also or {})})
        finally:
            nginx.stop()
        assert found["url"][0] == grade and re.search(words, found["url"][1]), found["url"]
        assert "S3cret" not in str(found) + errors and (also or database.value(EMPTY) == 0)
    return way


WELL = "^an event was inserted, and taken back$"
CIPHER = {"TICKETD_CIPHER": "aes-256-cbc", "TICKETD_CIPHER_KEY": "a key"}


@pytest.mark.parametrize(("query", "place", "grade", "words", "settings"), [
    ("", LOCATION, "ok", WELL, {}),
    ("?secret-key=S3cret-t0ken/%2B%26%c3%bc", LOCATION, "ok", WELL, {}),
    ("?x=y", LOCATION, "ok", WELL, CIPHER),
    ("", LOCATION, "ok", WELL, {**CIPHER, "TICKETD_CIPHER": "chacha20"}),
    ("?secret-key=wrong", LOCATION, "wrong", "^status 401: the ticketd there does not know this token", {}),
    ("", LOCATION + "/x", "wrong", "^status 404: the web server has nothing there", {}),
    ("", LOCATION + "/livez", "wrong", "^status 405: ", {}),
], ids=["token of the settings", "token of the URL", "encrypted", "stream cipher", "wrong token", "another place", "livez"])  # fmt: skip
def test_an_event_through_the_web_server(way, query, place, grade, words, settings):
    way(query, place, grade, words, **settings)


def test_an_event_that_is_spooled(way, folder):
    away = {"TICKETD_DATABASE": "host=/nonexistent dbname=x", "TICKETD_DB_TIMEOUT_MS": "500", "TICKETD_SPOOL_DIR": folder / "spool"}
    way(words="^an event was spooled, not stored, and taken back", **away)
    assert not (folder / "spool/spool.db").exists() or waiting(folder / "spool") == 0


def test_an_event_for_another_database(way, cluster, database):
    cluster.createdb("other", "migrated")
    way(words="not in this database: another ticketd answers there", also={"TICKETD_DATABASE": cluster.conninfo("other", "handler")})


def test_no_web_server(conninfo):
    url = f"http://127.0.0.1:{free_port()}/vcc/tickets"
    assert "refused" in check("--url", url, **conninfo)[1]["url"][1] or "connect" in check("--url", url, **conninfo)[1]["url"][1]
    assert "curl is missing" in check("--url", url, PATH="/nowhere", **conninfo)[1]["url"][1]
    assert command("check", "--url").returncode == command("check", "x", "y").returncode == 2
