"""The load, written once for every contender: 15 % add, 75 % update of 2 to 4 attributes, 10 % delete, over 50,000
tickets in 20 projects, with bodies made from the documented samples. wrk and pgbench send it, an import file holds it,
and a probe looks whether anyone starves meanwhile."""

import http.client
import json
import pathlib
import random
import re
import subprocess
import threading
import time

import conftest
from model import FIELDS

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROJECTS = 20
FIRST_PROJECT = 101
TICKETS = 50_000
PROBE_PROJECT = 99
REFUSED_TITLE = "refused by PostgreSQL"

# What differs from event to event; @… is replaced by a number when the event is made.
KEY = {"ticketId": "@ticket", "projectId": "@project"}
NUMBER = {"ticketNo": "@project-20240215-@ticket", "title": "bug @n"}


def sample(name, **attributes):
    event = json.loads(conftest.sample(name))
    return {"action": event["action"], "ticket": {**event["ticket"], **KEY, **NUMBER, **attributes}}


def update(**attributes):
    return {"action": "update", "ticket": {**KEY, **attributes}}


# Shares in per cent, and the events.
MIX = [
    (15, sample("add")),
    (25, update(title="Customer complaint @n", subStatus="waiting4entity")),
    (25, update(status="park", subStatus="waiting4agent", cc="office@example.com")),
    (25, update(title="Problem @n", description="Description @n of this Ticket", agentName="Rachel Scott", userId=8)),
    (10, sample("delete")),
]
# Of a hundred events one is refused, half of them by ticketd (422) and half by PostgreSQL: see refuse_titles().
POISON = [*[(2 * share, event) for share, event in MIX[:-1]], (18, MIX[-1][1]),
          (1, update(title="Problem @n", userId="nobody")), (1, update(title=REFUSED_TITLE, description="event @n"))]


def text(event):
    """The body, still with its @… in it. A number must not stand in quotes."""
    return re.sub(r'"(@\w+)"', r"\1", json.dumps(event, separators=(",", ":")))


