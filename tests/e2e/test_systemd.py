"""The unit files, and what a service manager and the program have to say to each other."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import fastcgi
from conftest import ROOT, TICKETD, Nginx, environment, send, stop, wait_until

BODY = b'{"action":"add","ticket":{"projectId":130,"ticketId":21}}'
WATCHDOG_S = 2  # workers without work come back once a second
SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000  # ptrace(2), waitpid(2)


# Files

def install(folder):
    """`make install` to where its paths lead: systemd-analyze looks whether the program is there."""
    built = os.path.dirname(os.path.abspath(TICKETD))
    flags = ["LDFLAGS=--coverage"] if built.endswith("/coverage") else []
    subprocess.run(["make", "-s", "install", f"BUILD={built}", f"PREFIX={folder}", f"SYSCONFDIR={folder}/etc", *flags], cwd=ROOT,
                   check=True)  # fmt: skip
    return [folder / "lib/systemd/system" / name for name in (
        "ticketd.service", "ticketd.socket", "ticketd-reports.service", "ticketd-reports.timer")]


def test_systemd_understands_the_units(folder):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *install(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_hardened(folder):
    service = install(folder)[0]
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", service],
                          capture_output=True, text=True)
    score = re.search(r"exposure level for ticketd.service: ([0-9.]+)", done.stdout)
    assert done.returncode == 0 and float(score[1]) <= 1.5, done.stdout + done.stderr


def test_the_timer_keeps_reports(database):
    """Its command, by the role of the handler."""
    unit = (ROOT / "contrib/systemd/ticketd-reports.service").read_text()
    database.query("SELECT vcc.apply_events(event_id => ARRAY[gen_random_uuid()], received_at => ARRAY[now()], action => '{add}', "
                   "project_id => '{1}', ticket_id => '{1}', payload => '{\"{}\"}')")
    subprocess.run(["sh", "-c", re.search("^ExecStart=(.*)$", unit, re.MULTILINE)[1]], check=True,
                   env=environment(TICKETD_DATABASE=database.handler))
    assert database.query("SELECT project_id, ticket_id FROM vcc.ticket_metrics_kept") == [(1, 1)]


def test_installed_files_lead_to_installed_files(folder):
    install(folder)
    named = set()
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix in (".service", ".socket", ".timer", ".conf", ".env"):
            text = re.sub("#.*", "", file.read_text())
            assert not re.search("/usr/local|[= ]/etc/ticketd", text), file
            named |= set(re.findall(rf"{folder}/s[^\s\"\\;$]+", text))
    assert named and [path for path in named if not os.path.exists(path)] == []


def test_settings_survive_a_second_install(folder):
    install(folder)
    edited = [folder / "etc" / name for name in ("ticketd/ticketd.env", "nginx/snippets/ticketd.conf", "nginx/conf.d/ticketd.conf",
                                                 "apache2/conf-available/ticketd.conf")]  # fmt: skip
    for file in edited:
        assert file.read_text()
        file.write_text("# mine\n")
    install(folder)
    assert {file.read_text() for file in edited} == {"# mine\n"}


def test_the_program_knows_the_settings_of_the_files(folder):
    """As the shell reads them, which a command by hand does."""
    install(folder)
    settings = folder / "etc/ticketd"
    (settings / "token").write_text("0123456789abcdef\n")
    (settings / "token").chmod(0o600)
    (folder / "env").write_text((settings / "ticketd.env").read_text().replace("/var/lib/ticketd", str(folder)))
    done = subprocess.run(["sh", "-c", f'set -a; . {folder}/env; exec "{TICKETD}" check'], env=environment(),
                          capture_output=True, text=True)
    assert done.stdout.startswith("settings   ok: times without an offset are those of UTC\n") and done.stderr == "", done.stdout + done.stderr
    assert "access     ok: 1 token;" in done.stdout and f"{folder}/spool" in done.stdout


# sd_notify

class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, name):
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)

    def next(self, seconds=10):
        self.socket.settimeout(seconds)
        return self.socket.recv(4096).decode()

    def watch(self, seconds):
        """What comes within so many seconds."""
        until, said = time.monotonic() + seconds, []
        with contextlib.suppress(TimeoutError):
            while (left := until - time.monotonic()) > 0:
                said.append(self.next(left))
        return said


@pytest.fixture
def manager(folder):
    manager = Manager(str(folder / "notify"))
    yield manager
    manager.socket.close()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_ready_reloading_stopping(folder, start, abstract):
    manager = Manager(f"@ticketd-{os.getpid()}-{time.time_ns()}" if abstract else str(folder / "notify"))
    (folder / "token").write_text("0123456789abcdef\n")
    handler = start(NOTIFY_SOCKET=manager.name, TICKETD_TOKEN_FILE=folder / "token")
    assert manager.next() == "READY=1"
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(b"", method="GET", uri="/vcc/tickets/livez"))
        assert c.answer().startswith("Status: 200")

    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    handler.process.send_signal(signal.SIGHUP)
    reloading = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.next())
    assert manager.next() == "READY=1\nSTATUS="
    assert before <= int(reloading[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert manager.watch(0.5) == []  # nobody asked for signs of life

    assert handler.stop() == 0
    assert manager.watch(0.5) == ["STOPPING=1"]
    manager.socket.close()


def test_not_ready_where_it_cannot_serve(folder, manager):
    done = subprocess.run([TICKETD], env=environment(NOTIFY_SOCKET=manager.name, TICKETD_LISTEN="unix:/nowhere/socket",
                                                     TICKETD_AUTH="none"), capture_output=True, timeout=10)
    assert done.returncode == 1
    assert manager.watch(0.2) == []


def test_a_manager_that_cannot_be_reached_is_no_hindrance(start):
    for name in "/nowhere/notify", "relative", "@" + "x" * 200, "vsock:2:1234":
        handler = start(NOTIFY_SOCKET=name, WATCHDOG_USEC=200000)
        time.sleep(0.2)
        assert handler.stop() == 0


@pytest.mark.parametrize("whose, pings", [("$$", True), ("1", False)], ids=["ours", "another's"])
def test_signs_of_life_only_where_they_are_ours(folder, database, manager, whose, pings):
    process = subprocess.Popen(
        ["sh", "-c", f'export WATCHDOG_PID={whose}; exec "{TICKETD}"'], stderr=subprocess.DEVNULL,
        env=environment(NOTIFY_SOCKET=manager.name, WATCHDOG_USEC=WATCHDOG_S * 1000000, TICKETD_AUTH="none",
                        TICKETD_LISTEN=f"unix:{folder}/ticketd.sock", TICKETD_DATABASE=database.handler))
    try:
        assert manager.next() == "READY=1"
        said = manager.watch(3 * WATCHDOG_S)  # twice in each
        assert set(said) <= {"WATCHDOG=1"} and (len(said) >= 4 if pings else not said)
    finally:
        assert stop(process) == 0


@contextlib.contextmanager
def frozen(process, thread):
    """One thread of a process stands still: 0 the main thread, then writers, then workers."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p
    number = sorted(map(int, os.listdir(f"/proc/{process.pid}/task")))[thread]
    for request in SEIZE, INTERRUPT:
        assert libc.ptrace(request, number, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(number, WALL)
    try:
        yield
    finally:
        libc.ptrace(DETACH, number, None, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: ticketd lets no other process stop its threads")
def test_no_sign_of_life_while_a_worker_stands_still(start, manager):
    """One of two is enough, whether it leads or not. A writer may stand still: it may be waiting for a slow database."""
    handler = start(NOTIFY_SOCKET=manager.name, WATCHDOG_USEC=WATCHDOG_S * 1000000, TICKETD_WORKERS=2)
    assert manager.next() == "READY=1"
    with frozen(handler.process, 1):
        manager.watch(1.5 * WATCHDOG_S)
        assert manager.watch(WATCHDOG_S)
    for worker in 2, 3:
        with frozen(handler.process, worker):
            manager.watch(1.5 * WATCHDOG_S)
            assert manager.watch(1.5 * WATCHDOG_S) == []
        assert manager.watch(2 * WATCHDOG_S)
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(BODY))
        assert "inserted" in c.answer()


def test_signs_of_life_while_the_database_is_slow(start, database, manager):
    handler = start(NOTIFY_SOCKET=manager.name, WATCHDOG_USEC=WATCHDOG_S * 1000000, TICKETD_WORKERS=1)
    assert manager.next() == "READY=1"
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(BODY))
        wait_until(database.handler_waits_for_a_lock, what="an event that waits")
        manager.watch(WATCHDOG_S)
        assert manager.watch(WATCHDOG_S)
        database.query("ROLLBACK")
        assert c.answer()


