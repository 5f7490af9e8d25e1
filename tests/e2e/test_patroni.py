"""Patroni moves the leader by request, and after its death: the file that users copy, two nodes and an etcd, under load.

Of contrib/patroni/patroni.yml only addresses, ports, names and paths are changed, and the times: a leader is given up after 10 s
instead of 30, since nobody wants to wait for a test."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from cluster import SUPERUSER, Cluster, children_of, is_running
from conftest import ROOT, Database, Handler, environment, free_port, send, stop, temporary_folder, wait_until
from test_failover import Load, assert_nothing_is_lost, restart_and_drain

pytestmark = [pytest.mark.skipif(not shutil.which(program), reason=f"{package} is not installed")
              for program, package in (("patroni", "patroni"), ("etcd", "etcd-server"))]  # fmt: skip

SHIPPED = (ROOT / "contrib/patroni/patroni.yml").read_text()
TIMES = {"ttl": 10, "loop_wait": 1, "retry_timeout": 4}
PASSWORD = re.search(r"username: postgres\n +password: (\S+)", SHIPPED)[1]
PATIENCE_S = 60  # about six times what a step takes on a machine with nothing else to do


def clean_environment(**more):
    """Variables of these names would overrule file and command line."""
    return {**{k: v for k, v in environment().items() if not k.startswith(("PATRONI", "ETCD"))}, **more}


def ends_with_us(command):
    """Killed by the kernel when we end without a word. PostgreSQL, which is not our child, has Cluster's guard."""
    return ["setpriv", "--pdeathsig", "KILL", *command]


def answers_200(port, path):
    with contextlib.suppress(OSError):
        return send(port, method="GET", path=path, timeout=5).status == 200
    return False


class Etcd:
    """One that is alone."""

    def __init__(self, folder):
        self.folder = folder
        self.port, peer = free_port(), free_port()
        self.command = ["etcd", "--data-dir", str(folder / "etcd"), "--initial-cluster", f"default=http://127.0.0.1:{peer}"]
        for name, port in ("client", self.port), ("peer", peer):
            advertise = "--advertise-client-urls" if name == "client" else "--initial-advertise-peer-urls"
            self.command += [f"--listen-{name}-urls", f"http://127.0.0.1:{port}", advertise, f"http://127.0.0.1:{port}"]
        self.process = None

    def start(self):
        with open(self.folder / "etcd.log", "ab") as log:
            self.process = subprocess.Popen(ends_with_us(self.command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=clean_environment(), start_new_session=True)  # fmt: skip
        wait_until(lambda: answers_200(self.port, "/health"), PATIENCE_S, "etcd")

    def stop(self):
        if self.process:
            stop(self.process)


class Node(Cluster):
    """A Patroni and the PostgreSQL that it makes, starts and stops; process is Patroni."""

    def __init__(self, name, etcd):
        super().__init__()
        self.name, self.etcd = name, etcd
        self.port, self.rest = free_port(), free_port()

    def start(self, wait=PATIENCE_S):
        if not self.directory:
            self._create()
            self.configure()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self._as_owner(ends_with_us(["patroni", self.conf])), cwd="/", stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=clean_environment(HOME=self.directory), start_new_session=True)  # fmt: skip

    def _fill_command(self, options):
        return ["true"]  # Patroni does it

    def configure(self):
        """The file as it is installed, and what differs here."""
        text = SHIPPED
        changes = {
            "name: db1": f"name: {self.name}",
            "127.0.0.1,192.0.2.11:5432": f"127.0.0.1:{self.port}",
            "192.0.2.11:5432": f"127.0.0.1:{self.port}",
            "192.0.2.11:8008": f"127.0.0.1:{self.rest}",
            "192.0.2.10:2379": f"127.0.0.1:{self.etcd.port}",
            "192.0.2.10/32": "127.0.0.1/32",
            "192.0.2.11/32": "127.0.0.1/32",
            "/var/lib/postgresql/15/tickets": self._data,
            "/usr/lib/postgresql/15/bin": self.bindir,
            "/run/postgresql": self.directory,
        }
        for what, by in changes.items():
            assert what in text, what
            text = text.replace(what, by)
        for name, seconds in TIMES.items():
            text, found = re.subn(rf"^( +{name}:) \d+$", rf"\1 {seconds}", text, flags=re.MULTILINE)
            assert found == 1, name
        self.conf = os.path.join(self.directory, "patroni.yml")
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(text)

    def conninfo(self, dbname="postgres", user=SUPERUSER):
        return f"host=127.0.0.1 port={self.port} dbname={dbname} user={user} password={PASSWORD}"

    def stop(self, mode="immediate", wait=30):
        """What is in it is of no use to anybody later, hence the quick way."""
        self.kill9(wait)

    def kill9(self, wait=30):
        """The machine is gone: Patroni first, so that it starts nothing again, and every process of its PostgreSQL."""
        if not self.process:
            return
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self.process.pid, signal.SIGKILL)  # what it runs for a moment, as pg_rewind, is of its group
        self.process.wait(wait)
        self.process = None
        postmaster = self.postmaster()
        if not postmaster:
            return
        self._signal([postmaster], signal.SIGSTOP)  # it forks nothing any more
        pids = [*children_of(postmaster), postmaster]
        self._signal(pids, signal.SIGKILL)
        wait_until(lambda: not any(is_running(pid) for pid in pids), wait, "the end of all")

    def postmaster(self):
        """None: it is not there. The file may be of one that was killed, and the number somebody else's now."""
        try:
            with open(os.path.join(self._data, "postmaster.pid"), encoding="ascii") as file:
                pid = int(file.readline())
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                return pid if self._data in file.read() else None
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None

    def wal_receiver(self):
        for pid in children_of(self.postmaster()):
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                if " walreceiver " in file.read():
                    return pid
        raise AssertionError("no WAL receiver")

    def is_leader(self):
        return answers_200(self.rest, "/primary")

    def is_synchronous(self):
        return answers_200(self.rest, "/synchronous")


