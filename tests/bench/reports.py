#!/usr/bin/python3
"""How long do the report views take over a grown database? A private PostgreSQL is filled with tickets and a journal of
thirteen months, then each question is asked five times.

    /usr/bin/python3 tests/bench/reports.py

    REPORTS_TICKETS=1000000     tickets, in 20 projects
    REPORTS_EVENTS=5000000      journal rows, about
    REPORTS_ONLY="flow readme"  questions whose name contains one of these words

The queries of README.md are asked too, of a project that is there, and the materialized forms that sql/README.md
describes: how long a refresh takes, and an answer then.

It measures and promises nothing. The database takes 7 GB in TMPDIR, and some minutes to fill."""

import contextlib
import os
import pathlib
import re
import signal
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "e2e"))

from cluster import Cluster  # noqa: E402

TICKETS = int(os.environ.get("REPORTS_TICKETS") or 1_000_000)
EVENTS = int(os.environ.get("REPORTS_EVENTS") or 5_000_000)
ONLY = os.environ.get("REPORTS_ONLY", "").lower().split()
PROJECTS = 20
MONTHS = 13
AGENTS = 25  # of a project
TIMES = 5
PROJECT = 7
# What anyone would set on a server of this size.
SETTINGS = {"shared_buffers": "512MB", "work_mem": "32MB", "max_wal_size": "8GB", "random_page_cost": "1.1"}

# The months that have gone: vcc.prepare_journal makes only those to come.
PARTITIONS = f"""
    DO $$
    DECLARE
        month  timestamptz;
        name   text;
    BEGIN
        FOR n IN 1..{MONTHS} LOOP
            month := date_trunc('month', now(), 'UTC') - n * interval '1 month';
            name := to_char(month AT TIME ZONE 'UTC', '"ticket_events_"YYYY_MM');
            EXECUTE format('CREATE TABLE vcc.%I (LIKE vcc.ticket_events INCLUDING DEFAULTS)', name);
            EXECUTE format('ALTER TABLE vcc.ticket_events ATTACH PARTITION vcc.%I FOR VALUES FROM (%L) TO (%L)',
                name, vcc.first_event_id(month), vcc.first_event_id(month + interval '1 month'));
        END LOOP;
    END
    $$"""

# A ticket's life: it is opened, given to an agent, changed some times, mostly closed, sometimes reopened or deleted.
LIVES = f"""
    CREATE UNLOGGED TABLE lives AS
    SELECT n AS ticket, 1 + n % {PROJECTS} AS project, 1 + n / {PROJECTS} % {AGENTS} AS agent, opened,
           -ln(1 - random()) * interval '3 days' AS life,
           '{{open,assign}}' || array_fill('note'::text, ARRAY[floor(random() * @notes + 0.5)::integer])
           || CASE WHEN n % 100 < 96 THEN '{{close}}'::text[] END
           || CASE WHEN n % 100 < 8 THEN '{{reopen,close}}'::text[] END
           || CASE WHEN n % 100 BETWEEN 5 AND 9 OR n % 100 = 99 THEN '{{delete}}'::text[] END AS steps
      FROM (SELECT n, now() - interval '{MONTHS} months' * (1 - n / {TICKETS}.0) AS opened
              FROM generate_series(1, {TICKETS}) n) t"""

# One in a hundred events was received some time before it took effect.
STEPS = """
    CREATE UNLOGGED TABLE steps AS
    SELECT ticket, project, agent, opened, step, lag(step) OVER w AS before,
           lead(at) OVER w IS NULL AS last, at,
           at - CASE WHEN random() < 0.01 THEN interval '2 hours' ELSE interval '0' END AS received_at
      FROM (SELECT l.*, s.place, CASE WHEN s.step = 'note' AND random() < 0.2 THEN 'repeat' ELSE s.step END AS step,
                   opened + life * ((s.place - 1.0) / (cardinality(steps) - 1)) AS at
              FROM lives l, unnest(steps) WITH ORDINALITY s (step, place)) s
     WHERE at < now()
    WINDOW w AS (PARTITION BY ticket ORDER BY place)"""

BODY = ('{"action":"%s","ticket":{"projectId":%s,"ticketId":%s,"entityId":1814,"contactId":1220,"createdUserId":6,'
        '"userId":8,"title":"Problem","type":"complaint","status":"park","subStatus":"waiting4agent",'
        '"createdUserName":"John Smith","projectName":"Manual","agentName":"Rachel Scott","agentUserName":"rachel",'
        '"firstOpenTime":"2024-02-15T15:46:46+01:00","lastOpenTime":"2024-02-15T15:46:46+01:00"}}')  # fmt: skip

