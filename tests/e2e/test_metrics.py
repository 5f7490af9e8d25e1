"""What monitoring sees: /metrics, the rules and the dashboard that use it, and livez and readyz in every state."""

import concurrent.futures
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter

import fastcgi
import pytest
from conftest import LOCATION, ROOT, body, event, send, wait_until
from test_spool import ask, spool  # noqa: F401, a fixture

SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (-?[0-9.e+]+)$')
NAME = re.compile(r"\b(?:ticketd|process)_[a-z_]+")


def get(handler, place):
    """The status, the head and the body of GET …/place."""
    with fastcgi.Connection(handler.socket) as c:
        c.send(fastcgi.request(b"", method="GET", uri=f"{LOCATION}/{place}"))
        head, _, text = c.answer().partition("\r\n\r\n")
    return int(re.match(r"Status: (\d+)", head)[1]), head, text


def scrape(handler):
    """Every sample: {(name, labels): value}."""
    status, _, text = get(handler, "metrics")
    assert status == 200
    samples = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = SAMPLE.match(line).groups()
            assert (name, labels) not in samples, line
            samples[name, labels] = float(value)
    return samples


def value(samples, name, labels=None):
    return samples[f"ticketd_{name}", labels]


def by_label(samples, name):
    """{values of its labels: value} of those that are not 0."""
    return {tuple(re.findall(r'"(.*?)"', labels)): number for (found, labels), number in samples.items()
            if found == f"ticketd_{name}" and number}  # fmt: skip


def families(handler):
    return re.findall(r"^# TYPE (\S+) (\S+)$", get(handler, "metrics")[2], re.MULTILINE)


def test_prometheus_likes_it(nginx):
    send(nginx.port, event("add"))
    answer = send(nginx.port, method="GET", path=LOCATION + "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    checked = subprocess.run(["promtool", "check", "metrics"], input=answer.body, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_what_is_counted(start, database):
    handler = start(TICKETD_TOKEN="secret", TICKETD_MAX_BODY_KB="1")
    before = time.time()
    seen = Counter()
    query = "secret-key=secret"
    for content in [event("add"), event("add"), event("update", title="a"), event("update", title="a"), event("delete"),
                    event("update"), event("delete", 22), "{", {"action": "add"}, event("add", title="x" * 2000)]:
        content = content if isinstance(content, str) else json.dumps(content)
        seen[ask(handler.socket, content.encode(), uri=f"{LOCATION}?{query}")[0]] += 1
    seen[ask(handler.socket, b"{}")[0]] += 1
    seen[ask(handler.socket, b"{}", method="PATCH")[0]] += 1
    assert dict(seen) == {200: 7, 400: 1, 422: 1, 413: 1, 401: 1, 405: 1}

    samples = scrape(handler)
    assert by_label(samples, "requests_total") == {(str(status),): n for status, n in seen.items()}
    last = by_label(samples, "last_request_timestamp_seconds")
    assert last.keys() == {(str(status),) for status in seen} and all(before < at < time.time() for at in last.values())
    journal = database.query("SELECT action, result, count(*) FROM vcc.ticket_events GROUP BY 1, 2")
    assert by_label(samples, "events_total") == {(action, result): n for action, result, n in journal}
    assert value(samples, "rejected_events_total") == database.value("SELECT count(*) FROM vcc.rejected_events") == 2
    for name, count, total in ("batch_events", 9, 9), ("request_duration_seconds", 9, None), \
                              ("commit_duration_seconds", 9, None):  # fmt: skip
        buckets = [n for (found, _), n in samples.items() if found == f"ticketd_{name}_bucket"]
        assert buckets == sorted(buckets) and buckets[-1] == value(samples, f"{name}_count") == count
        assert value(samples, f"{name}_sum") == total if total else 0 < value(samples, f"{name}_sum") < 5
    assert before < value(samples, "last_event_timestamp_seconds") < time.time()
    assert before - 10 < samples["process_start_time_seconds", None] < time.time()
    wait_until(lambda: value(scrape(handler), "connections") == 1, what="the end of the others")
    samples = scrape(handler)
    for name, expected in {"queue_events": 0, "queue_bytes": 0, "database_up": 1, "database_connections": 1,
                           "database_connects_total": 1, "spool_max_bytes": 0}.items():  # fmt: skip
        assert value(samples, name) == expected, name
    # Probes are no requests.
    assert by_label(scrape(handler), "requests_total") == by_label(samples, "requests_total")


def test_counted_by_many_threads(start, database):
    handler = start(TICKETD_WORKERS="4", TICKETD_WRITERS="3")
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(ask, handler.socket, body(i, "x" * i)) for i in range(40)]
        wait_until(lambda: value(scrape(handler), "queue_events") == 40, what="forty in the queue")
        samples = scrape(handler)
        assert value(samples, "queue_bytes") == sum(len(body(i, "x" * i)) for i in range(40))
        # And the one that asks; the one that asked before may be about to close.
        wait_until(lambda: value(scrape(handler), "connections") == 41, what="forty connections and one")
        database.query("COMMIT")
        assert {a.result()[0] for a in answers} == {200}
    samples = scrape(handler)
    assert (value(samples, "queue_events"), value(samples, "queue_bytes")) == (0, 0)
    assert value(samples, "batch_events_sum") == 40 > value(samples, "batch_events_count") >= 3
    assert value(samples, "request_duration_seconds_count") == 40
    assert value(samples, "database_connections") == 3
    wait_until(lambda: value(scrape(handler), "connections") == 1, what="the end of the others")


