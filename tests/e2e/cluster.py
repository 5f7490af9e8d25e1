#!/usr/bin/python3
"""A throwaway PostgreSQL cluster for tests: made in a temporary directory, reached by its unix socket only, and
removed to the last file at the end.

    with Cluster() as cluster:
        cluster.createdb("tickets")
        connection = cluster.connect("tickets")

As a command it runs another one beside a cluster, with PGHOST, PGUSER and PGDATABASE set, and returns its status:

    python3 cluster.py -- COMMAND [ARGUMENT ...]

With --template FOLDER it makes one that does not run. Where CLUSTER_TEMPLATE leads to that, the others are copies of it: in a
tenth of the time.
"""

import atexit
import contextlib
import glob
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SUPERUSER = "postgres"
SOURCE = pathlib.Path(__file__).resolve().parents[2] / "sql"
SQL_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "sql")  # expanded

# libpq would take these from the caller's environment and connect to some other server.
LIBPQ_VARIABLES = (
    "PGHOST PGHOSTADDR PGPORT PGDATABASE PGUSER PGPASSWORD PGPASSFILE PGSERVICE PGSERVICEFILE PGOPTIONS PGSSLMODE "
    "PGREQUIREPEER PGCLIENTENCODING PGTZ PGDATESTYLE PGTARGETSESSIONATTRS PGCHANNELBINDING PGAPPNAME"
).split()


def find_bindir():
    """The directory of initdb and postgres: pg_config's, or the newest that Debian's packages left."""
    candidates = []
    if shutil.which("pg_config"):
        answer = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
        candidates.append(answer.stdout.strip())
    debian = glob.glob("/usr/lib/postgresql/*/bin")
    candidates += sorted(debian, key=lambda path: [int(n) for n in re.findall(r"\d+", path)], reverse=True)
    for candidate in candidates:
        if os.access(os.path.join(candidate, "postgres"), os.X_OK):
            return candidate
    raise RuntimeError("PostgreSQL's server programs were not found: install the package postgresql")


def process_stat(pid):
    """The fields of /proc/PID/stat behind the name, which may hold anything: state, ppid, … None: it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def every_process():
    """(pid, fields of process_stat) of each."""
    found = [(int(name), process_stat(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [(pid, fields) for pid, fields in found if fields]


def children_of(parent):
    """The pids of the live children of a process."""
    return [pid for pid, (state, ppid, *_) in every_process() if int(ppid) == parent and state != "Z"]


def is_running(pid):
    """Whether a process still holds resources: a zombie does not."""
    fields = process_stat(pid)
    return fields is not None and fields[0] not in "ZX"


def memory():
    """A folder in memory that has room for some clusters, or None. Each test makes and drops a database of 300 files;
    ext4 then looks long for inodes that nobody has had in the last five seconds."""
    with contextlib.suppress(OSError):
        room = os.statvfs("/dev/shm")
        if room.f_bavail * room.f_frsize > 4 << 30 and os.access("/dev/shm", os.W_OK):
            return "/dev/shm"
    return None


# Runs beside us and reads from a pipe that only we can write to: when it ends without a word, we were killed.
GUARD = """
read -r word && exit
pid=$(head -n 1 "$1/data/postmaster.pid")
if grep -q -- "$1/data" "/proc/$pid/cmdline"; then
    kill -CONT $(pgrep -P "$pid") "$pid"
    kill -QUIT "$pid"
    for try in $(seq 100); do
        grep -q -- "$1/data" "/proc/$pid/cmdline" || break
        sleep 0.1
    done
