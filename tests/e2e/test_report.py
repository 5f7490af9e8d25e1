"""GET …/report.json: figures are those of SQL run beside it, and no question harms an event."""

import concurrent.futures
import json
import random
import re
import time
import uuid
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

import fastcgi
import pytest
from conftest import Nginx, event, fcgiwrap, send, wait_until
from test_spool import ask

PATH = "/vcc/tickets/report.json"
DAYS = 45
WAITS = "SELECT 1 FROM pg_stat_activity WHERE usename = 'reports' AND wait_event_type = 'Lock'"


def reader_of(database):
    """The connection string of a role that may only read."""
    database.query("DO $$ BEGIN CREATE ROLE reports LOGIN IN ROLE vcc_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    return database.cluster.conninfo(database.name, "reports")


@pytest.fixture
def reader(database):
    return reader_of(database)


@pytest.fixture
def site(start, folder, reader):
    """An nginx with what users install, and the handler behind it."""
    handler = start(TICKETD_REPORT="on", TICKETD_REPORT_DATABASE=reader, TICKETD_SPOOL_DIR=str(folder / "spool"),
                    TICKETD_DB_TIMEOUT_MS="1000")  # fmt: skip
    nginx = Nginx(folder, handler.socket)
    nginx.handler = handler
    yield nginx
    nginx.stop()


def get(site, query=""):
    return send(site.port, path=PATH + query, method="GET")


def report(site, query=""):
    answer = get(site, query)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json


def history(database, seed=1, tickets=60, pause=None):
    """Tickets of three projects that came and went in the last 45 days. pause: (a moment, what is done when it has come)."""
    rng, now = random.Random(seed), datetime.now(timezone.utc)
    moments = sorted(now - timedelta(seconds=rng.random() * DAYS * 86400) for _ in range(tickets * 6))
    for n, at in enumerate(moments):
        if pause and at >= pause[0]:
            pause[1]()
            pause = None
        project, ticket = rng.randrange(1, 4), rng.randrange(tickets)
        action = rng.choice(["add", "update", "update", "update", "update", "delete"])
        attributes = {name: rng.choice(values) for name, values in {
            "status": ["park", "new", "closed", "closed", None], "sub_status": ["waiting4agent", "waiting4entity", None],
            "agent_name": ["Anna", "Bert", None], "agent_user_name": ["anna", "bert", None],
            "project_name": [f"Project {project}"], "soft_deadline": [str(at), str(at + timedelta(days=60)), None],
            "first_open_time": [str(at - timedelta(days=3)), str(at + timedelta(days=1)), None],
            "title": [str(n)]}.items() if rng.random() < 0.6}
        identifier = uuid.UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | n)
        body = json.dumps({"action": action, "ticket": {"projectId": project, "ticketId": ticket, "n": n}})
        columns = "".join(f", {name} => %s::{'timestamptz' if name in ('soft_deadline', 'first_open_time') else 'text'}[]"
                          for name in attributes)  # fmt: skip
        cleared = ",".join(name for name, value in attributes.items() if value is None)
        database.query("SELECT vcc.apply_events(project => %s, ticket_id => %s::bigint[], event_id => %s::uuid[], received_at => %s, "
                       f"action => %s, payload => %s, cleared => %s{columns})", project, [ticket], [str(identifier)], [at],
                       [action], [body], ["{" + cleared + "}"], *[[value] for value in attributes.values()])  # fmt: skip


