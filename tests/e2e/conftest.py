"""Fixtures: a throwaway PostgreSQL, the handler, a web server in front of it. All real, all in temporary folders."""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

import psycopg2
import pytest

from cluster import Cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
TICKETD = os.environ.get("TICKETD", str(ROOT / "build/ticketd"))
SANITIZED = "asan" in TICKETD or "tsan" in TICKETD
LOCATION = "/vcc/tickets"
# What is started inherits this: a thousand clients at once need more than the 1,024 that many systems give.
SOFT, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(SOFT, min(HARD % 2**63, 8192)), HARD))
COMPLAINTS = re.compile(r"Sanitizer|runtime error:|stack smashing|Assertion|free\(\)|malloc\(\)")


def pytest_sessionstart(session):
    """A kill breaks off the test at hand; what it has started is stopped, and its folders are removed. Only the first
    counts, and none breaks off a fixture: something would be left."""
    session.breakable = False

    def end(*_):
        session.shouldstop = "told to end"
        if session.breakable:
            session.breakable = False
            raise KeyboardInterrupt
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, end)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    item.session.breakable = not item.session.shouldstop
    if item.session.shouldstop:
        raise KeyboardInterrupt
    yield
    item.session.breakable = False


def wait_until(condition, seconds=10, what="the condition"):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {seconds} s")


def event(action, ticket=21, **attributes):
    return {"action": action, "ticket": {"projectId": 130, "ticketId": ticket, **attributes}}


def body(ticket, title="x", action="update", **more):
    return json.dumps({"action": action, "ticket": {"projectId": 1, "ticketId": ticket, "title": title, **more}}).encode()


def sample(name):
    """One of the vendor's bodies."""
    return (ROOT / f"tests/data/sample/{name}.json").read_bytes()


def stop(process, seconds=12):
    """Ends a process of ours and returns its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def environment(**settings):
    """The environment without any setting of ours or libpq's, and with those given."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TICKETD_", "PG", "LISTEN_"))}
    clean.update({k: str(v) for k, v in settings.items()})
    return clean


def command(*arguments, **settings):
    """Runs ticketd with these settings alone, to its end."""
    return subprocess.run([TICKETD, *arguments], env=environment(**settings), capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)


def kill_amid(start, count, database, pause):
    """Starts a command that changes count(), and kills it `pause` seconds after the first change. Returns count() when its
    sessions have ended too."""
    before, process = count(), start()
    wait_until(lambda: process.poll() is not None or count() != before, 60)
    time.sleep(pause)
    process.kill()
    process.communicate()
    wait_until(lambda: database.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'handler' "
                                      "AND datname = current_database()") == 0)
    return count()


def copy_of_the_tree(folder):
    """What the program is built of, with what was compiled before, for tests that change it: see build."""
    for name in "handler", "sql", "tools", "Makefile":
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    for path in [*(ROOT / "build").glob("*.[od]"), *(ROOT / "build").glob("*/*.[od]")]:
        if path.relative_to(ROOT / "build").parts[0] not in ("asan", "tsan", "fuzz"):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def build(folder):
    """Returns the program that is made of a copy of the tree."""
    subprocess.run(["make", "-s", "-C", str(folder), "CFLAGS=-O1", "build/ticketd"], check=True, stdout=subprocess.DEVNULL,
                   env={k: v for k, v in environment().items() if not k.startswith("MAKE")})  # fmt: skip
    return folder / "build/ticketd"


@contextlib.contextmanager
def fcgiwrap(folder, processes=1, **settings):
    """A fcgiwrap, which starts ticketd as a CGI program for each request: the path of its socket, and what a request to it
    must carry."""
    path = str(folder / "wrap.sock")
    process = subprocess.Popen(["fcgiwrap", "-c", str(processes), "-s", f"unix:{path}"], stderr=subprocess.DEVNULL,
                               env=environment(**settings), start_new_session=True)
    try:
        wait_until(lambda: accepts(path), what="fcgiwrap")
        yield path, {"flags": 0, "SCRIPT_FILENAME": TICKETD, "GATEWAY_INTERFACE": "CGI/1.1"}
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its children do not end with it
        process.wait(10)


def accepts(path):
    """Whether somebody listens on a unix socket: its file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(path) == 0


@contextlib.contextmanager
def temporary_folder():
    """A short path: a unix socket's has room for 107 bytes."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="ticketd-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def folder():
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="session")
def cluster():
    with Cluster() as c:
        yield c


