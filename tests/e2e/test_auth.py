"""Tokens, encrypted bodies from a real PHP, and secrets that stay secret."""

import base64
import gzip
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import zlib

import fastcgi
import pytest
from conftest import LOCATION, ROOT, TICKETD, Nginx, command, fcgiwrap, send, wait_until

TOKEN = "S3cret-t0ken/+ü"
QUERY = "?secret-key=S3cret-t0ken/%2B%c3%bc"
KEY = "K3y-of-the-desk!"
BODY = b'{"action":"update","ticket":{"projectId":1,"ticketId":2,"title":"T1tle-of-a-customer"}}'


def status(handler, query="", content=BODY, **more):
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(content, uri=LOCATION + query, **more))
        return int(re.match(r"Status: (\d+)", c.answer())[1])


def run(**settings):
    return command(**{"TICKETD_LISTEN": "unix:/nowhere/x", **settings})


def rotate(handler, lines=1):
    """SIGHUP, and the wait until it was seen."""
    before = handler.log.read_text().count("read again")
    handler.process.send_signal(signal.SIGHUP)
    wait_until(lambda: handler.log.read_text().count("read again") == before + lines)


# Tokens

def test_who_is_let_in(start, database):
    handler = start(TICKETD_TOKEN=TOKEN)
    assert status(handler) == 401
    assert status(handler, "?secret-key=wrong") == 401
    assert status(handler, QUERY + "&secret-key=x") == 401
    assert status(handler, HTTP_AUTHORIZATION="Bearer wrong") == 401
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 0
    assert status(handler, QUERY) == 200
    assert status(handler, "?x=y&" + QUERY[1:] + "&iv=00") == 200
    assert status(handler, HTTP_AUTHORIZATION="Bearer " + TOKEN) == 200
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 3


def test_401_before_the_body_and_405_before_401(start, database):
    handler = start(TICKETD_TOKEN=TOKEN, TICKETD_MAX_BODY_KB=1)
    assert status(handler, method="GET") == 405
    assert status(handler, content=b"{") == 401
    assert status(handler, content=b"x" * 5000) == 401
    assert status(handler, QUERY, content=b"x" * 5000) == 413
    assert database.value("SELECT count(*) FROM vcc.rejected_events") == 0  # nobody fills the table without a token
    for probe in "livez", "readyz":
        with fastcgi.Connection(handler.socket) as c:
            def is_good():
                c.send(fastcgi.request(b"", method="GET", uri=f"{LOCATION}/{probe}"))
                return c.answer().startswith("Status: 200")
            wait_until(is_good)  # no batch yet: readyz waits for the first look at the database
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(b"{}"))
        head, _, text = c.answer().partition("\r\n\r\n")
        assert "WWW-Authenticate: Bearer" in head and "application/problem+json" in head
        assert json.loads(text) == {"type": "about:blank", "title": "A token is missing, wrong or given twice", "status": 401}
        c.send(fastcgi.request(BODY, uri=LOCATION + QUERY))  # the connection is still good
        assert "inserted" in c.answer()


def test_refused_bodies_never_become_requests(start, database):
    """Body bytes of a request without a token are not read as another request."""
    handler = start(TICKETD_TOKEN=TOKEN)
    hidden = fastcgi.request(BODY, uri=LOCATION + QUERY)
    with fastcgi.Connection(handler.socket) as c:
        for padding in range(0, 9000, 1000):
            c.send(fastcgi.request(b"x" * padding + hidden))
            assert c.answer().startswith("Status: 401")
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 0


def test_another_parameter_name(start):
    handler = start(TICKETD_TOKEN=TOKEN, TICKETD_TOKEN_PARAM="t k")
    assert status(handler, QUERY) == 401
    assert status(handler, QUERY.replace("secret-key", "t%20k")) == 200