@contextlib.contextmanager
def away(cluster):
    cluster.stop()
    try:
        yield
    finally:
        cluster.start()


def test_an_outage_in_numbers(cluster, spool, database):
    handler = spool.handler()
    assert ask(handler.socket, body(1, "a"))[1]["result"] == "inserted"
    with away(cluster):
        for i in range(5):
            assert ask(handler.socket, body(1, str(i)))[1]["result"] == "spooled"
        time.sleep(1.1)  # measured once a second
        samples = scrape(handler)
        for name, expected in {"database_up": 0, "database_connections": 0, "spool_events": 5, "drained_events_total": 0,
                               "spool_max_bytes": 1024 * 1024 * 1024}.items():  # fmt: skip
            assert value(samples, name) == expected, name
        assert by_label(samples, "events_total")["update", "spooled"] == 5
        assert 0 < value(samples, "spool_bytes") <= sum(f.stat().st_size for f in spool.path.glob("spool.db*"))
        assert 1 < value(samples, "spool_oldest_age_seconds") < 10
        assert value(samples, "database_failures_total") >= 1
    database.reconnect()
    for name, expected in ("drained_events_total", 5), ("database_up", 1), ("spool_bytes", 0), ("database_connections", 1):
        wait_until(lambda: value(scrape(handler), name) == expected, 15, name)
    samples = scrape(handler)
    assert (value(samples, "spool_events"), value(samples, "spool_oldest_age_seconds")) == (0, 0)
    assert value(samples, "database_connects_total") >= 2


@pytest.mark.parametrize("ago", ["10 seconds", "5 minutes", "3 hours", "9 days"])
def test_the_last_event_before_the_start_is_known(start, database, ago):
    """Else TicketdSilent could not fire after a restart."""
    received = database.value(f"SELECT extract(epoch FROM now() - interval '{ago}')::bigint")
    database.query("""SELECT vcc.apply_events(ticket_id => '{1}', project_id => '{1}', action => '{add}', payload => '{"{}"}',
        received_at => ARRAY[to_timestamp(%s)])""", received)
    handler = start()
    wait_until(lambda: value(scrape(handler), "last_event_timestamp_seconds") == received, what="the last event")
    ask(handler.socket, body(1))
    assert value(scrape(handler), "last_event_timestamp_seconds") > time.time() - 5