JOURNAL = f"""
    INSERT INTO vcc.ticket_events (event_id, project_id, ticket_id, action, received_at, result, payload, changes,
           was_open, is_open)
    SELECT (lpad(to_hex((extract(epoch FROM received_at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(random()::text), 1, 19))::uuid,
           project, ticket, action, received_at, result, format('{BODY}', action, project, ticket)::jsonb,
           format(CASE step
               WHEN 'open' THEN '{{"title": [null, "Problem %1$s"], "status": [null, "park"], "sub_status": [null, '
                   '"waiting4agent"], "project_name": [null, "Project %2$s"], "first_open_time": [null, "%4$s"], '
                   '"soft_deadline": [null, "%5$s"], "extra": {{"colour": [null, "red"]}}}}'
               WHEN 'assign' THEN '{{"sub_status": ["waiting4agent", "waiting4entity"], "agent_name": [null, '
                   '"Agent %3$s"], "agent_user_name": [null, "agent%3$s"]}}'
               WHEN 'note' THEN '{{"description": ["a", "Description %1$s"], "user_id": [6, 8]}}'
               WHEN 'close' THEN '{{"status": ["park", "closed"], "sub_status": ["waiting4entity", "successful"]}}'
               WHEN 'reopen' THEN '{{"status": ["closed", "park"], "sub_status": ["successful", "waiting4entity"]}}'
               WHEN 'delete' THEN '{{"title": ["Problem %1$s", null], "status": [%6$s, null], '
                   '"sub_status": ["successful", null], "agent_name": ["Agent %3$s", null], "agent_user_name": ["agent%3$s", null], '
                   '"first_open_time": ["%4$s", null], "soft_deadline": ["%5$s", null]}}'
           END, ticket, project, agent, opened, opened + interval '5 days',
           CASE before WHEN 'close' THEN '"closed"' ELSE '"park"' END)::jsonb,
           CASE WHEN step NOT IN ('open', 'repeat') THEN before <> 'close' END,
           CASE WHEN step NOT IN ('delete', 'repeat') THEN step <> 'close' END
      FROM (SELECT *, CASE step WHEN 'open' THEN 'add' WHEN 'delete' THEN 'delete' ELSE 'update' END AS action,
                   CASE step WHEN 'open' THEN 'inserted' WHEN 'delete' THEN 'deleted' WHEN 'repeat' THEN 'unchanged'
                   ELSE 'updated' END AS result
              FROM steps) s
     ORDER BY at"""

TABLES = f"""
    INSERT INTO vcc.tickets (project_id, ticket_id, entity_id, contact_id, created_user_id, user_id, ticket_no, title,
           type, description, status, sub_status, created_user_name, project_name, agent_name, agent_user_name,
           first_open_time, last_open_time, soft_deadline, extra, first_event_at, last_event_at)
    SELECT project, ticket, 1814, 1220, 6, 8, format('%s-%s', project, ticket), 'Problem ' || ticket, 'complaint',
           'Description ' || ticket, CASE step WHEN 'close' THEN 'closed' ELSE 'park' END,
           CASE step WHEN 'close' THEN 'successful' WHEN 'open' THEN 'waiting4agent' ELSE 'waiting4entity' END,
           'John Smith', 'Project ' || project, CASE WHEN step <> 'open' THEN 'Agent ' || agent END,
           CASE WHEN step <> 'open' THEN 'agent' || agent END, opened, opened, opened + interval '5 days',
           '{{"colour": "red"}}', opened, received_at
      FROM steps WHERE last AND step <> 'delete'
     ORDER BY ticket;
    INSERT INTO vcc.deleted_tickets SELECT project, ticket, received_at FROM steps WHERE last AND step = 'delete';
    INSERT INTO vcc.rejected_events
    SELECT '{{}}', 'not an event', at, at, 1, 0, sha256(n::text::bytea), gen_random_uuid()
      FROM (SELECT n, now() - n * interval '1 hour' AS at FROM generate_series(1, 1000) n) r;
    DROP TABLE lives, steps"""

