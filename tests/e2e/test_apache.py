"""The three files for Apache, each in a real one: ticketd.conf (mod_proxy_fcgi), ticketd-fcgid.conf, ticketd-cgi.conf."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import threading
import time

import pytest
from cluster import children_of
from conftest import (BY_LOGIN, LOCATION, ROOT, Apache, Handler, certificate, free_port, look_from_elsewhere, make_login, sample,
                      send, uncomment, wait_until)  # fmt: skip
from test_metrics import scrape, value
from test_spool import waiting

pytestmark = [
    pytest.mark.skipif(not shutil.which("apache2"), reason="apache2 is not installed"),
    pytest.mark.skipif(not os.path.exists(f"{Apache.MODULES}/mod_fcgid.so"), reason="libapache2-mod-fcgid is not installed"),
]

MODES = ["proxy", "fcgid", "cgi"]
TOKEN = "S3cret-t0ken/+ü"
PATH = LOCATION + "?secret-key=S3cret-t0ken/%2B%c3%bc"
AWAY = "The web server got no answer from ticketd."


def event(ticket=21, action="update", **attributes):
    return {"action": action, "ticket": {"projectId": 130, "ticketId": ticket, **attributes}}


def sized(size):
    head, tail = b'{"action":"update","ticket":{"projectId":1,"ticketId":2,"title":"', b'"}}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


class Site:
    """ticketd behind an Apache, in one of the three ways. A bare path is asked for with the token."""

    def __init__(self, folder, database, mode, settings, replace=None, **options):
        self.folder = folder
        self.mode = mode
        self.database = database
        self.handler = None
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o640)
        Apache.admit(token)
        self.settings = {"TICKETD_DATABASE": database.handler, "TICKETD_TOKEN_FILE": str(token),
                         "TICKETD_AUTH": "token", **settings}
        conf = "ticketd.conf" if mode == "proxy" else f"ticketd-{mode}.conf"
        replace = dict(replace or {})
        if mode == "proxy":
            self.handler = Handler(folder, database, **self.settings)
            replace["/run/ticketd/ticketd.sock"] = self.handler.socket
        else:
            shipped = (Apache.CONF / conf).read_text()
            pattern = r'InitialEnv "?(TICKETD_\w+)=.*?(?= \\\n)' if mode == "fcgid" else r"SetEnv (TICKETD_\w+) .*"
            found = list(re.finditer(pattern, shipped))
            assert {m[1] for m in found} == {"TICKETD_DATABASE", "TICKETD_TOKEN_FILE", "TICKETD_SPOOL_DIR"}
            form = 'InitialEnv "{}={}" ' if mode == "fcgid" else 'SetEnv {} "{}"\n'
            replace[found[0][0]] = "".join(form.format(n, v) for n, v in self.settings.items())
            replace.update({m[0]: "" for m in found[1:]})
            replace["/usr/local/sbin/ticketd"] = f"{folder}/ticketd"
        try:
            self.apache = Apache(folder, conf, replace, **options)
            if self.handler:
                self.admit()
        except BaseException:
            if self.handler:
                self.handler.stop()
            raise

    def admit(self):
        Apache.admit(self.handler.socket)

    def send(self, body=b"", path=PATH, **more):
        return send(self.apache.port, body, path=path, **more)

    def processes(self):
        """The pids of the ticketd processes that mod_fcgid has started."""
        found = []
        for pid in children_of(self.apache.process.pid):
            found += [p for p in children_of(pid) if self.runs_ticketd(p)]
        return found

    @staticmethod
    def runs_ticketd(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return pathlib.Path(f"/proc/{pid}/comm").read_text() == "ticketd\n"
        return False

    def replace_program(self, script):
        """What is started from now on runs this script; ticketd itself is kept as `good`."""
        program = self.folder / "ticketd"
        program.rename(self.folder / "good")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        for pid in self.processes() if self.mode == "fcgid" else []:
            os.kill(pid, signal.SIGKILL)

    def stop(self):
        self.apache.stop()
        if self.handler:
            assert self.handler.stop() == 0, self.handler.log.read_text(errors="replace")
        for log in self.folder.glob("*.log"):
            text = log.read_text(errors="replace")
            print(log.name, *(line for line in text.splitlines() if ":debug]" not in line and ":trace" not in line), sep="\n")
            assert "Sanitizer" not in text, text


@pytest.fixture
def site(folder, database):
    sites = []

    def site(mode, replace=None, options=None, **settings):
        sites.append(Site(folder, database, mode, settings, replace, **(options or {})))
        return sites[-1]
    yield site
    with contextlib.ExitStack() as stack:  # one that did not end well leaves none of the others
        for s in sites:
            stack.callback(s.stop)


@pytest.mark.parametrize("mode", MODES)
def test_the_vendors_samples(site, database, mode):
    s = site(mode)
    results = []
    for name, method in ("add", "POST"), ("update", "PUT"), ("delete", "POST"):
        answer = s.send(sample(name), method=method)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        results.append((answer.json["event"], answer.json["result"]))
        if name == "update":
            assert database.query("SELECT ticket_no, title FROM vcc.tickets") == [
                ("130-20240215-270338", "Customer complaint")]
    assert [r for _, r in results] == ["inserted", "updated", "deleted"]
    assert database.query("SELECT * FROM vcc.tickets") == []
    assert database.query("SELECT event_id::text, result FROM vcc.ticket_events ORDER BY event_id") == results
    assert database.query("SELECT payload FROM vcc.ticket_events WHERE action = 'add'") == [
        (json.loads(sample("add")),)]


@pytest.mark.parametrize("mode", MODES)
def test_who_is_let_in(site, database, mode):
    s = site(mode)
    for path, headers in [(LOCATION, {}), (LOCATION + "?secret-key=wrong", {}), (PATH + "&secret-key=x", {}),
                          (LOCATION, {"Authorization": "Bearer wrong"})]:
        answer = s.send(event(), path, headers=headers)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert answer.json["title"] == "A token is missing, wrong or given twice"
    assert s.send(event()).status == 200
    assert s.send(event(), LOCATION, headers={"Authorization": b"Bearer " + TOKEN.encode()}).status == 200
    assert s.send(event(), LOCATION + "?x=y&" + PATH.partition("?")[2] + "&a=%2f").status == 200
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 3


@pytest.mark.parametrize("mode", MODES)
def test_refusals_come_through(site, database, mode):
    s = site(mode)
    for content, status in (b"{", 400), (b"", 400), (b"{}", 422), (b'{"action":"add","ticket":{"projectId":"x"}}', 422):
        answer = s.send(content)
        assert (answer.status, answer.json["status"]) == (status, status), answer.body
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert ("errors" in answer.json) == (status == 422)
    for method in "GET", "DELETE", "HEAD":
        answer = s.send(method=method)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST, PUT"), method
    assert database.value("SELECT count(*) FROM vcc.rejected_events") == 4


@pytest.mark.parametrize("mode", MODES)
def test_bodies_around_the_cap(site, database, mode):
    s = site(mode)
    cap = 1024 * 1024

    def chunks(content):
        return (content[i:i + 50000] for i in range(0, len(content), 50000))
    for size, status in (100, 200), (20000, 200), (cap, 200), (cap + 1, 413), (15 * cap, 413), (17 * cap, 413), (100, 200):
        assert s.send(sized(size)).status == status, size
        if status == 200:
            assert database.value("SELECT length(title) FROM vcc.tickets") > size - 100
    for size, status in (100, 200), (20000, 200), (cap, 200), (cap + 1, 413), (100, 200):
        assert s.send(chunks(sized(size))).status == status, f"{size} in chunks"
    if s.handler:  # all but what is over Apache's own cap
        assert value(scrape(s.handler), "requests_total", 'status="413"') == 3
    assert database.value("SELECT count(*) FROM vcc.rejected_events") == 0


def test_strangers_take_no_memory(site):
    """Apache passes bodies on as they come: a hundred of a megabyte, none of which ends."""
    s = site("proxy")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            c = stack.enter_context(socket.create_connection(("127.0.0.1", s.apache.port), timeout=10))
            c.sendall(f"POST {LOCATION} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\n\r\n".encode() + b"x" * 1000000)
        assert s.send(sized(20000)).status == 200
        status = pathlib.Path(f"/proc/{s.handler.process.pid}/status").read_text()
        assert int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) < 60000
        c.sendall(b"x")
        assert c.recv(100).split()[1] == b"401"


def raw_status(port, path, *headers):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as c:
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
        c.sendall("\r\n".join(lines).encode())
        return int(c.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("mode", MODES)
def test_one_id_leads_to_the_next(site, database, mode):
    """Apache's log → ticketd's, which in the other modes is Apache's error log → the journal."""
    s = site(mode, TICKETD_LOG_LEVEL="debug")
    identifier = s.send(event()).headers["X-Event-Id"]
    assert database.value("SELECT event_id::text FROM vcc.ticket_events") == identifier
    log = s.handler.log if s.handler else s.folder / "apache-error.log"

    def found():
        shown = re.search(r"msg=updated .*|msg=inserted .*", log.read_text(errors="replace"))
        access = re.search(f" request=([^ ]{{24,32}}) event={identifier}\n", (s.folder / "apache-access.log").read_text())
        return shown and access and (shown[0], access[1])
    line, request = wait_until(found, what="both lines")
    assert f"request={request}" in line.replace('"', "") and f"event={identifier}" in line