# Sockets that outlive the process

def test_started_by_systemd_at_the_first_connection(folder, database):
    path = str(folder / "activated.sock")
    settings = {"TICKETD_DATABASE": database.handler, "TICKETD_AUTH": "none"}
    process = subprocess.Popen(
        ["systemd-socket-activate", "-l", path, *(f"--setenv={k}={v}" for k, v in settings.items()), TICKETD, "serve"],
        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment())
    try:
        wait_until(lambda: os.path.exists(path), what="the socket")
        with fastcgi.Connection(path) as c:
            c.send(fastcgi.request(BODY))
            assert "inserted" in c.answer()
    finally:
        assert stop(process) == 0
    assert os.path.exists(path)


def serve_inherited(listener, database, log):
    """As systemd starts it. The shell sets LISTEN_PID to the process id that the exec keeps."""
    return subprocess.Popen(
        ["sh", "-c", f'export LISTEN_PID=$$; exec "{TICKETD}" serve'], pass_fds=[3], stdin=subprocess.DEVNULL, stderr=log,
        preexec_fn=lambda: os.dup2(listener.fileno(), 3, inheritable=True),
        env=environment(TICKETD_DATABASE=database.handler, TICKETD_AUTH="none", LISTEN_FDS="1"))


@pytest.mark.parametrize("keep", ["on", "off"])
def test_restarts_under_load_refuse_nothing(folder, database, keep):
    """Through nginx: what arrives while no process is there waits in the socket. With a connection for each event every
    answer is 200; a kept one may be closed just as nginx sends on it, which costs a 503 now and then and loses nothing."""
    path = str(folder / "kept.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4096)
    over, answers, starts = threading.Event(), [], 0

    def load(project):
        ticket = 0
        while not over.is_set():
            ticket += 1
            answer = send(nginx.port, {"action": "add", "ticket": {"projectId": project, "ticketId": ticket}})
            answers.append((answer.status, answer.body, answer.headers["Retry-After"]))

    with open(folder / "log", "wb") as log:
        process = serve_inherited(listener, database, log)
        nginx = Nginx(folder, path, Nginx.installed_location(folder).replace("fastcgi_keep_conn on", f"fastcgi_keep_conn {keep}"))
        threads = [threading.Thread(target=load, args=(n,)) for n in range(1, 9)]
        try:
            for thread in threads:
                thread.start()
            for starts in range(1, 9):
                seen = len(answers)
                wait_until(lambda: len(answers) > seen + 50 or not all(t.is_alive() for t in threads), what="load")
                assert stop(process) == 0
                time.sleep(0.1)  # nobody is there
                process = serve_inherited(listener, database, log)
        finally:
            over.set()
            for thread in threads:
                thread.join()
            nginx.stop()
            status = stop(process)
            listener.close()
    assert status == 0 and starts == 8
    away = [answer for answer in answers if answer[0] != 200]
    assert not away if keep == "off" else len(away) < len(answers) / 20
    assert {(status, retry) for status, _, retry in away} <= {(503, "10")}, away
    assert database.value("SELECT count(*) FROM vcc.tickets") == len(answers) - len(away)