def fill(template, ticket, n):
    """One body: of ticket 0 to TICKETS - 1."""
    values = {"@ticket": ticket // PROJECTS + 1, "@project": FIRST_PROJECT + ticket % PROJECTS, "@n": n}
    return re.sub("@(ticket|project|n)", lambda found: str(values[found[0]]), template)


def formatted(event, ticket, project, n):
    """The body as an expression in SQL, of expressions for what differs."""
    body = text(event)
    for before, after in ("@ticket", "%1$s"), ("@project", "%2$s"), ("@n", "%3$s"):
        body = body.replace(before, after)
    return f"format('{body}', {ticket}, {project}, {n})"


def write_mix(path, mix):
    """The file that load.lua reads: the share, a tab, the body."""
    path.write_text("".join(f"{share}\t{text(event)}\n" for share, event in mix))


def write_lines(path, count):
    """A file for `ticketd import`."""
    shares, events = zip(*MIX)
    templates = random.Random(1).choices([text(event) for event in events], shares, k=count)
    with open(path, "w", encoding="utf-8") as file:
        for n, template in enumerate(templates):
            file.write(fill(template, n * 7919 % TICKETS, n) + "\n")


def seed(database):
    """The tickets of the load as they are when it has run for long: adds outnumber deletes 3 to 2, so 60 % exist and
    the others are remembered as deleted; all had an add. A contender's speed then does not change what its events find.
    """
    database.query(f"""
        CREATE TEMPORARY TABLE seed AS
            SELECT {FIRST_PROJECT} + k % {PROJECTS} AS project, 1 + k / {PROJECTS} AS ticket,
                   k / {PROJECTS} % 5 < 3 AS there
              FROM generate_series(0, {TICKETS - 1}) k;
        {insert_tickets("seed WHERE there")};
        INSERT INTO vcc.deleted_tickets SELECT project, ticket, now() FROM seed WHERE NOT there;
        INSERT INTO vcc.ticket_adds SELECT project, ticket, sha256(format('%s %s', project, ticket)::bytea) FROM seed;
        DROP TABLE seed""")
    database.query((HERE / "peer.sql").read_text())


def seed_growth(database, tickets, events):
    """Older tickets and journal rows beside those of the load: the tickets in play are the recent ones."""
    database.query(f"""
        CREATE TEMPORARY TABLE older AS
            SELECT {FIRST_PROJECT} + k % {PROJECTS} AS project, 1 + k / {PROJECTS} AS ticket
              FROM generate_series({TICKETS}, {tickets - 1}) k;
        {insert_tickets("older")};
        INSERT INTO vcc.ticket_adds SELECT project, ticket, sha256(format('%s %s', project, ticket)::bytea) FROM older;
        DROP TABLE older""")
    database.query("""DO $$
        DECLARE
            this  timestamptz := date_trunc('month', now(), 'UTC');
            last  timestamptz := date_trunc('month', now() - interval '30 days', 'UTC');
        BEGIN
            IF last < this THEN
                EXECUTE format('CREATE TABLE vcc.%I PARTITION OF vcc.ticket_events FOR VALUES FROM (%L) TO (%L)',
                    to_char(last AT TIME ZONE 'UTC', '"ticket_events_"YYYY_MM'),
                    vcc.first_event_id(last), vcc.first_event_id(this));
            END IF;
        END $$""")
    database.query(f"""
        INSERT INTO vcc.ticket_events (
               event_id, project_id, ticket_id, action, received_at, result, payload, changes, was_open, is_open)
        SELECT overlay(vcc.first_event_id(at)::text PLACING lpad(to_hex(k), 12, '0') FROM 25)::uuid,
               project, ticket, 'update', at, 'updated', {formatted(MIX[3][1], "ticket", "project", "k")}::jsonb,
               jsonb_build_object('title', jsonb_build_array('bug', 'Problem ' || k)), k % 5 = 0, k % 5 > 0
          FROM (SELECT k, {FIRST_PROJECT} + k % {PROJECTS} AS project,
                       1 + k / {PROJECTS} % {tickets // PROJECTS} AS ticket,
                       now() - interval '30 days' + k * (interval '29 days' / {events}) AS at
                  FROM generate_series(1, {events}) k) event""")


def insert_tickets(source):
    return f"""
        INSERT INTO vcc.tickets (project_id, ticket_id, entity_id, contact_id, created_user_id, user_id, ticket_no,
               title, type, description, status, sub_status, created_user_name, project_name, agent_name,
               agent_user_name, first_open_time, last_open_time, soft_deadline, first_event_at, last_event_at)
        SELECT project, ticket, 1814, 1220, 6, 8, format('%s-20240215-%s', project, ticket), 'bug', 'complaint', 'a',
               'park', 'waiting4agent', 'John Smith', 'Manual', 'John Smith', 'john_smith', now(), now(), now(), now(),
               now()
          FROM {source}"""


def refuse_titles(database):
    """A site's own constraint: what PostgreSQL refuses although ticketd finds nothing wrong."""
    database.query(f"ALTER TABLE vcc.tickets ADD CHECK (title <> '{REFUSED_TITLE}')")


# -- wrk --------------------------------------------------------------------------------------------------------------


def wrk(port, path, clients, seconds, mix):
    """Runs wrk with the bodies of the file `mix`. Its percentiles count a stall once for each request that it kept from
    being sent. What was under way when it ends is not in its figures; nginx answers it nevertheless."""
    done = subprocess.run(
        ["wrk", f"-t{min(2, clients)}", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s",
         "-s", str(HERE / "load.lua"), f"http://127.0.0.1:{port}{path}", "--", str(mix),
         *map(str, (time.time_ns() % 2**31, PROJECTS, FIRST_PROJECT, TICKETS))],
        capture_output=True, text=True, check=False)  # fmt: skip
    found = re.search(r"^\{.*\}$", done.stdout, re.M)
    if done.returncode or not found:
        raise RuntimeError(f"wrk failed:\n{done.stdout}{done.stderr}")
    seen = json.loads(found[0])
    seconds = seen["us"] / 1e6
    good = seen["answers"] - seen["refused"]
    return {"seconds": seconds, "events": seen["answers"], "rate": good / seconds, "p50": seen["p50"] / 1000,
            "p99": seen["p99"] / 1000, "bad": seen["refused"] + seen["broken"]}  # fmt: skip


class Probe(threading.Thread):
    """Keeps connections of its own beside those of the load, with pauses such as a real sender makes, and sends one
    event after another on them in turn. None may wait for long, and what is answered 200 must be in the journal: `ids`.
    """

    PATIENCE = 5

    def __init__(self, port, path, connections=8):
        super().__init__(daemon=True)
        self.place = port, path
        self.connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=self.PATIENCE)
                            for _ in range(connections)]  # fmt: skip
        self.sent, self.good, self.worst, self.starved, self.ids = 0, 0, 0.0, 0, []
        self.ending = threading.Event()
        self.start()

    def run(self):
        while not self.ending.wait(0.02):
            self.send(self.connections[self.sent % len(self.connections)])
        for connection in self.connections:
            connection.close()

    def send(self, connection):
        self.sent += 1
        ticket = {"projectId": PROBE_PROJECT, "ticketId": self.sent, "title": "probe"}
        body = json.dumps({"action": "update", "ticket": ticket})
        begun = time.monotonic()
        try:
            connection.request("POST", self.place[1], body)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.starved += 1
            connection.close()  # the next request opens it again
            return
        self.worst = max(self.worst, (time.monotonic() - begun) * 1000)
        if answer.status == 200:
            self.good += 1
            self.ids.append(json.loads(content).get("event"))

    def end(self):
        self.ending.set()
        self.join(2 * self.PATIENCE)
        return {"sent": self.sent, "good": self.good, "worst": self.worst, "starved": self.starved}