class Patroni:
    """The whole: nodes, the etcd, and a database that ticketd migrated."""

    def __init__(self, stack, folder):
        self.etcd = Etcd(folder)
        stack.callback(self.etcd.stop)
        self.etcd.start()
        self.nodes = [stack.enter_context(Node(name, self.etcd)) for name in ("db1", "db2")]
        leader, _ = self.roles()
        self.database = Database(leader, "tickets")
        self.database.connection.close()
        leader.execute(f"ALTER ROLE handler PASSWORD '{PASSWORD}'")
        ports = ",".join(str(node.port) for node in self.nodes)
        self.conninfo = (f"host=127.0.0.1,127.0.0.1 port={ports} dbname=tickets user=handler password={PASSWORD} "
                         "target_session_attrs=read-write")  # fmt: skip

    def roles(self):
        """The leader and its synchronous standby, as soon as there are both."""
        def found():
            for one, other in self.nodes, self.nodes[::-1]:
                if one.is_leader() and other.is_synchronous():
                    return one, other
            return None
        return self.wait_until(found, "a leader and its synchronous standby")

    def wait_until(self, condition, what):
        try:
            return wait_until(condition, PATIENCE_S, what)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *(node.log()[-3000:] for node in self.nodes)])) from None

    def ctl(self, *arguments):
        done = subprocess.run(["patronictl", "-c", self.nodes[0].conf, *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, env=clean_environment())  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def patroni():
    with contextlib.ExitStack() as stack:
        yield Patroni(stack, stack.enter_context(temporary_folder()))


@pytest.fixture
def under_load(patroni, folder):
    """A context: clients at work while it lasts; afterwards the leader has what was answered 200."""

    @contextlib.contextmanager
    def under_load(what):
        handler = Handler(folder, patroni.database, TICKETD_DATABASE=patroni.conninfo, TICKETD_DB_TIMEOUT_MS=1000,
                          TICKETD_SPOOL_DIR=str(folder / "spool"))  # fmt: skip
        try:
            load = Load(handler, pause=0.005)  # the tests beside us want to live, and a spool shall not grow for a minute
            try:
                wait_until(lambda: load.count("updated") > 200, PATIENCE_S, "load")
                begun = time.monotonic()
                yield load
                goes_on(load)
            finally:
                load.end()
            restart_and_drain(handler)
        finally:
            handler.stop()
        leader, _ = patroni.roles()
        good = assert_nothing_is_lost(load, lambda sql: leader.execute(sql, dbname="tickets"))
        assert {status for answers in load.answers.values() for status, *_ in answers} == {200}
        times = sorted(load.committed_since(begun - 0.5))
        gap = max(after - before for before, after in zip(times, times[1:]))
        print(f"{what}: {gap:.1f} s without a commit, {load.count('spooled')} events spooled, {good} answered 200")
    return under_load


def goes_on(load):
    before = load.count("updated")
    wait_until(lambda: load.count("updated") > before + 200, PATIENCE_S, "full work")


def test_switchover(patroni, under_load):
    leader, standby = patroni.roles()
    with under_load("switchover"):
        patroni.ctl("switchover", "--force")
        patroni.wait_until(standby.is_leader, "the new leader")
    assert patroni.roles() == (standby, leader)


def test_etcd_is_away(patroni, under_load):
    """failsafe_mode: nobody else can have been made leader while all nodes are there and agree."""
    leader, standby = patroni.roles()
    with under_load("etcd away") as load:
        patroni.etcd.stop()
        time.sleep(TIMES["ttl"] + 2)
        goes_on(load)
        patroni.etcd.start()
    assert patroni.roles() == (leader, standby)


def test_the_leader_is_killed(patroni, under_load):
    """At a moment when its standby is behind: what only the leader has was answered to nobody. Back again it is the
    standby, without that."""
    leader, standby = patroni.roles()
    with under_load("killed") as load:
        receiver = standby.wal_receiver()
        os.kill(receiver, signal.SIGSTOP)
        time.sleep(0.5)
        leader.kill9()
        os.kill(receiver, signal.SIGKILL)  # with what has come to its socket
        patroni.wait_until(standby.is_leader, "the new leader")
        goes_on(load)
        leader.start()
        assert patroni.roles() == (standby, leader)
    for node in patroni.nodes:
        assert "no pg_hba.conf entry" not in node.log()