def test_rotation_without_a_gap(start, folder):
    file = folder / "tokens"
    file.write_text("old\n")
    file.chmod(0o600)
    handler = start(TICKETD_TOKEN_FILE=file, TICKETD_TOKEN="other")
    steps = [("old\nnew\n", {"old", "new", "other"}), ("new\n", {"new", "other"}), ("", {"other"})]
    assert {t for t in ("old", "new", "other") if status(handler, f"?secret-key={t}") == 200} == {"old", "other"}
    for content, good in steps:
        file.write_text(content)
        rotate(handler)
        assert {t for t in ("old", "new", "other") if status(handler, f"?secret-key={t}") == 200} == good
    file.unlink()
    rotate(handler)
    assert "stay in force" in handler.log.read_text()
    assert status(handler, "?secret-key=other") == 200
    assert "open to every user" not in handler.log.read_text()


@pytest.mark.parametrize("mode, warns", [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_others_may_read(start, folder, mode, warns):
    file = folder / "tokens"
    file.write_text("t\n")
    file.chmod(mode)
    handler = start(TICKETD_TOKEN_FILE=file)
    assert ("open to every user" in handler.log.read_text()) == warns


@pytest.mark.parametrize("settings, words", [
    ({}, ["TICKETD_TOKEN", "TICKETD_AUTH=none"]),
    ({"TICKETD_TOKEN_FILE": "/nonexistent"}, ["TICKETD_TOKEN_FILE", "No such file"]),
    ({"TICKETD_TOKEN": "t", "TICKETD_AUTH": "none"}, ["name=TICKETD_TOKEN ", "TICKETD_AUTH=none"]),
    ({"TICKETD_TOKEN": "t", "TICKETD_CIPHER_KEY": "k"}, ["name=TICKETD_CIPHER_KEY ", "TICKETD_CIPHER beside"]),
    ({"TICKETD_TOKEN": "t", "TICKETD_CIPHER": "aes-256-ctr"}, ["name=TICKETD_CIPHER_KEY_FILE ", "or TICKETD_CIPHER_KEY"]),
    ({"TICKETD_TOKEN": "t", "TICKETD_CIPHER_KEY_FILE": "/etc/hostname"}, ["name=TICKETD_CIPHER_KEY_FILE "]),
    ({"TICKETD_TOKEN": "t", "TICKETD_CIPHER": "aes-256-gcm", "TICKETD_CIPHER_KEY": "k"}, ["TICKETD_CIPHER", "AEAD"]),
    ({"TICKETD_TOKEN": "t", "TICKETD_CIPHER": "null", "TICKETD_CIPHER_KEY": "k"}, ["TICKETD_CIPHER"]),
    ({"TICKETD_TOKEN": "t", "TICKETD_CIPHER": "rot13", "TICKETD_CIPHER_KEY": "k"}, ["TICKETD_CIPHER", "openssl list"]),
])
def test_settings_that_stop_the_start(settings, words):
    result = run(**settings)
    assert result.returncode == 1
    for word in words:
        assert word in result.stderr


def test_cgi_checks_too(folder, database):
    settings = {"TICKETD_TOKEN": TOKEN, "TICKETD_DATABASE": database.handler}
    with fcgiwrap(folder, **settings) as (path, cgi):
        for query, code in ("", 401), (QUERY, 200):
            with fastcgi.Connection(path) as c:
                c.send(fastcgi.request(BODY, uri=LOCATION + query, **cgi))
                assert c.answer().startswith(f"Status: {code}")


# Encrypted bodies

def encrypt(content, cipher, key, iv=None):
    code = 'echo openssl_encrypt(stream_get_contents(STDIN), $argv[1], $argv[2], 0, $argv[3] ? hex2bin($argv[3]) : "");'
    return subprocess.run(["php", "-d", "error_reporting=0", "-r", code, "--", cipher, key, iv or ""], input=content,
                          capture_output=True, check=True).stdout


@pytest.mark.parametrize("cipher, iv", [("aes-256-ctr", "00112233445566778899aabbccddeeff"), ("AES-128-CBC", None),
                                        ("Camellia-192-OFB", "0011"), ("chacha20", "ff" * 16), ("aes-256-ecb", None)])
def test_encrypted_bodies(start, database, folder, cipher, iv):
    handler = start(TICKETD_TOKEN=TOKEN, TICKETD_CIPHER=cipher, TICKETD_CIPHER_KEY=KEY)
    nginx = Nginx(folder, handler.socket)
    try:
        path = LOCATION + QUERY + (f"&iv={iv}" if iv else "")
        answer = send(nginx.port, encrypt(BODY, cipher, KEY, iv), path=path)
        assert (answer.status, answer.json["result"]) == (200, "inserted")
        assert send(nginx.port, BODY, path=path).status == 400  # not encrypted
        assert send(nginx.port, encrypt(BODY, cipher, KEY, iv)).status == 401  # encryption is no token
        wrong = encrypt(b'{"action":"close"}', cipher, KEY, iv)
        refused = send(nginx.port, wrong, path=path)
        assert refused.status == 422 and refused.json["errors"]
        for bad in "iv=0", "iv=zz", "iv=00&iv=00":
            assert send(nginx.port, encrypt(BODY, cipher, KEY), path=LOCATION + QUERY + "&" + bad).status == 400
    finally:
        nginx.stop()
    assert database.query("SELECT payload FROM vcc.ticket_events") == [(json.loads(BODY),)]
    warned = "must carry iv" in handler.log.read_text()
    assert warned == (cipher not in ("AES-128-CBC", "aes-256-ecb"))


@pytest.mark.parametrize("key", [KEY, "short", "longer than the sixteen bytes of a key"])
def test_a_legacy_cipher(start, folder, monkeypatch, key):
    """It is refused with what OpenSSL says, and with the way to its provider, which the manual page has."""
    settings = {"TICKETD_TOKEN": TOKEN, "TICKETD_CIPHER": "bf-cbc", "TICKETD_CIPHER_KEY": key}
    done = run(**settings)
    assert done.returncode == 1 and "openssl=unsupported" in done.stderr and "see OPENSSL_CONF in ticketd(8)" in done.stderr
    page = (ROOT / "handler/ticketd.8").read_text()
    (folder / "openssl.cnf").write_text(re.search(r"\n(openssl_conf = .*?)\.Ed", page, re.DOTALL)[1])
    monkeypatch.setenv("OPENSSL_CONF", str(folder / "openssl.cnf"))
    handler = start(**settings)
    iv = "0011223344556677"
    assert status(handler, f"{QUERY}&iv={iv}", content=encrypt(BODY, "bf-cbc", key, iv)) == 200


def test_bad_padding_and_bad_json_are_one_answer(start, database):
    """Byte for byte, headers too: else every body could be read by asking often enough."""
    handler = start(TICKETD_TOKEN=TOKEN, TICKETD_CIPHER="aes-128-cbc", TICKETD_CIPHER_KEY=KEY)
    good = base64.b64decode(encrypt(BODY, "aes-128-cbc", KEY))
    rng = random.Random(1)
    bodies = [encrypt(b"no json", "aes-128-cbc", KEY), encrypt(b"", "aes-128-cbc", KEY), b"", b"*", base64.b64encode(good[:-1])]
    for _ in range(30):
        damaged = bytearray(good)
        damaged[rng.randrange(len(damaged) - 32, len(damaged))] ^= 1 << rng.randrange(8)
        bodies.append(base64.b64encode(damaged))
    answers = set()
    with fastcgi.Connection(handler.socket) as c:
        for content in bodies:
            c.send(fastcgi.request(content, uri=LOCATION + QUERY))
            answers.add(re.sub(r"X-Event-Id: \S+", "", c.answer()))  # time and chance alone
    assert len(answers) == 1 and "Status: 400" in answers.pop()
    kept = {bytes(b) for b, in database.query("SELECT body FROM vcc.rejected_events")}
    assert kept == set(bodies)  # byte for byte, as they came


def test_bodies_under_a_wrong_key_are_not_lost(start, database):
    """The key was wrong for a while; with the right one they are applied after all."""
    iv = "00112233445566778899aabbccddeeff"
    settings = {"TICKETD_TOKEN": TOKEN, "TICKETD_CIPHER": "aes-256-ctr"}
    handler = start(TICKETD_CIPHER_KEY="wrong", **settings)
    bodies = [BODY.replace(b'"ticketId":2', b'"ticketId":%d' % n) for n in range(20)]
    for content in bodies:
        assert status(handler, QUERY + "&iv=" + iv, encrypt(content, "aes-256-ctr", KEY, iv)) == 400
    assert status(handler, QUERY + "&iv=" + iv, b"never anything") == 400
    assert database.value("SELECT count(*) FROM vcc.rejected_events") == 21
    retry = command("rejected", "retry", TICKETD_DATABASE=database.handler, TICKETD_CIPHER_KEY=KEY, **settings)
    assert retry.returncode == 1, retry.stderr
    assert sorted(t for t, in database.query("SELECT ticket_id FROM vcc.tickets")) == list(range(20))
    assert [bytes(b) for b, in database.query("SELECT body FROM vcc.rejected_events")] == [b"never anything"]


def test_the_iv_is_kept_whatever_happens(start, database):
    """The cipher was not set yet when the body came, then its key was wrong."""
    iv = "00112233445566778899aabbccddeeff"
    handler = start(TICKETD_TOKEN=TOKEN)
    sealed = encrypt(BODY, "aes-256-ctr", KEY, iv)
    for query, more in (QUERY + "&iv=" + iv, {"HTTP_CONTENT_ENCODING": "br, gzip"}), (QUERY + "&iv=ff", {}):
        assert status(handler, query, sealed, **more) == 400

    def kept():
        return database.query("SELECT iv, coding, attempts FROM vcc.rejected_events")

    def retry(key=KEY):
        return command("rejected", "retry", TICKETD_DATABASE=database.handler, TICKETD_TOKEN=TOKEN,
                       TICKETD_CIPHER="aes-256-ctr", TICKETD_CIPHER_KEY=key).returncode
    assert kept() == [(iv, "br, gzip", 2)]
    assert database.query("SELECT reason FROM vcc.rejected_events WHERE reason LIKE '%iv%'") == []
    for _ in range(2):
        assert retry("wrong") == 1
        assert kept() == [(iv, "br, gzip", 2)]
    assert retry() == 0
    assert kept() == []
    assert database.query("SELECT payload FROM vcc.ticket_events") == [(json.loads(BODY),)]


def test_the_iv_in_the_reason_is_understood(database):
    """Where 0.1.0 put it."""
    iv = "00112233445566778899aabbccddeeff"
    database.query("SELECT vcc.reject_event('018e0000-0000-7000-8000-000000000000', now(), 0, %s, %s)",
                   encrypt(BODY, "aes-256-ctr", KEY, iv), "cannot be decrypted, or is not JSON; iv=" + iv)
    for key, code in ("wrong", 1), ("wrong", 1), (KEY, 0):
        retry = command("rejected", "retry", TICKETD_DATABASE=database.handler, TICKETD_TOKEN=TOKEN,
                        TICKETD_CIPHER="aes-256-ctr", TICKETD_CIPHER_KEY=key)
        assert retry.returncode == code, retry.stderr
    assert database.value("SELECT count(*) FROM vcc.tickets") == 1


@pytest.mark.parametrize("query, coding, kept", [
    ("iv=%30%31", "gzip", ("01", "gzip")),
    ("iv=" + "ab" * 200, "x" * 500, ("ab" * 32, "x" * 64)),
    ("iv=", "", (None, None)),
    ("iv=00&iv=00", "gzip", (None, "gzip")),
    ("iv=00%00", "g\xff", (None, None)),
    ("iv=%ff\xff%0a", "\x1b[2J", (None, None)),
    ("iv=zz'\\\"", "identity;q=0", ("zz'\\\"", "identity;q=0")),
])
def test_what_is_kept_is_text(start, database, query, coding, kept):
    """Whatever was sent: PostgreSQL takes it, and the body is set aside."""
    handler = start(TICKETD_TOKEN=TOKEN)
    assert status(handler, QUERY + "&" + query, b"no json", HTTP_CONTENT_ENCODING=coding) == 400
    assert database.query("SELECT iv, coding FROM vcc.rejected_events") == [kept]


def test_the_spool_keeps_the_iv(start, database, folder):
    settings = {"TICKETD_TOKEN": TOKEN, "TICKETD_SPOOL_DIR": folder / "spool", "TICKETD_DB_TIMEOUT_MS": 500}
    handler = start(**settings)
    database.query("REVOKE EXECUTE ON FUNCTION vcc.reject_event, vcc.apply_events FROM vcc_writer")
    try:
        assert status(handler, QUERY + "&iv=00ff", b"no json", HTTP_CONTENT_ENCODING="gzip") == 400
        assert database.value("SELECT count(*) FROM vcc.rejected_events") == 0
    finally:
        database.query("GRANT EXECUTE ON FUNCTION vcc.reject_event, vcc.apply_events TO vcc_writer")
    wait_until(lambda: database.query("SELECT iv, coding FROM vcc.rejected_events") == [("00ff", "gzip")])


def test_keys_rotate(start, folder):
    file = folder / "keys"
    file.write_text("first\n")
    file.chmod(0o600)
    handler = start(TICKETD_TOKEN=TOKEN, TICKETD_CIPHER="aes-256-cbc", TICKETD_CIPHER_KEY_FILE=file)

    def accepted():
        return {k for k in ("first", "second") if status(handler, QUERY, encrypt(BODY, "aes-256-cbc", k)) == 200}
    assert accepted() == {"first"}
    file.write_text("second\nfirst\n")
    rotate(handler)
    assert accepted() == {"first", "second"}
    file.write_text("second\n")
    rotate(handler)
    assert accepted() == {"second"}


# Compressed bodies

def deflated(content, window=zlib.MAX_WBITS):
    z = zlib.compressobj(wbits=window)
    return z.compress(content) + z.flush()


ZIPPED = gzip.compress(BODY)


def test_compressed_bodies(start, database):
    handler = start()
    for coding, sent in [
            ("gzip", ZIPPED), ("X-GZip", ZIPPED), ("gzip", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
            ("deflate", deflated(BODY)), ("deflate", deflated(BODY, -15)), ("identity", BODY), ("", BODY)]:
        assert status(handler, content=sent, HTTP_CONTENT_ENCODING=coding) == 200, (coding, sent)
    assert database.query("SELECT DISTINCT payload FROM vcc.ticket_events") == [(json.loads(BODY),)]


def test_what_cannot_be_decompressed_is_kept_as_it_came(start, database):
    handler = start()
    for coding, sent, says in [
            ("br", BODY, "none of gzip, deflate"), ("gzip, gzip", gzip.compress(ZIPPED), "none of gzip, deflate"),
            ("gzip", BODY, "not compressed as"), ("gzip", ZIPPED[:-3], "too early"), ("gzip", ZIPPED + b"x" * 30, "not compressed as"),
            ("deflate", BODY, "not compressed as"), ("gzip", gzip.compress(bytes(1 << 20) + b"x"), "larger than"),
            ("gzip", gzip.compress(bytes(200 << 20)), "larger than"), ("gzip", gzip.compress(b"{"), "JSON"), ("gzip", b"", "empty")]:
        with fastcgi.Connection(handler.socket) as c:
            c.send(fastcgi.request(sent, HTTP_CONTENT_ENCODING=coding))
            answer = c.answer()
        assert answer.startswith("Status: 400") and says in answer, coding
        (kept, kept_coding, reason), = database.query("DELETE FROM vcc.rejected_events RETURNING body, coding, reason")
        assert (bytes(kept), kept_coding) == (sent, coding) and says in reason


def test_a_body_that_still_cannot_be_read_keeps_its_reason(start, database):
    """What is wrong with its coding or encryption, not that it is no JSON; and what is wrong with an event that is opened now."""
    def send_then_retry(query, content, more, **settings):
        database.query("DELETE FROM vcc.rejected_events")
        handler = start(**more)
        assert status(handler, query, content, **settings) == 400
        handler.stop()

    def reasons(**settings):
        retry = command("rejected", "retry", TICKETD_DATABASE=database.handler, TICKETD_AUTH="none", **settings)
        assert retry.returncode == 1, retry.stderr
        return [reason for reason, in database.query("SELECT reason FROM vcc.rejected_events")]
    key = {"TICKETD_CIPHER": "aes-256-ctr", "TICKETD_CIPHER_KEY": KEY}
    unknown = "has a Content-Encoding that is none of gzip, deflate and identity"
    send_then_retry("", b"\x8b\x00zip", {}, HTTP_CONTENT_ENCODING="br")
    assert reasons() == reasons(**key) == [unknown]
    send_then_retry("?iv=00", encrypt(b'{"action":"add"}', "aes-256-ctr", KEY, "00"), {**key, "TICKETD_CIPHER_KEY": "wrong"})
    assert reasons(**{**key, "TICKETD_CIPHER_KEY": "wrong"}) == ["cannot be decrypted, or is not JSON"]
    assert reasons(**key) == ["/ticket is missing"]


@pytest.mark.parametrize("spooled", [False, True])
def test_a_compressed_body_is_tried_again(start, folder, database, spooled):
    """Encrypted in base64 too, larger than the cap was, and once kept in the spool."""
    settings = {"TICKETD_CIPHER": "aes-256-ctr", "TICKETD_CIPHER_KEY": KEY}
    handler = start(TICKETD_MAX_BODY_KB=6, TICKETD_SPOOL_DIR=folder / "spool", TICKETD_DB_TIMEOUT_MS=200, **settings)
    content = encrypt(BODY.replace(b"T1tle", b"x" * 5000), "aes-256-ctr", KEY, "00")
    if spooled:
        database.query("REVOKE EXECUTE ON FUNCTION vcc.reject_event, vcc.apply_events FROM vcc_writer")
    assert status(handler, "?iv=00", gzip.compress(content, mtime=0), HTTP_CONTENT_ENCODING="gzip") == 400
    database.query("GRANT EXECUTE ON FUNCTION vcc.reject_event, vcc.apply_events TO vcc_writer")
    wait_until(lambda: database.value("SELECT count(*) FROM vcc.rejected_events") == 1, 20)
    again = command("rejected", "retry", TICKETD_DATABASE=database.handler, TICKETD_AUTH="none", **settings)
    assert again.returncode == 0, again.stdout + again.stderr
    assert database.query("SELECT length(title) FROM vcc.tickets") == [(len(json.loads(BODY)["ticket"]["title"]) + 4995,)]
    assert database.value("SELECT count(*) FROM vcc.rejected_events") == 0


def test_a_compressed_and_encrypted_body_that_is_refused_again(start, database):
    """It stays one body, of its project."""
    settings = {"TICKETD_CIPHER": "aes-256-ctr", "TICKETD_CIPHER_KEY": KEY}
    handler = start(**settings)
    content = encrypt(b'{"action":"add","ticket":{"projectId":1,"ticketId":2,"userId":"x"}}', "aes-256-ctr", KEY, "00")
    assert status(handler, "?iv=00", gzip.compress(content, mtime=0), HTTP_CONTENT_ENCODING="gzip") == 422
    again = command("rejected", "retry", TICKETD_DATABASE=database.handler, TICKETD_AUTH="none", **settings)
    assert again.returncode == 1, again.stderr
    assert database.query("SELECT project_id, ticket_id, left(reason, 14) FROM vcc.rejected_events") == [(1, 2, "/ticket/userId")]


# Secrets

def test_no_secret_is_logged_or_answered(folder, start, database):
    """Good, refused, failed and oversized requests, through nginx with its log as loud as it gets; then every log and
    every answer is searched."""
    iv = "00112233445566778899aabbccddeeff"
    settings = {"TICKETD_CIPHER": "aes-256-ctr", "TICKETD_CIPHER_KEY": KEY, "TICKETD_TOKEN": TOKEN,
                "TICKETD_LOG_LEVEL": "debug", "TICKETD_SPOOL_DIR": folder / "spool", "TICKETD_DB_TIMEOUT_MS": 200}
    handler = start(**settings)
    nginx = Nginx(folder, handler.socket)
    answers = []
    path = LOCATION + QUERY + f"&iv={iv}"
    good = encrypt(BODY, "aes-256-ctr", KEY, iv)

    def ask(content, where=path, **more):
        answers.append(send(nginx.port, content, path=where, **more))
        return answers[-1].status

    try:
        assert ask(good) == 200
        assert ask(good, headers={"Authorization": "Bearer " + "S3cret-t0ken/+"}) == 200
        assert ask(BODY) == 400
        assert ask(encrypt(BODY.replace(b"update", b"close"), "aes-256-ctr", KEY, iv)) == 422
        assert ask(good, LOCATION + "?secret-key=S3cret-t0ken") == 401
        assert ask(good, LOCATION, headers={"Authorization": "Bearer S3cret-t0ken"}) == 401
        assert ask(good, path + "&secret-key=again") == 401
        assert ask(b"x" * (1 << 21)) == 413
        assert ask(b"", method="GET") == 405
        assert ask(b"", LOCATION + "/elsewhere" + QUERY, method="GET") == 404
        database.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'T1tle-of-a-customer') NOT VALID")
        assert ask(encrypt(BODY.replace(b'"ticketId":2', b'"ticketId":3'), "aes-256-ctr", KEY, iv)) == 422
        database.query("REVOKE EXECUTE ON FUNCTION vcc.apply_events FROM vcc_writer")
        assert ask(good) == 200  # spooled
        handler.stop()
        assert ask(good) == 503  # nobody listens
        handler.start()
        rotate(handler)
    finally:
        nginx.stop()
        database.query("GRANT EXECUTE ON FUNCTION vcc.apply_events TO vcc_writer")
    secrets = ["S3cret", KEY, "T1tle", "secret-key", good.decode()[:20], iv]
    seen = 0
    for log in pathlib.Path(folder).glob("*.log"):
        text = log.read_text(errors="replace")
        seen += len(text)
        assert not [s for s in secrets if s in text], log
    assert seen > 1000
    for answer in answers:
        text = answer.body.decode(errors="replace") + str(answer.headers)
        assert not [s for s in secrets[:3] if s in text], text
    command = pathlib.Path(f"/proc/{handler.process.pid}/cmdline").read_bytes()
    assert not [s for s in secrets if s.encode() in command]


def test_no_core_is_left(start):
    handler = start(TICKETD_TOKEN=TOKEN)
    assert resource.prlimit(handler.process.pid, resource.RLIMIT_CORE) == (0, 0)
    umask = re.search(r"Umask:\s+(\d+)", pathlib.Path(f"/proc/{handler.process.pid}/status").read_text())[1]
    assert int(umask, 8) == 0o077
    if os.geteuid() != 0 and "asan" not in TICKETD:
        with pytest.raises(PermissionError):  # not dumpable: not even its own user looks into it
            pathlib.Path(f"/proc/{handler.process.pid}/environ").read_bytes()