@pytest.mark.parametrize("mode", MODES)
def test_places(site, mode):
    """From elsewhere nobody reaches livez and the like, however the path is written and whatever Apache lets through."""
    s = site(mode, options={"server": "HttpProtocolOptions Unsafe\nAllowEncodedSlashes On"})
    port = s.apache.port
    assert s.send(path=LOCATION + "/livez", method="GET").json == {"live": True}
    ready = wait_until(lambda: s.send(path=LOCATION + "/readyz?x=/y", method="GET").json["ready"] and s.send(
        path=LOCATION + "/readyz", method="GET").json)  # a process of mod_fcgid has just been started
    assert ready == {"ready": True, "by": "database"}
    assert s.send(path=LOCATION + "/livez").status == 405
    for place in "/elsewhere", "/livez/x", "/x/livez":
        assert s.send(event(), LOCATION + place).status == 404, place
    assert s.send(event(), PATH.replace("?", "/?")).status == 200  # with a slash it is the same place
    assert s.send(path=LOCATION + "/livez/").status == 405
    assert raw_status(port, LOCATION + "/livez", "X-Client: 203.0.113.9") == 403
    for probe in "livez", "readyz", "metrics", "report.json", "dashboard/":
        for form in ("/{}", "//{}", "/%6c/../{}", "#/{}", "%23/{}", ";/{}", "%3f/{}", "?/{}", "%2f{}", "%2F{}", "/./{}",
                     "/{}%00", "/{}%3f", "/{};x", "/{}#", "/{}?x", "/{}/", "/{}/..", "/%2e%2e/tickets/{}"):
            path = LOCATION + form.format(probe)
            assert raw_status(port, path, "X-Client: 203.0.113.9") in (400, 403, 404, 405), path