# -- pgbench ----------------------------------------------------------------------------------------------------------

PREPARE = rf"""\set k random(0, {TICKETS - 1})
\set project {FIRST_PROJECT} + :k % {PROJECTS}
\set ticket 1 + :k / {PROJECTS}
\set turn :turn + 1
\set n :turn * 64 + :client_id
"""


def expression(value):
    """The value of an attribute in SQL. A number of pgbench's is a parameter of the prepared statement."""
    if not isinstance(value, str):
        return str(value)
    parts = [f":{part[1:]}::bigint" if part[0] == "@" else f"'{part}'"
             for part in re.split("(@ticket|@project|@n)", value) if part]
    return " || ".join(parts)


EVENT_ID = "lpad(to_hex(:base::bigint + :n::bigint), 32, '0')::uuid"  # ascending: random ones would cost more


def values_of(event):
    """The columns that the event sets, as expressions."""
    return {column: expression(event["ticket"][name]) + ("::timestamptz" if kind == "time" else "")
            for name, (column, kind) in FIELDS.items() if name in event["ticket"]}  # fmt: skip


def one_call(event):
    """See peer.sql."""
    attributes = {} if event["action"] == "delete" else values_of(event)
    values = {"event_id": EVENT_ID, "received_at": "clock_timestamp()", "action": f"'{event['action']}'",
              "payload": payload_of(event), **key_of(), **attributes}  # fmt: skip
    return f"SELECT peer.apply_event({', '.join(f'{name} => {value}' for name, value in values.items())});\n"


def plain_statement(event):
    """The one statement of peer.php, with only the columns that the event carries: fewer promises, less work."""
    project, ticket = key_of().values()
    journal = (f"WITH journal AS (INSERT INTO vcc.ticket_events VALUES ({EVENT_ID}, {project}, {ticket}, "
               f"'{event['action']}', now(), 'updated', {payload_of(event)}::jsonb))")  # fmt: skip
    if event["action"] == "delete":
        return f"{journal} DELETE FROM vcc.tickets WHERE project_id = {project} AND ticket_id = {ticket};\n"
    values = values_of(event)
    updates = ", ".join(f"{column} = coalesce(excluded.{column}, t.{column})" for column in values)
    return (f"{journal} INSERT INTO vcc.tickets AS t (project_id, ticket_id, {', '.join(values)}, first_event_at, "
            f"last_event_at) VALUES ({project}, {ticket}, {', '.join(values.values())}, now(), now()) "
            f"ON CONFLICT (project_id, ticket_id) DO UPDATE SET {updates}, last_event_at = excluded.last_event_at;\n")  # fmt: skip


def key_of():
    return {"project_id": expression(KEY["projectId"]), "ticket_id": expression(KEY["ticketId"])}


def payload_of(event):
    return formatted(event, ":ticket::bigint", ":project::bigint", ":n::bigint")


def write_pgbench(folder, statement):
    """Script files with their weights: one transaction an event."""
    arguments = []
    for n, (share, event) in enumerate(MIX):
        path = folder / f"event{n}.sql"
        path.write_text(PREPARE + statement(event))
        arguments += ["-f", f"{path}@{share}"]
    return arguments