fi
rm -rf -- "$1"
"""


class Cluster:
    """One server. `fsync=True` makes it as durable as a real one, which only tests of durability need; that is on disk.
    `settings` are further settings of postgresql.conf. `on_disk`: it will grow beyond a GB."""

    def __init__(self, fsync=False, settings=None, on_disk=False):
        self.fsync = fsync
        self.on_disk = fsync or on_disk
        self.settings = {
            "listen_addresses": "",
            "port": "5432",  # no TCP port is opened: it is only a part of the socket's name
            "max_connections": "100",
            "log_line_prefix": "%m [%p] ",
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            # All in its folder, which goes with it, also when it is killed, and not much, for that may be in memory.
            **({} if fsync else {"dynamic_shared_memory_type": "mmap", "max_wal_size": "256MB"}),
            **(settings or {}),
        }
        self.bindir = find_bindir()
        self.directory = None
        self.process = None
        self.frozen = []
        self.owner = None
        self.guard = None

    # -- life ---------------------------------------------------------------------------------------------------

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def start(self, wait=60):
        """Starts the server, making the cluster on the first call, and returns when it accepts connections."""
        if self.process:
            raise RuntimeError("already started")
        if not self.directory:
            self._create()
        command = [self._program("postgres"), "-D", self._data, "-k", self.directory]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        # A session of its own: Ctrl-C in the terminal reaches us, and we stop the server in our order.
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self._as_owner(command), cwd="/", env={**self._clean_environment(), "HOME": self.directory},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        deadline = time.monotonic() + wait
        while not self._accepts():
            if self.process.poll() is not None:
                self.process = None
                raise RuntimeError("the server did not start:\n" + self.log()[-2000:])
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server is not ready after {wait} s:\n" + self.log()[-2000:])
            time.sleep(0.02)

    def stop(self, mode="fast", wait=60):
        """Stops the server: `smart` waits for the sessions to end, `fast` ends them, `immediate` is a crash that
        tells the backends. The data stay; start() goes on with them."""
        if not self.process:
            return
        self.thaw()
        how = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        self.process.send_signal(how)
        self.process.wait(wait)
        self.process = None

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def kill9(self, wait=30):
        """Kills every process of the server at once, as the kernel does when memory runs out."""
        if not self.process:
            return
        # Stopped first, the postmaster forks and reaps nothing: the list is complete and no pid in it is used anew.
        self.process.send_signal(signal.SIGSTOP)
        backends = children_of(self.process.pid)
        self._signal(backends, signal.SIGKILL)
        self.process.kill()
        self.process.wait(wait)
        self.process = None
        self.frozen = []
        # The next start is refused as long as one of them is attached to the shared memory.
        deadline = time.monotonic() + wait
        while any(is_running(pid) for pid in backends):
            if time.monotonic() > deadline:
                raise TimeoutError("backends survive SIGKILL")
            time.sleep(0.01)

    def freeze(self):
        """Stops the server's processes where they are: sockets stay open and nobody answers."""
        if self.frozen:
            return
        self.process.send_signal(signal.SIGSTOP)  # first, so that it forks no further backend
        self.frozen = [self.process.pid]
        backends = children_of(self.process.pid)
        self._signal(backends, signal.SIGSTOP)
        self.frozen += backends

    def thaw(self):
        """Undoes freeze()."""
        if self.frozen:
            self._signal(reversed(self.frozen), signal.SIGCONT)  # the postmaster last: it has children to look at
            self.frozen = []

    def remove(self):
        """Stops the server whatever state it is in and removes its directory. May be called again."""
        if self.owner != os.getpid():
            return  # nothing made yet, or we are a fork of the process that made it
        try:
            try:
                self.stop("immediate", wait=20)
            except subprocess.TimeoutExpired:
                self.kill9()
        finally:
            if self.directory:
                shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None
            atexit.unregister(self.remove)
            if self.guard:
                self.guard.communicate(b"done\n")
            self.guard = None

    # -- use ----------------------------------------------------------------------------------------------------

    def conninfo(self, dbname="postgres", user=SUPERUSER):
        return f"host={self.directory} port={self.settings['port']} dbname={dbname} user={user}"

    def environment(self, dbname="postgres", user=SUPERUSER):
        """os.environ with libpq's variables leading here."""
        return {**self._clean_environment(), "PGHOST": self.directory, "PGPORT": self.settings["port"],
                "PGUSER": user, "PGDATABASE": dbname}

    def connect(self, dbname="postgres", user=SUPERUSER, autocommit=True):
        """A psycopg2 connection."""
        import psycopg2  # here, because the command below does without it

        connection = psycopg2.connect(self.conninfo(dbname, user))
        connection.autocommit = autocommit
        return connection

    def execute(self, sql, parameters=None, dbname="postgres", user=SUPERUSER):
        """Runs SQL in a connection of its own and returns the rows (an empty list where there are none)."""
        connection = self.connect(dbname, user)
        try:
            cursor = connection.cursor()
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def psql(self, *arguments, dbname="postgres", user=SUPERUSER, stdin=None):
        """Runs psql, which stops at the first error, and returns its output, unaligned and without headers."""
        done = subprocess.run(
            [self._program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", *arguments],
            env=self.environment(dbname, user), input=stdin, capture_output=True, text=True,
        )
        if done.returncode:
            raise RuntimeError(f"psql failed:\n{done.stderr}")
        return done.stdout

    def createdb(self, name, template="template1"):
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')

    def install_schema(self, dbname, sql_dir=None):
        """What `ticketd migrate` does to an empty database, for tests that go without the program; numbered files beside
        the folders come last."""
        folder = pathlib.Path(sql_dir or SQL_DIR)
        connection = self.connect(dbname, autocommit=False)
        try:
            cursor = connection.cursor()
            cursor.execute("SET LOCAL search_path = pg_catalog; SET LOCAL check_function_bodies = off")

            def run(path):
                text = path.read_text(encoding="utf-8")
                if re.search("^(?!--).", text, re.MULTILINE):  # not only comments
                    cursor.execute(text)

            def files(name):  # but for what an earlier build has left there
                return [path for path in sorted((folder / name).glob("*.sql")) if (SOURCE / name / path.name).exists()]

            for path in files("schema") + files("functions"):
                run(path)
            cursor.executemany("INSERT INTO vcc.migrations (version, name) VALUES (%s, %s)",
                               [(int(path.stem[:3]), path.stem) for path in files("schema")[1:]])  # fmt: skip
            views = files("views")
            while views:  # one may read another
                path = views.pop(0)
                cursor.execute("SAVEPOINT before")
                try:
                    run(path)
                except Exception as error:
                    if getattr(error, "pgcode", None) != "42P01":  # undefined_table
                        raise
                    cursor.execute("ROLLBACK TO before")
                    views.append(path)
            run(folder / "comments.sql")
            run(folder / "queries/remember_grants.sql")
            run(folder / "queries/grant_roles.sql")
            run(folder / "queries/prepare_journal.sql")
            for path in sorted(folder.glob("[0-9]*.sql")):
                run(path)
            connection.commit()
        finally:
            connection.close()

    @property
    def log_path(self):
        return os.path.join(self.directory, "log")

    def log(self):
        """What the server wrote to its log."""
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def pid(self):
        return self.process.pid if self.process else None

    # -- inside -------------------------------------------------------------------------------------------------

    def _create(self):
        # A short path: a socket's has room for 107 bytes.
        self.directory = tempfile.mkdtemp(prefix="pg", dir=None if self.on_disk else memory())
        self.owner = os.getpid()
        atexit.register(self.remove)
        self.guard = subprocess.Popen(
            ["sh", "-c", GUARD, "guard", self.directory], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
        )
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            os.chmod(self.directory, 0o755)  # others than postgres connect to the socket in it
        subprocess.run(
            self._as_owner(self._fill_command([] if self.fsync else ["--no-sync"])),
            cwd="/", env=self._clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=True,
        )

    def _fill_command(self, options):
        if "CLUSTER_TEMPLATE" in os.environ:
            return ["cp", "-a", os.environ["CLUSTER_TEMPLATE"], self._data]
        return [self._program("initdb"), "-D", self._data, "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
                "--locale=C.UTF-8", *options]

    @property
    def _data(self):
        return os.path.join(self.directory, "data")

    def _program(self, name):
        return os.path.join(self.bindir, name)

    @staticmethod
    def _as_owner(command):
        """PostgreSQL refuses to run as root. setpriv becomes the program, so the pid we know is the server's."""
        if os.geteuid() == 0:
            return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        return command

    @staticmethod
    def _clean_environment():
        return {name: value for name, value in os.environ.items() if name not in LIBPQ_VARIABLES}

    def _accepts(self):
        """The last line of postmaster.pid says it, as pg_ctl reads it; the first one that it is not a leftover."""
        try:
            with open(os.path.join(self._data, "postmaster.pid"), encoding="ascii") as file:
                lines = file.read().split("\n")
        except (FileNotFoundError, PermissionError):
            return False
        return lines[0] == str(self.process.pid) and len(lines) > 7 and lines[7].strip() in ("ready", "standby")

    @staticmethod
    def _signal(pids, number):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass


class Standby(Cluster):
    """A streaming replica of a running cluster. It follows until promote()."""

    def __init__(self, primary, settings=None):
        super().__init__(primary.fsync, settings)
        self.primary = primary

    def _fill_command(self, options):
        return [self._program("pg_basebackup"), "-D", self._data, "-h", self.primary.directory, "-p", self.primary.settings["port"],
                "-U", SUPERUSER, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast",
                *options]

    def promote(self):
        """Returns when it can be written to."""
        assert self.execute("SELECT pg_promote()") == [(True,)]


def main(arguments):
    if len(arguments) < 2 or arguments[0] not in ("--", "--template"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    if arguments[0] == "--template":
        with Cluster() as cluster:
            cluster.stop()
            return subprocess.call(["cp", "-a", cluster._data, arguments[1]])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that the cluster is removed
    try:
        with Cluster() as cluster:
            status = subprocess.call(arguments[1:], env=cluster.environment())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except FileNotFoundError as error:
        print(f"cluster.py: {error}", file=sys.stderr)
        return 127
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