def rounded_quantile(numbers, part):
    """As PostgreSQL's percentile_cont has it; None of nothing."""
    if not numbers:
        return None
    numbers, place = sorted(numbers), (len(numbers) - 1) * part
    low, high = numbers[int(place)], numbers[-int(-place // 1)]
    return round(low + (high - low) * (place % 1))


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


FIGURES = {
    "open": """SELECT count(*), count(*) FILTER (WHERE overdue) FROM vcc.open_tickets WHERE {project}""",
    "by_status": """SELECT status, sub_status, count(*), count(*) FILTER (WHERE overdue) FROM vcc.open_tickets
        WHERE {project} GROUP BY 1, 2""",
    "flow": """SELECT d.day::date::text, coalesce(sum(opened), 0), coalesce(sum(closed), 0), coalesce(sum(reopened), 0),
               coalesce(sum(deleted), 0), coalesce(sum(backlog), 0)
        FROM generate_series(current_date - ({days} - 1), current_date, '1 day') d (day)
        LEFT JOIN vcc.daily_flow f ON f.day = d.day::date AND {project} GROUP BY 1 ORDER BY 1""",
    "agents": """SELECT agent_name, count(*), count(*) FILTER (WHERE overdue) FROM vcc.open_tickets WHERE {project} GROUP BY 1""",
    "closed": """SELECT nullif(r.agent_name, ''), extract(epoch FROM resolution)::float8, m.complete FROM vcc.resolution_times r
        JOIN vcc.ticket_metrics m USING (project_id, ticket_id) JOIN vcc.tickets t USING (project_id, ticket_id)
        WHERE r.closed_at >= current_date - ({days} - 1) AND {project} AND t.status = 'closed' AND t.first_event_at <= r.closed_at""",
}  # fmt: skip


@pytest.mark.parametrize("project", [None, 2])
@pytest.mark.parametrize("days", [1, 7, 30, 90])
def test_the_figures_are_those_of_sql(site, database, days, project):
    history(database)
    found = report(site, f"?period={days}d" + (f"&project={project}" if project else ""))
    assert found["problem"] is None
    shown = found["report"]

    def sql(name):
        return database.query(FIGURES[name].format(days=days, project=f"project_id = {project}" if project else "true"))

    assert (shown["period"], shown["project"]) == (f"{days}d", project and str(project))
    assert [(p["id"], p["name"]) for p in shown["projects"]] == [(str(n), f"Project {n}") for n in (1, 2, 3)]
    tickets, overdue = sql("open")[0]
    assert (shown["open"]["tickets"], shown["open"]["overdue"]) == (tickets, overdue) and tickets > 5
    assert {tuple(row.values()) for row in shown["open"]["by_status"]} == set(sql("by_status"))
    assert [tuple(row.values()) for row in shown["flow"]] == sql("flow") and len(shown["flow"]) == days
    agents = {row["agent"]: row for row in shown["agents"]}
    for name, number, late in sql("agents"):
        assert (agents[name]["open"], agents[name]["overdue"]) == (number, late)
    closed = sql("closed")
    assert shown["resolution"]["tickets"] == len(closed) == sum(row["closed"] for row in shown["agents"])
    bounds = [row["below_s"] for row in shown["resolution"]["buckets"]]
    assert bounds == sorted(bounds[:-1]) + [None]
    for lower, row in zip([float("-inf"), *bounds], shown["resolution"]["buckets"]):
        assert row["tickets"] == sum(lower <= seconds < (row["below_s"] or float("inf")) for _, seconds, _ in closed)
    measured = [seconds for _, seconds, complete in closed if complete]
    assert shown["resolution"]["complete"] == len(measured) and (days < 30 or 0 < len(measured) < len(closed))
    assert shown["resolution"]["median_s"] == rounded_quantile(measured, 0.5)
    assert shown["resolution"]["p90_s"] == rounded_quantile(measured, 0.9)
    for name, row in agents.items():
        assert row["median_s"] == rounded_quantile([seconds for agent, seconds, complete in closed if complete and agent == name], 0.5)
    assert len(shown["minutes"]) == 60


def test_what_arrives_shows(site, database):
    """Events of this minute, the last of them, and what was refused with its reason."""
    for n in range(5):
        assert send(site.port, event("add", n, title=str(n))).status == 200
    for body in b"nix", b"nix", b'{"action": "none"}':
        assert send(site.port, body).status in (400, 422)
    found = report(site)
    shown, handler = found["report"], found["handler"]
    assert sum(minute["events"] for minute in shown["minutes"]) == 5
    last = database.query("SELECT ticket_id, action, result FROM vcc.ticket_events ORDER BY received_at DESC LIMIT 1")[0]
    assert tuple(shown["last_event"][name] for name in ("ticket_id", "action", "result")) == (str(last[0]), *last[1:])
    reasons = {row["reason"]: (row["bodies"], row["attempts"]) for row in shown["rejected"]["reasons"]}
    assert reasons == {reason: (1, attempts) for reason, attempts in database.query("SELECT reason, attempts FROM vcc.rejected_events")}
    assert (shown["rejected"]["bodies"], shown["rejected"]["attempts"]) == (2, 3)
    assert {status: one["count"] for status, one in handler["answers"].items() if one["last_at"]} == {"200": 5, "400": 2, "422": 1}
    assert handler["takes_events"] == "database" and handler["spool"]["events"] == 0
    assert abs(moment(handler["last_event_at"]) - moment(shown["last_event"]["received_at"])) < timedelta(seconds=1)


def test_a_connection_that_was_lost_unseen(site, database):
    """As by a restart of the server between two questions: the second is answered like the first."""
    for days in 1, 7:
        assert report(site, f"?period={days}d")["problem"] is None
        assert database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reports'") == [(True,)]


def test_one_ticket(site, database):
    """By its number or its identifier, with what each event changed; deleted, it is found by its identifier."""
    for action, attributes in ("add", {"ticketNo": "130-5", "title": "a", "colour": "red"}), ("update", {"title": "x" * 5000}):
        assert send(site.port, event(action, 21, **attributes)).status == 200
    for question in "130-5", "21", "21&project=130":
        shown = report(site, f"?ticket={question}")["report"]["timeline"]
        assert (shown["matches"], shown["ticket"]["ticket_id"], shown["ticket"]["title"]) == (1, "21", "x" * 1000)
        assert [[(c["attribute"], c["old"], c["new"]) for c in e["changes"]] for e in shown["events"]] == [
            [("extra.colour", None, "red"), ("ticket_no", None, "130-5"), ("title", None, "a")], [("title", "a", "x" * 1000)]]
    assert report(site, "?ticket=21&project=1")["report"]["timeline"]["matches"] == 0
    assert send(site.port, event("delete", 21)).status == 200
    shown = report(site, "?ticket=130-5&project=130")["report"]["timeline"]
    assert (shown["matches"], shown["ticket"]["ticket_id"], shown["ticket"]["ticket_no"]) == (1, "21", "130-5")
    shown = report(site, "?ticket=21&project=130")["report"]["timeline"]
    if shown["ticket"]["deleted_at"] is None:  # an answer is given again for three seconds
        time.sleep(3)
        shown = report(site, "?ticket=21&project=130")["report"]["timeline"]
    assert shown["ticket"]["deleted_at"] and shown["events"][-1]["result"] == "deleted"
    for n in range(210):
        assert send(site.port, event("update", 22, title=str(n))).status == 200
    shown = report(site, "?ticket=22")["report"]["timeline"]
    assert shown["more"] and [e["changes"][0]["new"] for e in shown["events"]] == [str(n) for n in range(10, 210)]


def test_search(site, database):
    """By a part of the number, the title, the customer; several make a choice, deleted ones among them."""
    for ticket, attributes in (21, {"ticketNo": "130-20240215-270338", "title": "Big Complaint"}), (22, {"ticketNo": "130-2", "title": "bill"}), \
            (23, {"ticketNo": "130-3", "entityId": 777}), (24, {"title": "%"}), (25, {"ticketNo": "25"}), (26, {"ticketNo": "25"}), \
            (str(2**63 - 1), {}), (-5, {}), (27, {"entityId": 7777}):  # fmt: skip
        assert send(site.port, event("add", ticket, **attributes)).status == 200
    for ticket in 22, 27:
        assert send(site.port, event("delete", ticket)).status == 200
    for number, hits, meant in [
        ("270338", {21}, 21), ("COMPLAINT", {21}, 21), ("777", {23}, 23), ("%", {24}, 24), ("BI", {21, 22}, None), ("130-2", {21, 22}, 22),
        ("25", {25, 26}, None), ("nothing", set(), None), ("22", {22}, 22), (str(2**63 - 1), {2**63 - 1}, 2**63 - 1), (str(2**63), set(), None), ("-5", {-5}, -5), ("0024", {24}, 24),
        ("7777", {27}, 27), ("07777", {27}, 27),
    ]:  # fmt: skip
        shown = report(site, "?ticket=" + quote(number))["report"]["timeline"]
        assert {int(one["ticket_id"]) for one in shown["choice"]} == hits and shown["matches"] == len(hits), number
        assert (shown["ticket"] and int(shown["ticket"]["ticket_id"])) == meant, number
        assert bool(shown["events"]) == (meant is not None)
    gone = report(site, "?ticket=BI")["report"]["timeline"]["choice"][-1]
    assert gone["deleted_at"] is None or gone["status"] == "deleted"


def deliveries(site, query):
    """Those of all pages, seven at a time."""
    rows, after = [], ""
    while after is not None:
        page = report(site, f"?deliveries=1&rows=7{query}&after={quote(after)}")["report"]
        rows, after = rows + page["deliveries"], page["after"]
    return rows


def test_deliveries(site, database):
    """Those of vcc.deliveries, newest first; each with what came."""
    for n in range(20):
        assert send(site.port, event(["add", "update", "delete"][n % 3], n // 2, title=str(n))).status == 200
    for body in b"nix", b"nix", b"\xff\x00", b'{"action": "none"}', json.dumps(event("add", 1, projectId=7, softDeadline="x")).encode():
        assert send(site.port, body).status in (400, 422)
    rejected = database.query("SELECT reason, last_received_at FROM vcc.rejected_events ORDER BY 2")
    for query, where in [
        ("", "true"), ("&result=rejected", "result = 'rejected'"), ("&result=stored", "result <> 'rejected'"),
        ("&result=deleted", "result = 'deleted'"), ("&project=130", "project_id = 130"),
        ("&since=2020-01-01&until=2021-01-01", "false"), (f"&reason={quote(rejected[0][0])}", f"reason = '{rejected[0][0]}'"),
        (f"&since={quote(rejected[1][1].isoformat())}", f"received_at >= '{rejected[1][1].isoformat()}'"),
    ]:  # fmt: skip
        expected = database.query(f"SELECT event_id::text, attempts FROM vcc.deliveries WHERE {where} ORDER BY received_at DESC, event_id DESC")
        assert [(row["event_id"], row["attempts"]) for row in deliveries(site, query)] == expected and (expected or "until" in query), query
    bodies = [report(site, f"?event={row['event_id']}&project={row['project_id']}")["report"]["delivery"]
              for row in deliveries(site, "&result=rejected")]  # fmt: skip
    assert len(bodies) == 4 and "nix" in bodies and r"\377\000" in bodies and '{"action": "none"}' in bodies
    row = deliveries(site, "&result=inserted")[0]
    shown = json.loads(report(site, f"?event={row['event_id']}&project={row['project_id']}&ticket={row['ticket_id']}")["report"]["delivery"])
    assert shown["event_id"] == row["event_id"] and shown["payload"]["ticket"]["ticketId"] == int(row["ticket_id"])
    answer = report(site, "?event=x")
    assert answer["problem"] == "There is no such list, day or page."


@pytest.mark.parametrize("query, word", [
    ("?period=2d", "period"), ("?period=30d&period=7d", "period"), ("?project=x", "project"), ("?project=99999999999999999999", "project"),
    *((f"?{name}={'0' * 2000}1", name) for name in ("project", "deliveries", "rows")),
    ("?ticket=%ff", "ticket"), ("?ticket=%00", "ticket"), ("?ticket=" + "1" * 256, "ticket"),
], ids=lambda text: text[:20])
def test_bad_questions(site, query, word):
    answer = get(site, query)
    assert answer.status == 400 and answer.headers["Content-Type"] == "application/problem+json"
    assert word in answer.json["detail"]


def test_what_was_asked_is_not_logged(site):
    assert get(site, "?list=open&day=%C2%9B2Jsecret").status in (200, 400)
    assert "sqlstate=22" in site.handler.log.read_text() and "secret" not in site.handler.log.read_text()


def test_large_identifiers_are_whole(site, database):
    """JavaScript would round them."""
    large = {"projectId": str(2**63 - 1), "ticketId": str(-(2**63)), "title": "a"}
    assert send(site.port, {"action": "add", "ticket": large}).status == 200
    shown = report(site, f"?project={2**63 - 1}")["report"]
    assert (shown["project"], shown["projects"][0]["id"]) == (str(2**63 - 1),) * 2
    assert shown["last_event"]["ticket_id"] == str(-(2**63))


@pytest.mark.parametrize("number", ["'; DROP TABLE vcc.tickets; --", "</script><script>alert(1)</script>", "‮abc", "Ünïcödé", "-1", "9" * 25])
def test_odd_numbers(site, database, number):
    shown = report(site, "?ticket=" + quote(number))["report"]["timeline"]
    assert (shown["number"], shown["matches"], shown["ticket"], shown["events"]) == (number, 0, None, [])


def test_off_unless_said(nginx):
    answer = send(nginx.port, path=PATH, method="GET")
    assert answer.status == 404 and "TICKETD_REPORT=on" in answer.json["detail"]
    assert send(nginx.port, path=PATH, method="POST").status == 405


def test_only_from_this_host(folder, start, reader):
    handler = start(TICKETD_REPORT="on", TICKETD_REPORT_DATABASE=reader)
    location = "set_real_ip_from 127.0.0.1; real_ip_header X-Client;" + Nginx.installed_location(folder)
    nginx = Nginx(folder, handler.socket, location)
    try:
        for path in PATH, "/vcc/tickets/dashboard/":
            there = {"X-Client": "203.0.113.9"}
            assert send(nginx.port, path=path, method="GET", headers=there).status == 403
            assert send(nginx.port, path=path, method="GET").status in (200, 404)
    finally:
        nginx.stop()


# -- roles and connections ------------------------------------------------------------------------------------------


def test_the_writers_role_may_not(start, folder):
    handler = start(TICKETD_REPORT="on")
    status, answer, _ = ask(handler.socket, b"", method="GET", uri=PATH)
    assert (status, answer["report"]) == (200, None)
    assert "GRANT vcc_reader" in answer["problem"]
    assert ask(handler.socket, event("add"))[0] == 200


def test_a_connection_of_its_own_that_only_reads(site, database):
    """Were the function one that writes, it could not."""
    report(site)
    users = database.query("SELECT usename::text, count(*) FROM pg_stat_activity WHERE datname = current_database() "
                           "AND usename IN ('handler', 'reports') GROUP BY 1 ORDER BY 1")  # fmt: skip
    assert users == [("handler", 1), ("reports", 1)]
    database.query("CREATE TABLE public.t (); GRANT ALL ON public.t TO reports")
    database.query("CREATE OR REPLACE FUNCTION vcc.report(days integer, project bigint, agent text DEFAULT NULL, "
                   "type text DEFAULT NULL) RETURNS json LANGUAGE plpgsql AS "
                   "'BEGIN DELETE FROM public.t; RETURN ''{}''; END'")  # fmt: skip
    time.sleep(3)
    assert report(site)["problem"] == "The database does not answer."  # 25006
    assert "read-only transaction" in site.handler.log.read_text()


@pytest.mark.parametrize("sqlstate, problem", [("57014", "took too long"), ("42883", "migrate"), ("42501", "GRANT vcc_reader")])
def test_what_is_wrong_in_words(site, database, sqlstate, problem):
    if sqlstate == "57014":
        database.query("CREATE OR REPLACE FUNCTION vcc.report(days integer, project bigint, agent text DEFAULT NULL, "
                   "type text DEFAULT NULL) RETURNS json LANGUAGE sql AS "
                       "'SELECT json_build_object(1, pg_sleep(30))'")  # fmt: skip
    elif sqlstate == "42883":
        database.query("ALTER FUNCTION vcc.report RENAME TO other")
    else:
        database.query("REVOKE EXECUTE ON FUNCTION vcc.report FROM vcc_reader")
    begun = time.monotonic()
    assert problem in report(site)["problem"]
    assert time.monotonic() - begun < 8
    assert f"sqlstate={sqlstate}" in site.handler.log.read_text()


def test_a_slow_report_delays_no_event(site, database):
    """Somebody holds a table that only reports read. Other questions wait their turn, at most so many; events do not."""
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        database.query("BEGIN; LOCK TABLE vcc.rejected_events")
        questions = [pool.submit(get, site, f"?project={n}") for n in range(80)]
        wait_until(lambda: database.cluster.execute(WAITS), 5, "a report that waits")
        took = []
        for n in range(100):
            begun = time.monotonic()
            assert send(site.port, event("update", n)).json["result"] == "inserted"
            took.append(time.monotonic() - begun)
        assert sorted(took)[50] < 0.2
        database.query("COMMIT")
        statuses = [question.result().status for question in questions]
    assert set(statuses) == {200, 503} and statuses.count(503) in range(10, 17)


def test_answers_are_given_again_for_some_seconds(site, database):
    first = report(site)["report"]["at"]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        again = list(pool.map(lambda _: report(site)["report"]["at"], range(40)))
    assert set(again) <= {first} or len(set(again)) == 2  # three seconds may just have passed
    assert report(site, "?period=7d")["report"]["period"] == "7d"
    wait_until(lambda: report(site)["report"]["at"] > first, 8, "a newer one")


def test_the_database_stops_and_comes_back(site, database):
    """The last good report is shown with what is wrong; the handler's own part is always of now."""
    assert send(site.port, event("add", 1)).status == 200
    before = report(site)
    database.cluster.stop()
    try:
        assert send(site.port, event("add", 2)).json["result"] == "spooled"
        away = wait_until(lambda: (found := report(site))["problem"] and found["handler"]["spool"]["events"] and found, 10, "the problem")
        assert away["problem"] == "The database does not answer."
        assert away["handler"]["takes_events"] == "spool"
        assert away["report"]["at"] >= before["report"]["at"]
        assert report(site, "?project=7")["report"] is None
    finally:
        database.cluster.start()
        database.reconnect()
    back = wait_until(lambda: not (found := report(site))["problem"] and found, 15, "the report")
    wait_until(lambda: report(site)["report"]["open"]["tickets"] == 2, 15, "the spooled event")
    assert back["report"]["at"] > before["report"]["at"]


def test_it_stops_while_a_report_is_under_way(site, database):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        database.query("BEGIN; LOCK TABLE vcc.rejected_events")
        questions = [pool.submit(get, site, f"?project={n}") for n in range(3)]
        wait_until(lambda: database.cluster.execute(WAITS), 5, "a report that waits")
        begun = time.monotonic()
        assert site.handler.stop() == 0
        assert time.monotonic() - begun < 10
        database.query("COMMIT")
        assert {question.result().status for question in questions} <= {200, 503}
    site.handler.start()


def test_as_cgi(folder, database, reader):
    with fcgiwrap(folder, TICKETD_DATABASE=database.handler, TICKETD_AUTH="none", TICKETD_REPORT="on",
                  TICKETD_REPORT_DATABASE=reader) as (wrapper, cgi):  # fmt: skip
        with fastcgi.Connection(wrapper) as c:
            c.send(fastcgi.request(b"", method="GET", uri=PATH, **cgi))
            answer = c.answer()
    shown = json.loads(re.search(r"\{.*", answer, re.S)[0])
    assert shown["report"]["open"]["tickets"] == 0 and shown["problem"] is None
    assert shown["handler"]["takes_events"] == "database"


@pytest.mark.parametrize("weeks, hours, silent", [(4, "00:00-24:00", True), (2, None, True), (0, None, False), (4, "away", False)])
def test_silence(site, database, weeks, hours, silent):
    """Nothing for half an hour, where each of the last weeks had something at this time; not outside of business hours."""
    now = datetime.now(timezone.utc)
    for n, at in enumerate(sorted([now - timedelta(minutes=30)] + [now - timedelta(weeks=week, minutes=minute) for week in range(1, weeks + 1)
                                                                   for minute in (3, 6, 9, 12, 15, 40)])):  # fmt: skip
        identifier = uuid.UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | n)
        database.query("SELECT vcc.apply_events(project => 1, ticket_id => '{1}', event_id => %s::uuid[], received_at => %s, "
                       "action => '{update}', payload => ARRAY['{}'], title => %s)", [str(identifier)], [at], [str(n)])  # fmt: skip
    if hours:
        day = now.isoweekday() if hours != "away" else (now.isoweekday() + 2) % 7 + 1
        database.query("INSERT INTO vcc.calendars (calendar_id, name, time_zone, is_default) VALUES (1, 'desk', 'UTC', true)")
        database.query("INSERT INTO vcc.calendar_hours (calendar_id, weekday, opens, closes) VALUES (1, %s, '00:00', '24:00')", day)
        database.query("SELECT vcc.prepare_calendars()")
    assert report(site)["report"]["silent"] is silent


# -- filters, and the period before ---------------------------------------------------------------------------------


def test_filters(site, database):
    """An agent's or a type's figures are those of his lists; whether it is alive does not depend on them."""
    history(database)
    database.query("UPDATE vcc.tickets SET type = CASE WHEN ticket_id % 2 = 0 THEN 'Bug' END")
    database.query(DUE)
    assert send(site.port, event("add", 1, projectId=7, agentName="é" * 200, type="x" * 300)).status == 200
    assert send(site.port, b"nix").status == 400
    whole = report(site)["report"]
    assert whole["choices"] == {"agents": ["Anna", "Bert"], "types": ["Bug"]}
    for query in "agent=Anna", "agent=", "type=Bug", "type=&agent=Bert", "project=1&agent=Bert", "project=2":
        shown = report(site, "?" + query)["report"]
        for figure, name in [(shown["open"]["tickets"], "open"), (shown["resolution"]["tickets"], "resolved"),
                             *[(shown["open"][name], name) for name in FIGURES_OF_OPEN],
                             *[(shown["today"][name], name + "&period=1d") for name in ("came", "went")],
                             *[(day["backlog"], f"backlog&day={day['day']}") for day in shown["flow"][::9]],
                             *[(sum(day[name] for day in shown["flow"]), name) for name in FLOWS]]:  # fmt: skip
            assert len(whole_list(site, f"{name}&{query}")[0]) == figure, (query, name)
        for name, column in ("oldest", "opened_at"), ("idle", "last_event_at"):
            first = report(site, f"?list={name}&{query}")["report"]["rows"][0]["ticket"]
            assert shown["open"][name + "_at"] == first[column]
        assert shown["open"]["tickets"] == shown["flow"][-1]["backlog"] == sum(row["open"] for row in shown["agents"])
        assert shown["today"]["net"] == shown["today"]["came"] - shown["today"]["went"] == shown["flow"][-1]["backlog"] - shown["flow"][-2]["backlog"]
        assert shown["last_event"] == whole["last_event"] and shown["rejected"]["bodies"] == whole["rejected"]["bodies"] == 1
        assert sum(minute["events"] for minute in shown["minutes"]) >= 1


@pytest.mark.parametrize("query", ["", "&project=2", "&agent=Anna"])
def test_the_period_before(site, database, query):
    """What the tickets were a week ago is what they were when it was a week ago; those that were open then are deleted by now."""
    now = datetime.now(timezone.utc)
    then, were_open, seen = now - timedelta(days=7), [], []
    where = {"": "true", "&project=2": "project_id = 2", "&agent=Anna": "agent_name = 'Anna'"}[query]

    def look():
        were_open.extend(database.query("SELECT project_id, ticket_id FROM vcc.open_tickets"))
        seen.extend(database.query(f"""
            SELECT count(*), count(*) FILTER (WHERE soft_deadline < %s), count(*) FILTER (WHERE agent_name IS NULL),
                   count(*) FILTER (WHERE sub_status = 'waiting4agent'), min(coalesce(first_open_time, first_event_at))
              FROM vcc.tickets WHERE status IS DISTINCT FROM 'closed' AND {where}""", then))
        seen.extend(database.query(f"""SELECT project_id, ticket_id, closed_at, complete FROM vcc.ticket_metrics
            WHERE closed_at >= current_date - 13 AND {where.replace('agent_name', 'closed_agent_name')}"""))

    history(database, pause=(then, look))
    for project, ticket in were_open:
        assert send(site.port, event("delete", ticket, projectId=project)).status == 200
    before = report(site, "?before=1&period=7d" + query)["report"]["before"]
    found = tuple(before["open"][name] for name in ("tickets", "overdue", "unassigned", "waiting"))
    *expected, oldest_at = seen.pop(0)
    assert found == tuple(expected) and found[0] > 3
    assert before["open"]["oldest_s"] == pytest.approx((then - oldest_at).total_seconds(), abs=60)
    assert before["resolution"]["tickets"] == len(seen)
    there = {row[:2]: row[2:] for row in database.query(
        "SELECT project_id, ticket_id, first_event_at, coalesce(first_open_time, first_event_at) FROM vcc.tickets")}
    lives = [(closed, *there[tuple(key)]) for *key, closed, complete in seen if complete and tuple(key) in there]
    measured = [(closed - min(opened, closed)).total_seconds() for closed, first, opened in lives if first <= closed]
    assert before["resolution"]["median_s"] == rounded_quantile(measured, 0.5)
    assert query or 0 < len(measured) < len(seen)


FIGURES_OF_OPEN = "overdue", "due", "today", "unassigned", "waiting"
FLOWS = "opened", "closed", "reopened", "deleted"
DUE = """UPDATE vcc.tickets SET soft_deadline = current_date + 1 + (ticket_id % 10 = 0)::integer - interval '1 microsecond'
    WHERE ticket_id % 5 = 0"""  # in the last moment of today, or of tomorrow


# -- lists behind figures -------------------------------------------------------------------------------------------

LISTS = {
    "open": "SELECT project_id, ticket_id FROM vcc.open_tickets WHERE {project}",
    "oldest": """SELECT project_id, ticket_id FROM vcc.tickets WHERE status IS DISTINCT FROM 'closed' AND {project}
        ORDER BY coalesce(first_open_time, first_event_at)""",
    "overdue": "SELECT project_id, ticket_id FROM vcc.overdue_tickets WHERE {project} ORDER BY overdue_by DESC",
    "due": "SELECT project_id, ticket_id FROM vcc.open_tickets WHERE soft_deadline - now() BETWEEN '0' AND '1 day' AND {project}",
    "unassigned": "SELECT project_id, ticket_id FROM vcc.open_tickets WHERE agent_name IS NULL AND {project}",
    "today": """SELECT project_id, ticket_id FROM vcc.open_tickets
        WHERE soft_deadline >= now() AND soft_deadline < current_date + 1 AND {project} ORDER BY soft_deadline, 1, 2""",
    "waiting": """SELECT project_id, ticket_id FROM vcc.ticket_metrics WHERE state = 'desk' AND {project}
        ORDER BY in_state DESC""",
    "idle": "SELECT project_id, ticket_id FROM vcc.ticket_metrics WHERE idle IS NOT NULL AND {project} ORDER BY idle DESC",
    "resolved": """SELECT project_id, ticket_id FROM vcc.ticket_metrics
        WHERE closed_at >= current_date - ({days} - 1) AND {project} ORDER BY closed_at DESC""",
    "reopened": """SELECT project_id, ticket_id FROM vcc.ticket_events WHERE NOT was_open AND is_open
        AND received_at >= current_date - ({days} - 1) AND {project} ORDER BY received_at DESC""",
    "deleted": """SELECT project_id, ticket_id FROM vcc.ticket_events WHERE is_open IS NULL AND was_open IS NOT NULL
        AND received_at >= current_date - ({days} - 1) AND {project} ORDER BY received_at DESC""",
    "came": """SELECT project_id, ticket_id FROM vcc.ticket_events WHERE is_open AND was_open IS NOT TRUE
        AND received_at >= current_date - ({days} - 1) AND {project} ORDER BY received_at DESC""",
    "went": """SELECT project_id, ticket_id FROM vcc.ticket_events WHERE was_open AND is_open IS NOT TRUE
        AND received_at >= current_date - ({days} - 1) AND {project} ORDER BY received_at DESC""",
    "open&agent=Anna": "SELECT project_id, ticket_id FROM vcc.open_tickets WHERE agent_name = 'Anna' AND {project}",
    "open&sub_status=&status=": """SELECT project_id, ticket_id FROM vcc.open_tickets
        WHERE status IS NULL AND sub_status IS NULL AND {project}""",
    "open&type=Bug": "SELECT project_id, ticket_id FROM vcc.tickets WHERE status IS DISTINCT FROM 'closed' AND type = 'Bug' AND {project}",
    "open&customer=7": """SELECT project_id, ticket_id FROM vcc.tickets WHERE status IS DISTINCT FROM 'closed' AND entity_id = 7
        AND {project}""",
}  # fmt: skip


def whole_list(site, query):
    """The rows of all its pages, and the total that the first one promised."""
    rows, after, total = [], "", None
    while after is not None:
        page = report(site, f"?list={query}&after={quote(after)}")["report"]
        total, after = total or page["total"], page["after"]
        assert not after or page["rows"]
        rows += page["rows"]
    return rows, total


def keys(rows):
    return [(int(row["project_id"]), int(row["ticket_id"])) for row in rows]


@pytest.mark.parametrize("project", [None, 2])
def test_lists_are_those_of_sql(site, database, project):
    """Exactly the tickets of the figure, in their order, whatever the size of a page."""
    history(database)
    database.query("UPDATE vcc.tickets SET type = 'Bug', entity_id = ticket_id % 9 WHERE ticket_id % 2 = 0")
    database.query(DUE)
    for name, sql in LISTS.items():
        expected = database.query(sql.format(days=30, project=f"project_id = {project}" if project else "true"))
        rows, total = whole_list(site, name + "&rows=7" + (f"&project={project}" if project else ""))
        found = keys(rows)
        assert total == len(rows) == len(expected) and sorted(found) == sorted(expected), name
        assert found == expected or "ORDER BY" not in sql, name
        assert expected or project, name
    row = report(site, "?list=overdue")["report"]["rows"][0]
    held = database.query("SELECT ticket_no, title, agent_name FROM vcc.tickets WHERE (project_id, ticket_id) = (%s, %s)", *keys([row])[0])
    assert [row["ticket"][name] for name in ("ticket_no", "title", "agent_name")] == list(held[0])


def test_days_and_buckets_lead_to_lists(site, database):
    """Each number of the tables, deleted tickets among them."""
    history(database)
    shown = report(site, "?project=1")["report"]
    for name in FLOWS:
        assert len(whole_list(site, f"{name}&project=1")[0]) == sum(day[name] for day in shown["flow"])
        for day in [day for day in shown["flow"] if day[name]][:5]:
            assert len(whole_list(site, f"{name}&project=1&day={day['day']}")[0]) == day[name]
    for day in shown["flow"][::4]:
        rows, total = whole_list(site, f"backlog&project=1&rows=3&day={day['day']}")
        assert len(rows) == total == day["backlog"]
    bounds = [None] + [row["below_s"] for row in shown["resolution"]["buckets"]]
    for lower, bucket in zip(bounds, shown["resolution"]["buckets"]):
        rows, total = whole_list(site, f"resolved&project=1&within={lower or ''}-{bucket['below_s'] or ''}")
        assert len(rows) == total == bucket["tickets"]
    row = whole_list(site, "deleted&project=1")[0][0]
    held = database.query("""SELECT changes -> 'title' ->> 0, changes -> 'status' ->> 0 FROM vcc.ticket_events
        WHERE result = 'deleted' AND (project_id, ticket_id) = (%s, %s) ORDER BY received_at DESC LIMIT 1""", *keys([row])[0])
    assert [(row["ticket"]["title"], row["ticket"]["status"])] == held
    gone = [row for row in whole_list(site, "opened&period=90d")[0] if row["ticket"] is None]
    assert gone and database.value("SELECT count(*) FROM vcc.tickets WHERE (project_id, ticket_id) = (%s, %s)", *keys(gone)[0]) == 0


@pytest.mark.parametrize("query", ["?list=none", "?list=open&after=x", "?list=closed&day=yesteryear", "?list=resolved&within=a-b"])
def test_no_such_list(site, query):
    found = report(site, query)
    assert found["report"] is None and found["problem"] == "There is no such list, day or page."