def test_what_other_processes_spool_is_counted(spool):
    """And what has waited since before the start; each record is looked at once."""
    one = spool.handler(reachable=False, name="one")
    for i in range(3):
        assert ask(one.socket, body(1, str(i)))[1]["result"] == "spooled"
    two = spool.handler(reachable=False, name="two")
    wait_until(lambda: value(scrape(two), "spool_events") == 3, what="the spool of the first")
    for i in range(3):
        assert ask(one.socket, body(2, str(i)))[1]["result"] == "spooled"
    wait_until(lambda: value(scrape(two), "spool_events") == 6, what="what came since")
    assert value(scrape(one), "spool_events") == 6
    assert "events      6\n" in spool.command("spool", "status").stdout


# -- rules and dashboard --------------------------------------------------------------------------------------------

ALERTS = ROOT / "contrib/monitoring/alerts.yml"
DASHBOARD = ROOT / "contrib/monitoring/dashboard.json"


def samples_of(handler):
    """The names that may stand in a query."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + suffix for name, kind in families(handler) for suffix in suffixes.get(kind, ("",))}


def expressions():
    return [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]


def test_only_names_that_exist(handler):
    names = samples_of(handler)
    used = set(NAME.findall(" ".join(re.findall(r"expr: (.*)", ALERTS.read_text()))))
    assert len(used) > 5 and used <= names, used - names
    shown = set(NAME.findall(" ".join(expressions()))) - {"process_start_time"}
    assert shown <= names, shown - names
    # And the dashboard leaves nothing out.
    missing = {name for name, _ in families(handler) if not any(used.startswith(name) for used in shown)}
    assert not missing


def test_the_dashboards_queries_can_be_read(folder):
    rules = [{"record": f"panel:{i}", "expr": re.sub(r"\$__rate_interval", "1m", e).replace("$instance", ".*")}
             for i, e in enumerate(expressions())]  # fmt: skip
    file = folder / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    checked = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


# Each alert: series that fire it, in steps of a minute, and series that do not.
LABELS = 'instance="a", job="ticketd"'
CASES = {
    "TicketdDown": ({"up": "1 0x9"}, {"up": "1 0 1x8"}),
    "TicketdTurnsEventsAway": ({'ticketd_requests_total{status="503"}': "0+1x9"},
                               {'ticketd_requests_total{status="503"}': "7x9"}),
    "TicketdDatabaseAway": ({"ticketd_database_up": "0x9"}, {"ticketd_database_up": "0 1x9"}),
    "TicketdDatabaseNodeAway": ({"ticketd_database_nodes_away": "1x9"}, {"ticketd_database_nodes_away": "1 0x9"}),
    "TicketdSpoolFull": ({"ticketd_spool_bytes": "90x9", "ticketd_spool_max_bytes": "100x9"},
                         {"ticketd_spool_bytes": "0x9", "ticketd_spool_max_bytes": "0x9"}),
    "TicketdSpoolLingers": ({"ticketd_spool_oldest_age_seconds": "900+60x9"}, {"ticketd_spool_oldest_age_seconds": "800x9"}),
    "TicketdHoldsTickets": ({"ticketd_spool_held_age_seconds": "300+60x9"}, {"ticketd_spool_held_age_seconds": "200x9"}),
    "TicketdRejectsEvents": ({"ticketd_rejected_events_total": "0 0 1x8"}, {"ticketd_rejected_events_total": "1x9"}),
    "TicketdRefusesMuch": ({'ticketd_requests_total{status="422"}': "0+60x20"}, {'ticketd_requests_total{status="422"}': "0+1x20"}),
    "TicketdTooLarge": ({'ticketd_requests_total{status="413"}': "0 0 1x8"}, {'ticketd_requests_total{status="413"}': "1x9"}),
    "TicketdUnauthorized": ({'ticketd_requests_total{status="401"}': "0+60x20"},
                            {'ticketd_requests_total{status="401"}': "0+1x20"}),
    "TicketdReloadFailed": ({"ticketd_reload_failed": "1x9"}, {"ticketd_reload_failed": "1 0x8"}),
    "TicketdSlow": ({'ticketd_request_duration_seconds_bucket{le="1"}': "0x20",
                     'ticketd_request_duration_seconds_bucket{le="10"}': "0+9x20",
                     'ticketd_request_duration_seconds_bucket{le="+Inf"}': "0+9x20"},
                    {'ticketd_request_duration_seconds_bucket{le="1"}': "0+9x20",
                     'ticketd_request_duration_seconds_bucket{le="+Inf"}': "0+9x20"}),
    "TicketdSilent": ({"ticketd_last_event_timestamp_seconds": "1x1500"}, {"ticketd_last_event_timestamp_seconds": "0x1500"}),
    "TicketdRestarts": ({"process_start_time_seconds": "1+1x20"}, {"process_start_time_seconds": "1 2 3x18"}),
}  # fmt: skip


def with_labels(name):
    name, _, labels = name.rstrip("}").partition("{")
    return f"{name}{{{labels + ', ' if labels else ''}{LABELS}}}"


def rule_test(alert, series, fires):
    minutes = 1499 if any(v.endswith("x1500") for v in series.values()) else 20 if "x20" in str(series) else 9
    alerts = [{"exp_labels": {"instance": "a", "job": "ticketd"}}] if fires else []
    return {"interval": "1m", "input_series": [{"series": with_labels(n), "values": v} for n, v in series.items()],
            "alert_rule_test": [{"alertname": alert, "eval_time": f"{minutes}m", "exp_alerts": alerts}]}  # fmt: skip


def test_each_alert_fires_and_is_silent(folder):
    """Labels and texts are left to the eye: of an expected alert promtool compares all of them, so they are taken away."""
    text = ALERTS.read_text()
    assert sorted(re.findall(r"alert: (\w+)", text)) == sorted(CASES)
    bare = re.sub(r"\n +(labels:.*|annotations:|summary:.*|description:.*)", "", text)
    (folder / "alerts.yml").write_text(bare)
    tests = [rule_test(alert, series, fires) for alert, both in CASES.items() for series, fires in zip(both, (True, False))]
    (folder / "tests.yml").write_text(json.dumps({"rule_files": ["alerts.yml"], "tests": tests}))
    for arguments in ["check", "rules", str(ALERTS)], ["test", "rules", str(folder / "tests.yml")]:
        checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr


# -- livez and readyz -----------------------------------------------------------------------------------------------


def ready(handler):
    status, _, text = get(handler, "readyz")
    assert get(handler, "livez")[0] == 200
    said = json.loads(text)
    assert (status == 200) == said["ready"]
    return said.get("by") if said["ready"] else None


def becomes(handler, expected, seconds=10):
    wait_until(lambda: ready(handler) == expected, seconds, f"readyz {expected}")


@pytest.mark.parametrize("with_spool", [False, True])
def test_a_frozen_database_is_noticed_without_an_event(cluster, start, folder, with_spool):
    spool = {"TICKETD_SPOOL_DIR": str(folder / "spool")} if with_spool else {}
    handler = start(TICKETD_DB_TIMEOUT_MS="500", **spool)
    becomes(handler, "database")
    cluster.freeze()
    try:
        becomes(handler, "spool" if with_spool else None)
        assert value(scrape(handler), "database_up") == 0
    finally:
        cluster.thaw()
    becomes(handler, "database")


@pytest.mark.parametrize("with_spool", [False, True])
def test_a_right_that_is_missing_is_remembered(start, database, folder, with_spool):
    """To connect again is no sign that events are taken."""
    spool = {"TICKETD_SPOOL_DIR": str(folder / "spool")} if with_spool else {}
    handler = start(TICKETD_DB_TIMEOUT_MS="1000", **spool)
    becomes(handler, "database")
    database.query("REVOKE EXECUTE ON FUNCTION vcc.apply_events FROM vcc_writer")
    tickets = itertools.count(1)  # where the machine is busy an event may end by its time first, which says less
    wait_until(lambda: (ask(handler.socket, body(next(tickets)))[0] == (200 if with_spool else 503),
                        "the database takes no event" in handler.log.read_text()) == (True, True), what="the refusal")
    for _ in range(40):
        assert ready(handler) == ("spool" if with_spool else None) and value(scrape(handler), "database_up") == 0
        time.sleep(0.1)
    database.query("GRANT EXECUTE ON FUNCTION vcc.apply_events TO vcc_writer")
    becomes(handler, "database", 20)
    assert value(scrape(handler), "database_up") == 1


@pytest.mark.parametrize("seconds", [0, 5, -5])
def test_a_clock_that_differs_is_logged(start, database, seconds):
    database.query(f"""CREATE SCHEMA fake; GRANT USAGE ON SCHEMA fake TO PUBLIC;
        CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql
            AS $$ SELECT pg_catalog.clock_timestamp() + make_interval(secs => {seconds}) $$""")
    handler = start(TICKETD_DATABASE=f"{database.handler} options='-c search_path=fake,pg_catalog'")
    becomes(handler, "database")
    found = re.findall(r"the clock of the database differs.*milliseconds_ahead=(-?\d+)", handler.log.read_text())
    assert [round(int(ms), -3) for ms in found] == ([seconds * 1000] if seconds else [])


def test_a_reload_that_failed_is_seen(start, folder):
    """Until one succeeds. The old token holds."""
    token, manager = folder / "token", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    token.write_text("0123456789abcdef")
    with manager:
        manager.bind(str(folder / "notify"))
        handler = start(NOTIFY_SOCKET=folder / "notify", TICKETD_TOKEN_FILE=token)
        assert manager.recv(4096) == b"READY=1"
        for failed, change in (1, lambda: token.rename(folder / "away")), (0, lambda: (folder / "away").rename(token)):
            change()
            handler.process.send_signal(signal.SIGHUP)
            assert manager.recv(4096).startswith(b"RELOADING=1")
            status = manager.recv(4096).decode().removeprefix("READY=1\nSTATUS=")
            assert status == ("tokens or keys cannot be read again: the old ones of that file stay in force" if failed else "")
            assert value(scrape(handler), "reload_failed") == failed
            assert json.loads(get(handler, "readyz")[2]).get("detail", "") == status
            assert ask(handler.socket, body(1), HTTP_AUTHORIZATION="Bearer 0123456789abcdef")[0] != 401


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)],
                         ids=["FIFO", "directory", "device"])  # fmt: skip
def test_a_token_file_that_is_none(start, folder, make):
    """It is not waited for: the signals that follow are heard."""
    token = folder / "token"
    token.write_text("0123456789abcdef")
    handler = start(TICKETD_TOKEN_FILE=token)
    token.unlink()
    make(token)
    handler.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "is no regular file" in handler.log.read_text(), what="the reload")
    assert value(scrape(handler), "reload_failed") == 1
    assert handler.stop() == 0


def test_from_the_start_to_the_stop(cluster, start, folder, database):
    with away(cluster):
        handler = start(TICKETD_SPOOL_DIR=str(folder / "spool"), TICKETD_DB_TIMEOUT_MS="500", TICKETD_SPOOL_MAX_MB="1")
        becomes(handler, "spool")
        while ask(handler.socket, body(1, "x" * 100000))[0] == 200:
            pass
        assert ready(handler) is None
        wait_until(lambda: value(scrape(handler), "spool_bytes") > 900000, what="the measure of the spool")
    database.reconnect()
    becomes(handler, "database", 20)
    wait_until(lambda: value(scrape(handler), "spool_events") == 0, 20, "the drain")  # else the next event joins the others

    # Stopping: what is in flight is finished, and nobody should send more.
    database.query("BEGIN; LOCK TABLE vcc.tickets")
    with concurrent.futures.ThreadPoolExecutor(1) as pool, fastcgi.Connection(handler.socket) as kept:
        answer = pool.submit(ask, handler.socket, body(1, "a"))
        kept.send(fastcgi.request(b"", method="GET", uri=LOCATION + "/readyz"))
        assert '"ready":true' in kept.answer()
        wait_until(lambda: value(scrape(handler), "queue_events") == 1, what="the event")
        handler.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not handler.accepts(), what="the end of the socket")
        kept.send(fastcgi.request(b"", method="GET", uri=LOCATION + "/readyz"))
        assert kept.answer().startswith("Status: 503")
        database.query("COMMIT")
        assert answer.result()[0] == 200