# A name, and what is asked.
LAST_30_DAYS = "day > current_date - 30"
QUESTIONS = [
    ("open tickets of a project", f"SELECT * FROM vcc.open_tickets WHERE project_id = {PROJECT}"),
    ("overdue tickets of a project", f"SELECT * FROM vcc.overdue_tickets WHERE project_id = {PROJECT}"),
    ("history of a ticket", "SELECT * FROM vcc.ticket_history WHERE project_id = {project} AND ticket_id = {ticket}"),
    ("status periods of a ticket",
     "SELECT * FROM vcc.status_periods WHERE project_id = {project} AND ticket_id = {ticket}"),
    ("daily flow of a project, 30 days",
     f"SELECT * FROM vcc.daily_flow WHERE project_id = {PROJECT} AND {LAST_30_DAYS}"),
    ("daily flow of a project, all days", f"SELECT * FROM vcc.daily_flow WHERE project_id = {PROJECT}"),
    ("daily flow of all projects, 30 days", f"SELECT * FROM vcc.daily_flow WHERE {LAST_30_DAYS}"),
    ("resolution times of a project, 30 days",
     f"SELECT * FROM vcc.resolution_times WHERE project_id = {PROJECT} AND closed_at >= now() - interval '30 days'"),
    ("resolution times of a project, all", f"SELECT * FROM vcc.resolution_times WHERE project_id = {PROJECT}"),
    ("workload of a project's agents", f"SELECT * FROM vcc.agent_workload WHERE project_id = {PROJECT}"),
    ("workload of all agents", "SELECT * FROM vcc.agent_workload"),
    ("workload of all agents, kept", "SELECT * FROM vcc.agent_workload_kept"),
    ("deliveries of the last hour", "SELECT * FROM vcc.deliveries WHERE received_at > now() - interval '1 hour'"),
    ("deliveries, last 50 of a day", "SELECT * FROM vcc.deliveries WHERE received_at > now() - interval '1 day' "
     "ORDER BY received_at DESC LIMIT 50"),
    ("dashboard, all projects, 30 days", "SELECT vcc.report(30, NULL)"),
    ("dashboard, all projects, 90 days", "SELECT vcc.report(90, NULL)"),
    ("dashboard, a project, 30 days", f"SELECT vcc.report(30, {PROJECT})"),
    ("dashboard, an agent, all projects, 90 days", "SELECT vcc.report(90, NULL, 'Agent 3')"),
    ("dashboard, the period before, 30 days", "SELECT vcc.report_before(30, NULL)"),
    ("dashboard, the period before of a project, 90 days", f"SELECT vcc.report_before(90, {PROJECT})"),
    ("dashboard, what is overdue", "SELECT vcc.report_list('overdue')"),
    ("dashboard, what waits for the desk", "SELECT vcc.report_list('waiting')"),
    ("dashboard, deleted in 90 days", "SELECT vcc.report_list('deleted', 90)"),
    ("dashboard, open tickets, 5,000 of them", "SELECT vcc.report_list('open', most => 5000)"),
    ("dashboard, closed in 30 days", "SELECT vcc.report_list('closed', 30)"),
    ("dashboard, resolved in 90 days", "SELECT vcc.report_list('resolved', 90)"),
    ("dashboard, deliveries", "SELECT vcc.report_deliveries()"),
    ("dashboard, deliveries ignored, of a day", "SELECT vcc.report_deliveries('ignored', since => now() - interval '1 day')"),
    ("dashboard, search by a part", "SELECT vcc.report_ticket('no such title', NULL)"),
    ("dashboard, a ticket by its identifier", "SELECT vcc.report_ticket('{ticket}', {project})"),
    ("dashboard, a ticket by its number", "SELECT vcc.report_ticket('{project}-{ticket}', NULL)"),
]  # fmt: skip

# Those of a manager: of a project, and of what is kept of all.
for number, question in re.findall(r"^### (\d+)\. [^\n]*\n\n```sql\n(.*?);\n```", (ROOT / "sql/README.md").read_text(), re.MULTILINE | re.DOTALL):
    QUESTIONS += [(f"manager's question {number}, a project", question.replace("project_id = 131", f"project_id = {PROJECT}")),
                  (f"manager's question {number}, all", re.sub(r"vcc\.(ticket_metrics|deadline_cycles)\b", r"vcc.\1_kept", question.replace(
                      "project_id = 131", "true")))]  # fmt: skip

# A view that is kept, and what identifies its rows.
KEPT = re.findall(r"CREATE UNIQUE INDEX ON (\w+) \(([^)]*)\)", (ROOT / "sql/README.md").read_text())


def readme():
    """Its report queries, with the ids of its sample data replaced."""
    text = (ROOT / "README.md").read_text()
    queries = re.search(r"## Report\n.*?```sql\n(.*?)```", text, re.DOTALL).group(1)
    for comment, statement in re.findall(r"-- ([^\n]*)\n([^;]*);", queries):
        statement = statement.replace("project_id = 130", "project_id = {project}")
        yield "README: " + comment, statement.replace("ticket_id = 21", "ticket_id = {ticket}")