@pytest.mark.parametrize("mode", MODES)
def test_the_dashboard(site, folder, mode):
    """The page and its data, for this host alone."""
    shutil.copytree(ROOT / "dashboard", folder / "dashboard")
    shipped = (Apache.CONF / "ticketd-dashboard.conf").read_text()
    loads = "".join(f"LoadModule {m}_module {Apache.MODULES}/mod_{m}.so\n" for m in ("headers", "mime", "dir"))
    loads += "TypesConfig /dev/null\n"  # the page brings its own
    (folder / "conf-available").mkdir()  # where the other files look for it
    (folder / "conf-available/ticketd-dashboard.conf").write_text(
        shipped.replace("/usr/local/share/ticketd/dashboard", f"{folder}/dashboard"))
    s = site(mode, TICKETD_REPORT="on", options={"server": loads})
    page = LOCATION + "/dashboard/"
    for path, kind in ("", "text/html"), ("dashboard.js", "text/javascript"), ("dashboard.css", "text/css"):
        answer = s.send(path=page + path, method="GET")
        assert answer.status == 200 and answer.headers["Content-Type"].startswith(kind)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert re.search(r'Content-Security-Policy "(.*)"', shipped)[1] == answer.headers["Content-Security-Policy"]
        assert raw_status(s.apache.port, page + path, "X-Client: 203.0.113.9") == 403
    assert s.send(path=page + "uplot/", method="GET").status in (403, 404)  # no listing
    data = LOCATION + "/report.json?period=7d"
    # A process of mod_fcgid has just been started.
    wait_until(lambda: s.send(path=data, method="GET").json["handler"]["takes_events"] == "database", what="readiness")
    assert "GRANT vcc_reader" in s.send(path=data, method="GET").json["problem"]
    assert raw_status(s.apache.port, LOCATION + "/report.json", "X-Client: 203.0.113.9") == 403