class Database:
    """A database with schema vcc, made by `ticketd migrate`, and a login role that may only do what the handler may."""

    def __init__(self, cluster, name, before=""):
        """`before`: what runs before it is migrated; else it is a copy of one that was."""
        self.cluster = cluster
        self.name = name
        if before:
            self.make(name, before)
        elif not cluster.execute("SELECT 1 FROM pg_database WHERE datname = 'migrated'"):
            self.make("migrated")
        if not before:
            cluster.createdb(name, "migrated")
        self.owner = cluster.conninfo(name)
        self.connection = psycopg2.connect(self.owner)
        self.connection.autocommit = True
        self.query("DO $$ BEGIN CREATE ROLE handler LOGIN IN ROLE vcc_writer; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        self.handler = cluster.conninfo(name, "handler")

    def make(self, name, before="SELECT"):
        self.cluster.createdb(name)
        self.cluster.execute(before, dbname=name)
        self.owner = self.cluster.conninfo(name)
        self.migrate()

    def migrate(self):
        command("migrate", TICKETD_DATABASE=self.owner).check_returncode()

    def query(self, sql, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, sql, *values):
        return self.query(sql, *values)[0][0]

    def handler_waits_for_a_lock(self):
        """A transaction looks at pg_stat_activity once and then at its copy, unless it is told not to."""
        self.query("SELECT pg_stat_clear_snapshot()")
        return self.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'handler' AND wait_event_type = 'Lock'")

    def reconnect(self):
        self.connection.close()
        self.connection = psycopg2.connect(self.owner)
        self.connection.autocommit = True


@pytest.fixture
def database(cluster, request):
    name = f"test_{time.time_ns()}"
    database = Database(cluster, name)
    yield database
    database.connection.close()
    connection = psycopg2.connect(cluster.conninfo("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    connection.close()


class Handler:
    """ticketd on a unix socket. Without a token in its settings it asks for none."""

    program = None  # TICKETD

    def __init__(self, folder, database, **settings):
        self.socket = str(folder / "ticketd.sock")
        self.log = folder / "ticketd.log"
        auth = "token" if settings.keys() & {"TICKETD_TOKEN", "TICKETD_TOKEN_FILE"} else "none"
        self.settings = {"TICKETD_LISTEN": f"unix:{self.socket}", "TICKETD_DATABASE": database.handler,
                         "TICKETD_AUTH": auth, **settings}
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.program or TICKETD], env=environment(**self.settings), stderr=log,
                                            stdin=subprocess.DEVNULL)
        wait_until(lambda: self.process.poll() is not None or self.accepts(), what="the handler's socket")

    def accepts(self):
        return accepts(self.socket)

    def stop(self):
        return stop(self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(folder, database):
    """Starts handlers with settings of their own. Each must end well: exit status 0, and nothing that a sanitizer or the C
    library had to say."""
    handlers = []
    default = folder

    def start(folder=default, **settings):
        handlers.append(Handler(folder, database, **settings))
        return handlers[-1]
    yield start
    ends = [(handler.stop(), handler.log.read_text(errors="replace")) for handler in handlers]
    for status, log in ends:
        assert status == 0, log
        assert not COMPLAINTS.search(log), log


@pytest.fixture
def handler(start):
    return start()


def free_port():
    """Below the ports that the kernel gives to clients: else a connection of another suite might take it before its server
    does."""
    while True:
        port = random.randrange(10000, 32768)
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port


class Nginx:
    """A real nginx with the location and the upstream that users install, in front of a FastCGI socket. `location` is the
    text of another location; `main` and `http` are further directives."""

    def __init__(self, folder, upstream, location=None, main="", http="", connections=4096):
        self.port = free_port()
        self.folder = folder
        user = "user root;" if os.geteuid() == 0 else ""
        installed = (ROOT / "nginx/upstream.conf").read_text()
        assert "unix:/run/ticketd/ticketd.sock" in installed
        (folder / "upstream.conf").write_text(installed.replace("unix:/run/ticketd/ticketd.sock", f"unix:{upstream}"))
        (folder / "location.conf").write_text(location or self.installed_location(folder))
        conf = folder / "nginx.conf"
        conf.write_text(f"""
{user}
{main}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log info;
events {{ worker_connections {connections}; }}
http {{
    access_log {folder}/nginx-access.log;
    client_body_temp_path {folder}/body;
    fastcgi_temp_path {folder}/fastcgi;
    proxy_temp_path {folder}/proxy;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/upstream.conf;
    {http}
    server {{
        listen 127.0.0.1:{self.port} backlog=4096;
        include {folder}/location.conf;
    }}
}}
""")
        self.process = subprocess.Popen(["nginx", "-e", f"{folder}/nginx-error.log", "-p", str(folder), "-c", str(conf)])
        wait_until(lambda: self.accepts() or self.process.poll() is not None, what="nginx")
        assert self.process.poll() is None, (folder / "nginx-error.log").read_text()

    @staticmethod
    def installed_location(folder):
        installed = (ROOT / "nginx/ticketd.conf").read_text()
        assert installed.count("/usr/local/share/ticketd/") == 1 and installed.count("/var/log/nginx/ticketd.log") == 2
        return installed.replace("/usr/local/share/ticketd/", f"{ROOT}/").replace(
            "/var/log/nginx/ticketd.log", f"{folder}/nginx-ticketd.log")

    def accepts(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        return stop(self.process)


class Apache:
    """A real Apache with one of the files that users install. `replace` holds what an installation would change in it.
    As root it serves as www-data, which gets the folder; a handler's socket needs admit()."""

    USER = "www-data"
    MODULES = "/usr/lib/apache2/modules"
    CONF = ROOT / "contrib/apache"

    def __init__(self, folder, conf, replace, mpm="event", workers=256, server="", location=""):
        self.port = free_port()
        self.folder = folder
        self.mpm = mpm
        modules = [f"mpm_{mpm}", "authz_core", "authz_host", "alias", "asis", "env", "remoteip", "setenvif", "reqtimeout",
                   "unique_id", "proxy", "proxy_fcgi", "fcgid", "cgi" if mpm == "prefork" else "cgid"]
        loads = "\n".join(f"LoadModule {m}_module {self.MODULES}/mod_{m}.so" for m in modules)
        shipped = (self.CONF / conf).read_text()
        for what, by in {**replace, "/usr/local/share/ticketd/apache": str(folder)}.items():
            assert what in shipped, what
            shipped = shipped.replace(what, by)
        (folder / "ticketd.conf").write_text(shipped)
        for file in self.CONF / "ticketd-away.asis", TICKETD:
            shutil.copy(file, folder)
        user = f"User {self.USER}\nGroup {self.USER}" if os.geteuid() == 0 else ""
        threads = "" if mpm == "prefork" else "ThreadsPerChild 16\nServerLimit 64"
        if os.geteuid() == 0:
            shutil.chown(folder, self.USER)
        self.conf = folder / "apache.conf"
        self.conf.write_text(f"""
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ServerName localhost
Listen 127.0.0.1:{self.port}
{loads}
{user}
{threads}
MaxRequestWorkers {workers}
ListenBacklog 4096
<IfModule cgid_module>
    ScriptSock {folder}/cgid.sock
</IfModule>
FcgidIPCDir {folder}/fcgid
FcgidProcessTableFile {folder}/fcgid.shm
RemoteIPHeader X-Client
LogLevel debug proxy_fcgi:trace8 fcgid:trace8
ErrorLog {folder}/apache-error.log
CustomLog {folder}/apache-access.log ticketd
LogFormat "%h %l %u %t \\"%r\\" %>s %O" combined
CustomLog {folder}/apache-others.log combined "expr=%{{THE_REQUEST}} !~ m#/vcc/tickets|secret-key#"
<Directory />
    Require all denied
</Directory>
{server}
Include {folder}/ticketd.conf
{location}
""")
        self.process = subprocess.Popen(["apache2", "-D", "FOREGROUND", "-f", str(self.conf)], start_new_session=True,
                                        stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: self.process.poll() is not None or self.accepts(), what="apache2")
            assert self.process.poll() is None, (folder / "apache-error.log").read_text(errors="replace")
        except BaseException:
            self.stop()
            raise

    def accepts(self):
        """The daemon of mod_cgid starts beside the server, and its socket becomes the user's a moment later: until then
        a request is 503."""
        daemon = list(self.folder.glob("cgid.sock*"))
        if self.mpm != "prefork" and not (daemon and daemon[0].owner() == self.folder.owner()):
            return False
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    @classmethod
    def admit(cls, path):
        if os.geteuid() == 0:
            shutil.chown(path, group=cls.USER)

    def stop(self):
        status = stop(self.process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what has not ended with it
        return status


@pytest.fixture
def nginx(folder, handler):
    nginx = Nginx(folder, handler.socket)
    yield nginx
    nginx.stop()


def certificate(folder):
    """Makes cert.pem and key.pem, of 127.0.0.1."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem"], check=True, capture_output=True)  # fmt: skip


def uncomment(text, *directives):
    """What an administrator does to use them."""
    for directive in directives:
        text, count = re.subn(rf"(?m)^(\s*)#({re.escape(directive)}.*)$", r"\1\2", text)
        assert count == 1, directive
    return text


def look_from_elsewhere(folder, port):
    """By TLS from another machine, which the web server believes: {path and whether with a login: status}."""
    context, found = ssl.create_default_context(cafile=folder / "cert.pem"), {}
    login = {"Authorization": "Basic " + base64.b64encode(b"lead:S3cret word").decode()}
    for path in "dashboard/", "dashboard/dashboard.js", "report.json", "livez":
        for headers in {}, login:
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
            connection.request("GET", f"{LOCATION}/{path}", headers={"X-Client": "203.0.113.9", **headers})
            found[path, bool(headers)] = connection.getresponse().status
            connection.close()
    return found


def make_login(file):
    """As the heads of the web servers' files say."""
    word = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input="S3cret word\n", check=True, capture_output=True, text=True)
    file.write_text(f"lead:{word.stdout}")
    file.chmod(0o640)
    Apache.admit(file)


BY_LOGIN = {(path, login): 403 if path == "livez" else 200 if login else 401
            for path in ("dashboard/", "dashboard/dashboard.js", "report.json", "livez") for login in (False, True)}


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


def send(port, body=b"", method="POST", path=LOCATION, headers=None, timeout=30):
    """One request to the web server on `port`."""
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()