def fill(cursor):
    notes = max(0, 2 * (EVENTS / TICKETS - 3.2))  # at most: what the other steps leave, which are 3.2 on average
    for name, statement in ("partitions", PARTITIONS), ("lives", LIVES), ("steps", STEPS), ("journal", JOURNAL), \
                           ("tables", TABLES), ("vacuum", "VACUUM ANALYZE"):  # fmt: skip
        begun = time.monotonic()
        cursor.execute(statement.replace("@notes", str(notes)))
        print(f"{name:12}{time.monotonic() - begun:6.0f} s", flush=True)


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def indexes(plan):
    """Those of the plan; a partition's is called as that of the whole journal."""
    names = {re.sub(r"^(ticket_events)_(\d{4}_\d\d|default)_", r"\1_", node["Index Name"])
             for node in nodes(plan) if "Index Name" in node}  # fmt: skip
    scans = {f"({node['Relation Name']} read whole)" for node in nodes(plan)
             if node["Node Type"] == "Seq Scan" and node["Actual Rows"] > 1000}  # fmt: skip
    return ", ".join(sorted(names) + sorted(scans))


def ask(cursor, statement):
    """Rows, the median of the milliseconds as the server is by default and without its compiler, and the indexes."""
    medians = []
    for jit in "on", "off":
        cursor.execute(f"SET jit = {jit}")
        times = []
        for _ in range(TIMES):
            begun = time.monotonic()
            cursor.execute(statement)
            rows = len(cursor.fetchall())
            times.append((time.monotonic() - begun) * 1000)
        medians.append(statistics.median(times))
    cursor.execute("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + statement)
    return rows, medians, indexes(cursor.fetchone()[0][0]["Plan"])


def kept(cursor):
    print(f"\n| {'kept, with its index':20} | {'s to make':>9} | {'s to refresh':>12} | {'size':>8} | ms to count a project's")
    print(f"|{'-' * 22}|{'-' * 10}:|{'-' * 13}:|{'-' * 9}:|---")
    cursor.execute("SET jit = on")
    for name, key in KEPT:
        seconds = []
        for statement in (f"CREATE MATERIALIZED VIEW {name} AS SELECT * FROM vcc.{name}; "
                          f"CREATE UNIQUE INDEX ON {name} ({key})", f"REFRESH MATERIALIZED VIEW CONCURRENTLY {name}",
                          f"SELECT count(*) FROM {name} WHERE project_id = {PROJECT}"):  # fmt: skip
            begun = time.monotonic()
            cursor.execute(statement)
            seconds.append(time.monotonic() - begun)
        cursor.execute(f"SELECT pg_size_pretty(pg_total_relation_size('{name}'))")
        print("| {:20} | {:9.1f} | {:12.1f} | {:>8} | {:.0f}".format(
            name, *seconds[:2], cursor.fetchone()[0], seconds[2] * 1000), flush=True)  # fmt: skip


def main():
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all is ended and removed
    with Cluster(settings=SETTINGS, on_disk=True) as cluster:
        cluster.createdb("reports")
        cluster.install_schema("reports")
        with contextlib.closing(cluster.connect("reports")) as connection, connection.cursor() as cursor:
            fill(cursor)
            cursor.execute("SELECT (SELECT count(*) FROM vcc.tickets), (SELECT count(*) FROM vcc.ticket_events), "
                           "pg_size_pretty(pg_database_size('reports'))")  # fmt: skip
            print("{:,} tickets, {:,} journal rows, {}\n".format(*cursor.fetchone()))
            cursor.execute("SELECT project_id, ticket_id FROM vcc.ticket_events "
                           "GROUP BY 1, 2 ORDER BY count(*) DESC LIMIT 1")  # fmt: skip
            project, ticket = cursor.fetchone()
            for what in "the first time", "again":
                begun = time.monotonic()
                cursor.execute("SELECT vcc.refresh_reports()")
                print(f"vcc.refresh_reports(), {what}: {cursor.fetchone()[0]:,} tickets, {time.monotonic() - begun:.1f} s", flush=True)
            cursor.execute("VACUUM ANALYZE vcc.ticket_metrics_kept, vcc.deadline_cycles_kept")
            print(f"\n| {'question':40} | {'rows':>7} | {'ms':>6} | {'jit off':>7} | indexes\n"
                  f"|{'-' * 42}|{'-' * 8}:|{'-' * 7}:|{'-' * 8}:|---")
            for name, statement in [*QUESTIONS, *readme()]:
                if not ONLY or any(word in name for word in ONLY):
                    rows, (ms, without), used = ask(cursor, statement.format(project=project, ticket=ticket))
                    print(f"| {name:40} | {rows:7,} | {ms:6,.0f} | {without:7,.0f} | {used}", flush=True)
            if not ONLY or "kept" in ONLY:
                kept(cursor)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