@pytest.mark.parametrize("mode", MODES)
def test_a_login_for_the_dashboard(site, folder, mode):
    """From another machine, by TLS. This host needs none, and livez stays its own."""
    shutil.copytree(ROOT / "dashboard", folder / "dashboard")
    certificate(folder)
    make_login(folder / "htpasswd")
    (folder / "conf-available").mkdir()
    shipped = uncomment((Apache.CONF / "ticketd-dashboard.conf").read_text(), "AuthType", "AuthName", "AuthUserFile", "Require valid")
    (folder / "conf-available/ticketd-dashboard.conf").write_text(
        shipped.replace("/usr/local/share/ticketd/dashboard", f"{folder}/dashboard").replace(
            "/etc/apache2/ticketd.htpasswd", f"{folder}/htpasswd"))  # fmt: skip
    modules = "headers", "mime", "dir", "ssl", "auth_basic", "authn_core", "authn_file", "authz_user"
    loads = "".join(f"LoadModule {m}_module {Apache.MODULES}/mod_{m}.so\n" for m in modules)
    port = free_port()
    tls = f"""TypesConfig /dev/null
        Listen 127.0.0.1:{port} https
        <VirtualHost 127.0.0.1:{port}>
            SSLEngine on
            SSLCertificateFile {folder}/cert.pem
            SSLCertificateKeyFile {folder}/key.pem
        </VirtualHost>"""
    s = site(mode, TICKETD_REPORT="on", options={"server": loads + tls})
    assert look_from_elsewhere(folder, port) == BY_LOGIN
    assert s.send(path=LOCATION + "/dashboard/", method="GET").status == 200
    assert s.send(event(), headers={"X-Client": "203.0.113.9"}).status == 200


@pytest.mark.parametrize("mode", MODES)
def test_ticketds_own_503(site, mode):
    """Its body stays; the web server's is for when there is none."""
    s = site(mode, TICKETD_DATABASE="host=/nonexistent", TICKETD_DB_TIMEOUT_MS="200")
    answer = s.send(event())
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert answer.headers.get_all("Retry-After") and answer.json.get("detail") != AWAY
    answer = s.send(path=LOCATION + "/readyz", method="GET")
    assert (answer.status, answer.json) == (503, {"ready": False})
    answer = s.send(path=LOCATION + "/livez", method="GET")
    assert answer.status == 200


@pytest.mark.parametrize("mode", MODES)
def test_it_starts_where_ticketd_is_gone(folder, mode):
    """After a removal its files are there, and nothing that they name."""
    replace = {"/run/ticketd" if mode == "proxy" else "/usr/local/sbin": "/nowhere"}
    shutil.copy(Apache.CONF / "ticketd-dashboard.conf", folder)
    apache = Apache(folder, "ticketd.conf" if mode == "proxy" else f"ticketd-{mode}.conf", replace,
                    server=f"LoadModule headers_module {Apache.MODULES}/mod_headers.so\n"
                    f"LoadModule mime_module {Apache.MODULES}/mod_mime.so\nTypesConfig /dev/null\n"
                    f"LoadModule dir_module {Apache.MODULES}/mod_dir.so",
                    location=f"Include {folder}/ticketd-dashboard.conf")  # fmt: skip
    try:
        assert send(apache.port, event(), path=PATH).status == (503 if mode == "proxy" else 404)
        assert send(apache.port, path=LOCATION + "/dashboard/", method="GET").status in (403, 404)
    finally:
        apache.stop()


def is_away(answer):
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    return answer.json["detail"] == AWAY


def test_handler_away(site):
    s = site("proxy", replace={"timeout=30": "timeout=1"})
    assert s.send(event()).status == 200
    os.kill(s.handler.process.pid, signal.SIGSTOP)
    os.waitpid(s.handler.process.pid, os.WUNTRACED)  # until the last of its threads has stopped
    try:
        assert is_away(s.send(event()))  # stuck
    finally:
        os.kill(s.handler.process.pid, signal.SIGCONT)
    assert s.handler.stop() == 0
    for _ in range(3):
        assert is_away(s.send(event()))
        assert is_away(s.send(sized(500000)))
    assert is_away(s.send(path=LOCATION + "/livez", method="GET"))
    s.handler.start()
    s.admit()
    assert s.send(event()).status == 200  # at the first request


@pytest.mark.parametrize("mode", ["fcgid", "cgi"])
def test_program_that_cannot_answer(site, folder, mode):
    """Killed at its start, and not there at all."""
    s = site(mode)
    assert s.send(event()).status == 200
    s.replace_program("kill -9 $$")
    assert is_away(s.send(event(), timeout=90))
    (folder / "ticketd").unlink()
    assert s.send(event()).status in (403, 404, 503)
    (folder / "good").rename(folder / "ticketd")
    wait_until(lambda: s.send(event(), timeout=90).status == 200, 30)


def check_answers(database, answers):
    """Every 200 names an event of its own, which is in the journal with what its client had sent."""
    journal = dict(database.query("SELECT event_id::text, payload FROM vcc.ticket_events"))
    ids = [answer.json["event"] for _, answer in answers if answer.status == 200]
    assert len(set(ids)) == len(ids)
    for body, answer in answers:
        if answer.status == 200:
            assert journal[answer.json["event"]] == body
    return len(ids), len(journal)


@pytest.mark.parametrize("mode, mpm", [("proxy", "event"), ("fcgid", "event"), ("cgi", "event"), ("cgi", "prefork")])
def test_many_clients(site, database, mode, mpm):
    clients, each = (64, 2) if mode == "cgi" else (200, 5)  # a process for each request takes its time
    workers = 32 if mode == "cgi" else 256  # each of its processes has a database connection
    s = site(mode, options={"mpm": mpm, "workers": workers})

    def client(n):
        bodies = [event(n, "add" if i == 0 else "update", title=f"{n}/{i}") for i in range(each)]
        return [(b, s.send(b, timeout=120)) for b in bodies]

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        by_client = list(pool.map(client, range(clients)))
    for answers in by_client:
        assert [a.json.get("result") for _, a in answers] == ["inserted"] + ["updated"] * (each - 1)
    assert check_answers(database, sum(by_client, [])) == (clients * each, clients * each)
    assert sorted(database.query("SELECT ticket_id, title FROM vcc.tickets")) == [
        (n, f"{n}/{each - 1}") for n in range(clients)]


def kept_connections(path):
    """How many connections to a unix socket are open."""
    lines = [line.split() for line in pathlib.Path("/proc/net/unix").read_text().splitlines()]
    return sum(1 for line in lines if line[-1] == path and line[5] == "03")


def test_kept_connections_give_everyone_the_own_answer(site, database):
    """Among clients that break off in their body or do not wait for the answer, some of them in chunks, and a handler
    that starts anew: whatever an abandoned request leaves on a connection, the next one never gets it."""
    s = site("proxy", options={"workers": 32})
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("SEED =", seed)
    for i in range(20):
        assert s.send(event(1000)).status == 200
    assert kept_connections(s.handler.socket)
    stop = threading.Event()

    def abandon(n):
        rng = random.Random(seed + n)
        while not stop.is_set():
            body = json.dumps(event(-1 - n, title="abandoned" * rng.choice([1, 1000, 8000]))).encode()
            head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n"
            if rng.random() < 0.3:
                content = b"%x\r\n%s\r\n" % (len(body), body)
                request = (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + content
            else:
                request = (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body
            cut = len(request) if rng.random() < 0.5 else rng.randrange(len(request))
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", s.apache.port)) as c:
                c.sendall(request[:cut])
                time.sleep(rng.random() / 10)
                if rng.random() < 0.5:
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def client(n):
        answers = []
        for i in range(20):
            body = event(n, title=f"{n}/{i}" + "x" * (20000 if i % 5 == 0 else 0))
            answers.append((body, s.send(body)))
        return answers

    with concurrent.futures.ThreadPoolExecutor(80) as pool:
        rude = [pool.submit(abandon, n) for n in range(20)]
        try:
            by_client = list(pool.map(client, range(50)))
            again = pool.map(client, range(50, 60))
            s.handler.stop()
            s.handler.start()
            s.admit()
            again = list(again)
        finally:
            stop.set()
    for r in rude:
        r.result()
    assert {a.status for _, a in sum(by_client, [])} == {200}
    assert {a.status for _, a in sum(again, [])} <= {200, 503}
    check_answers(database, sum(by_client + again, []))


@pytest.mark.parametrize("spool", [False, True])
def test_killed_fcgid_processes(site, database, folder, spool):
    """No event that was answered 200 is lost; what was not answered is 503."""
    s = site("fcgid", **({"TICKETD_SPOOL_DIR": str(folder / "spool"), "TICKETD_DB_TIMEOUT_MS": "2000"} if spool else {}))
    s.send(event())
    if spool:
        database.query("REVOKE EXECUTE ON FUNCTION vcc.apply_events FROM vcc_writer")
    stop = threading.Event()
    kills = 0

    def client(n):
        answers = []
        while not stop.is_set():
            body = event(n, title=f"{n}/{len(answers)}")
            answers.append((body, s.send(body, timeout=120)))
        return answers

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        clients = [pool.submit(client, n) for n in range(24)]
        try:
            until = time.monotonic() + 3
            while time.monotonic() < (until if kills > 2 else until + 60):
                time.sleep(0.2)
                victims = s.processes()
                if victims:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(random.choice(victims), signal.SIGKILL)
                        kills += 1
        finally:
            stop.set()
        answers = sum((c.result() for c in clients), [])
    assert kills > 2
    assert {a.status for _, a in answers} <= {200, 503}
    good = [a.json["event"] for _, a in answers if a.status == 200]
    assert len(good) > 20
    if spool:
        assert "spooled" in {a.json.get("result") for _, a in answers}
        database.query("GRANT EXECUTE ON FUNCTION vcc.apply_events TO vcc_writer")
        wait_until(lambda: s.send(event(), timeout=120) and waiting(folder / "spool") == 0, 60, "the drain")
    check_answers(database, answers)


def test_stop_ends_the_fcgid_processes(site, folder):
    s = site("fcgid")
    assert s.send(event()).status == 200
    pids = s.processes()
    assert pids
    s.apache.stop()
    assert not [p for p in pids if Site.runs_ticketd(p)]
    assert (folder / "apache-error.log").read_text().count("stopping: finishing what is in flight") == len(pids)


@pytest.mark.parametrize("mode", MODES)
def test_no_secret_is_logged_or_answered(site, database, folder, mode):
    """Good, refused, failed and oversized requests under LogLevel debug; malformed ones, which know no location, under
    the default. Then every log and every answer is searched."""
    s = site(mode, TICKETD_LOG_LEVEL="debug", TICKETD_SPOOL_DIR=str(folder / "spool"), TICKETD_DB_TIMEOUT_MS="2000")
    answers = []
    body = b'{"action":"update","ticket":{"projectId":1,"ticketId":%d,"title":"T1tle-of-a-customer"}}'
    good = body % 2

    def ask(content, path=PATH, **more):
        answers.append(s.send(content, path, **more))
        return answers[-1].status

    assert ask(good) == 200
    assert ask(good, LOCATION, headers={"Authorization": b"Bearer " + TOKEN.encode()}) == 200
    assert ask(good[:-5]) == 400
    assert ask(good.replace(b"update", b"close")) == 422
    assert ask(good, LOCATION + "?secret-key=S3cret-t0ken") == 401
    assert ask(good, LOCATION, headers={"Authorization": "Bearer S3cret-t0ken"}) == 401
    assert ask(good, PATH + "&secret-key=again") == 401
    assert ask(b"x" * (1 << 21)) == 413
    assert ask(iter([b"x" * (1 << 20)] * 2)) == 413
    assert ask(b"", method="GET") == 405
    query = "?" + PATH.partition("?")[2]
    assert ask(b"", LOCATION + "/elsewhere" + query, method="GET") == 404
    assert ask(b"", LOCATION + query.replace("?", "%3F"), method="GET") == 403  # another place to Apache
    assert ask(b"", LOCATION + "/livez" + query, method="GET", headers={"X-Client": "203.0.113.9"}) == 403
    database.query("ALTER TABLE vcc.tickets ADD CHECK (title <> 'T1tle-of-a-customer') NOT VALID")
    assert ask(body % 3) == 422
    database.query("REVOKE EXECUTE ON FUNCTION vcc.apply_events FROM vcc_writer")
    assert ask(good) == 200  # spooled
    with socket.create_connection(("127.0.0.1", s.apache.port)) as c:  # broken off in its body
        c.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{".encode())
    if s.handler:
        s.handler.stop()
        assert ask(good) == 503  # nobody listens
    else:
        s.replace_program("exit 1")
        assert ask(good, timeout=90) == 503
    assert send(s.apache.port, path="/other?place").status == 403

    s.apache.conf.write_text(re.sub("LogLevel debug.*", "", s.apache.conf.read_text()))
    s.apache.process.send_signal(signal.SIGHUP)
    log = folder / "apache-error.log"
    wait_until(lambda: log.read_text(errors="replace").count("resuming normal operations") == 2, 60)
    for request in [
            "POST /vcc/tickets{} HTTP/1.1\r\nHost x\r\n\r\n", "POST /vcc/tickets{} HTTP/1.1\r\n\r\n",
            "POST /vcc/tickets{} x HTTP/1.1\r\nHost: x\r\n\r\n", "POST /vcc/tickets{}\r\n\r\n", "POST/vcc/tickets{} HTTP/1.1\r\n\r\n",
            "POST /vcc/tickets{} HTTP/1.1\r\nHost: x\r\nX: " + "x" * 9000 + "\r\n\r\n", "POST /vcc/tickets{} HTTP/1.1\r\nHos",
            "POST /vcc/tickets{}" + "x" * 9000 + " HTTP/1.1\r\nHost: x\r\n\r\n", "POST?{} / HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST /vcc/tickets{}#x HTTP/1.1\r\nHost: x\r\n\r\n", "POST /vcc%00/tickets{} HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST /vcc%2ftickets{} HTTP/1.1\r\nHost: x\r\n\r\n", "POST /vcc/tickets{} HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "POST /vcc/tickets HTTP/1.1\r\nHost: x\r\nAuthorization Bearer S3cret-t0ken\r\n\r\n"]:
        with socket.create_connection(("127.0.0.1", s.apache.port), timeout=10) as c:
            c.sendall(request.format(query).encode())
            c.shutdown(socket.SHUT_WR)
            assert c.recv(100).split()[1][:1] == b"4", request
    s.apache.stop()

    secrets = ["S3cret", "T1tle", "secret-key", "t0ken"]
    seen = {}
    for log in folder.glob("*.log"):
        text = log.read_text(errors="replace")
        seen[log.name] = text
        assert not [s for s in secrets if s in text], log
    assert seen["apache-access.log"].count(LOCATION) > 15
    assert "503" in seen["apache-access.log"] and "/other?place" in seen["apache-others.log"]
    assert LOCATION not in seen["apache-others.log"] and ":debug]" in seen["apache-error.log"]
    assert "level=" in seen["ticketd.log" if s.handler else "apache-error.log"]
    for answer in answers:
        text = answer.body.decode(errors="replace") + str(answer.headers)
        assert not [s for s in secrets[:2] if s in text], text
