"""The report views against a slow, obvious computation: random histories, with a look at the ticket before and after
each event, from which every row of every view follows. And that a filter reaches the indexes.

SQL_DIR names another directory of SQL files: a broken copy must turn these tests red.
"""

import contextlib
import json
import os
import random
import re
import statistics
import sys
import uuid
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import psycopg2
import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import SOURCE, SQL_DIR, Cluster  # noqa: E402
from model import COLUMNS, Event  # noqa: E402
from test_rule import APPLY, EMPTY, arrays, query, received  # noqa: E402

# A failing run prints its seed; SEED=… repeats it.
SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else [1, 2, 3]
ZONES = ["UTC", "Pacific/Auckland", "America/St_Johns"]
DAY = timedelta(days=1)
DAYS = 45  # of a history, until now
KEYS = [(project, ticket) for project in (1, 2) for ticket in range(1, 7)]
NOW = datetime.now(timezone.utc).replace(microsecond=0)


def iso(days):
    return (NOW - days * DAY).isoformat()


# What the views look at, with few values, so that the same one comes again.
VALUES = {
    "status": ["closed", "closed", "park", "new", None],
    "subStatus": ["successful", "unsuccessful", "waiting4agent", "waiting4entity", None],
    "agentUserName": ["anna", "bert", None],
    "agentName": ["Anna", "Anna B.", "Bert", None],
    "projectName": ["Manual", "Sales"],
    "type": ["complaint", "question", None],
    "userId": [6, 8],
    "firstOpenTime": [iso(40), iso(20), iso(1), None],
    "softDeadline": [iso(30), iso(10), iso(-10), None],
    "colour": ["red", 1, ["a", None], {"b": None}, None],
    "type of extra": ["null", "", None],
}


FLOWS = "opened", "closed", "reopened", "deleted"
METRICS = ("project_id, ticket_id, state, opened_at, closed_at, first_resolution, full_resolution, desk_time, "
           "customer_time, other_time, open_time, first_turn, closes, reopens, stations, agents, time_to_assign, "
           "unassigned_time, one_touch, age, idle, in_state, complete")  # fmt: skip


def random_body(rng, key):
    action = rng.choice(["add", "update", "update", "update", "update", "delete"])
    share = rng.choice([0.1, 0.3, 0.6])
    chosen = {name: rng.choice(values) for name, values in VALUES.items() if rng.random() < share}
    return json.dumps({"action": action, "ticket": {"projectId": key[0], "ticketId": key[1], **chosen}}).encode()


@dataclass
class Step:
    """An event with what it found and what it left: rows of vcc.tickets, None where there is none."""

    event: Event
    id: uuid.UUID
    at: datetime  # of receipt
    result: str
    before: dict
    after: dict
    kept: bool = True  # in the journal

    @property
    def flows(self):
        return (self.was, self.becomes) if self.was != self.becomes else None

    @property
    def was(self):
        return is_open(self.before)

    @property
    def becomes(self):
        return is_open(self.after)


def is_open(row):
    return None if row is None else row["status"] != "closed"


class History:
    """A database with a random history, and the steps of each ticket in the order in which they took effect."""

    def __init__(self, connection, seed, events=400, late=0.15):
        self.connection, self.seed = connection, seed
        self.steps = defaultdict(list)
        self.rejected = []
        rng = random.Random(seed)
        bodies = [random_body(rng, rng.choice(KEYS)) for _ in range(events)]
        clock = NOW - DAYS * DAY
        for n, body in enumerate(bodies):
            clock += timedelta(seconds=rng.uniform(0, 2 * 86400 * DAYS / events * 0.98))
            clock = min(clock, NOW - timedelta(seconds=events - n))
            at = clock - rng.uniform(0, 3) * DAY if rng.random() < late else clock
            if rng.random() < 0.1:
                body = rng.choice(bodies[:n + 1])  # sent again
            self.apply(received(body), at)
        for project in (0, 1, 1):
            self.reject(project, clock - rng.random() * DAY, str(rng.random()))

    def apply(self, event, at):
        identifier = uuid.UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | event.number)
        before = self.row(event.key)
        values = {**arrays([event]), "event_id": [str(identifier)], "received_at": [at.isoformat()]}
        result = self.rows(APPLY, values)[0]["result"]
        self.steps[event.key].append(Step(event, identifier, at, result, before, self.row(event.key)))

    def reject(self, project, at, body):
        event = str(uuid.uuid4())
        query(self.connection, "SELECT vcc.reject_event(%s, %s, %s, %s, 'no action')",
              event, at, project, body.encode())  # fmt: skip
        self.rejected.append((at, "rejected", None, project or None, None, "no action", 1, event))

    def row(self, key):
        rows = self.rows("SELECT * FROM vcc.tickets WHERE project_id = %s AND ticket_id = %s", key)
        return rows[0] if rows else None

    def rows(self, sql, parameters=()):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [dict(zip([column.name for column in cursor.description], row)) for row in cursor]

    def drop_before(self, day):
        """Of the time zone of the session, which must be UTC here."""
        query(self.connection, "SELECT * FROM vcc.drop_events_before(%s)", day)
        for steps in self.steps.values():
            for step in steps:
                step.kept = step.at.date() >= day
        self.rejected = [row for row in self.rejected if row[0].date() >= day]

    # -- what the views must show ----------------------------------------------------------------------------------

    def check(self, view, columns, expected, now):
        """That a view has these rows, in whatever order; and those of one project where it is asked for that."""
        for where, expected in (("true", expected), ("project_id = 1", self.of_project(1, columns, expected))):
            found = query(self.connection, f"SELECT {columns} FROM vcc.{view} WHERE {where}")
            surplus, missing = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
            assert not (surplus or missing), "\n".join(
                [f"SEED={self.seed}, vcc.{view} WHERE {where}, now {now}", "surplus:", *map(str, surplus), "missing:",
                 *map(str, missing)])  # fmt: skip

    @staticmethod
    def of_project(project, columns, rows):
        place = columns.split(", ").index("project_id")
        return [row for row in rows if row[place] == project]

    def tickets(self):
        return {key: steps[-1].after for key, steps in self.steps.items() if steps[-1].after}

    def open_tickets(self, now):
        for (project, ticket), row in self.tickets().items():
            if row["status"] != "closed":
                deadline = row["soft_deadline"]
                yield (project, ticket, row["status"], row["sub_status"], row["agent_name"],
                       max(now - (row["first_open_time"] or row["first_event_at"]), timedelta()),
                       deadline is not None and deadline < now, deadline)  # fmt: skip

    def ticket_history(self):
        for key, step in self.kept():
            before, after = ({**{column: row[column] for column in COLUMNS},
                              **{f"extra.{name}": value for name, value in row["extra"].items()}} if row else {}
                             for row in (step.before, step.after))  # fmt: skip
            if not step.after and step.before:
                yield (*key, step.at, step.event.action, None, None, None, str(step.id), step.result)
            for name in {**before, **after} if step.after else ():
                old, new = before.get(name), after.get(name)
                if old != new:
                    yield (*key, step.at, step.event.action, name, text(old), text(new), str(step.id),
                           step.result)  # fmt: skip

    def every(self):
        return [(key, step) for key, steps in self.steps.items() for step in steps]

    def kept(self):
        return [(key, step) for key, step in self.every() if step.kept]

    def status_periods(self, now):
        for key, steps in self.steps.items():
            started, clock = None, None
            for step in steps:
                if step.kept and looks(step.before) != looks(step.after):
                    clock = max(step.at, clock or step.at)
                if step.kept and status(step.before) != status(step.after):
                    ended = clock
                    if step.before:
                        yield (*key, *status(step.before), started, ended, started and ended - started,
                               "change" if step.after else "deletion", state(step.before))  # fmt: skip
                    started = ended
            if steps[-1].after:
                yield (*key, *status(steps[-1].after), started, None, started and now - started, None,
                       state(steps[-1].after))  # fmt: skip

    def daily_flow(self, now, zone):
        flows = defaultdict(list)
        gone = set()
        clock = {}
        for key, step in self.kept():
            if step.flows:
                again = "restored" if key in gone else "opened"
                clock[key] = max(step.at, clock.get(key, step.at))
                flows[key[0]].append((clock[key].astimezone(zone).date(), *step.flows, again))
                gone |= {key} if step.becomes is None else set()
        tickets = self.tickets()
        for project in {*flows, *(key[0] for key in tickets)}:
            events = flows[project]
            names = {key: row["project_name"] for key, row in tickets.items()
                     if key[0] == project and row["project_name"]}  # fmt: skip
            name = names[max(names)] if names else None
            today = now.astimezone(zone).date()
            day = min((event[0] for event in events), default=today)
            backlog = 0
            if not all(step.kept for steps in self.steps.values() for step in steps):
                backlog = sum(is_open(row) for key, row in tickets.items() if key[0] == project)
                backlog -= sum((new is True) - (old is True) for _, old, new, _ in events)
            while day <= today:
                moves = Counter((old, new, again if old is None else None) for at, old, new, again in events if at == day)
                restored_open, deleted_open = moves[None, True, "restored"], moves[True, None, None]
                restored, deleted = restored_open + moves[None, False, "restored"], deleted_open + moves[False, None, None]
                opened, reopened = moves[None, True, "opened"] + moves[None, False, "opened"], moves[False, True, None]
                closed = moves[True, False, None] + moves[None, False, "opened"]
                backlog += opened + reopened + restored_open - closed - deleted_open  # the invariant
                yield (day, project, name, opened, closed, reopened, deleted, backlog, deleted_open, restored, restored_open)
                day += DAY

    def resolution_times(self):
        for key, steps in self.steps.items():
            clock, inserted, closed, reopened, last, then, deadline = None, None, None, 0, None, None, None
            for step in [*steps, None]:
                if step and step.kept and step.flows:
                    clock = max(step.at, clock or step.at)
                if step is None or (step.before and not step.after):  # a life ends, or lasts
                    row = step.before if step else last
                    if row and row["status"] == "closed" and closed and (step is None or step.kept):
                        opened = row["first_open_time"] or inserted or (None if step else row["first_event_at"])
                        yield (*key, then["type"], opened, closed, opened and max(closed - opened, timedelta()),
                               reopened,
                               {"successful": True, "unsuccessful": False}.get(row["sub_status"]),
                               deadline and closed <= deadline,
                               then["agent_user_name"], then["agent_name"])  # fmt: skip
                    inserted, closed, reopened = None, None, 0
                elif step.kept and step.flows:
                    inserted = inserted or (clock if step.was is None else None)
                    if step.becomes is False:
                        closed, then, deadline = clock, step.after, (step.before or step.after)["soft_deadline"]
                    reopened += step.flows == (False, True)
                last = step and step.after

    def lives(self, key):
        """Each life of a ticket as the list of its spans (from, until, the ticket meanwhile), the action that it began
        with, and whether it was deleted. A time is never before the one before it."""
        clock = start = life = None
        for step in self.steps[key]:
            if looks(step.before) == looks(step.after):
                continue
            clock = max(step.at, clock or step.at)
            if step.before is None:
                life = SimpleNamespace(spans=[], action=step.event.action, deleted=False)
            else:
                life.spans.append((start, clock, step.before))
            start = clock
            if step.after is None:
                life.deleted = True
                yield life
        if self.steps[key][-1].after:
            life.spans.append((start, None, self.steps[key][-1].after))
            yield life

    def ticket_metrics(self, now):
        for key in self.steps:
            for life in self.lives(key):
                if not life.deleted:
                    yield (*key, *metrics(life, now))

    def deadline_cycles(self, now):
        for key in self.steps:
            n = 0
            for life in self.lives(key):
                for cycle in cycles(life):
                    n += 1
                    yield (*key, *cycle_row(life, cycle, now), n)

    def deadline_moves(self):
        for key in self.steps:
            for life in self.lives(key):
                for (_, at, row), (_, _, then) in zip(life.spans, life.spans[1:]):
                    old, new = row["soft_deadline"], then["soft_deadline"]
                    if "closed" not in (row["status"], then["status"]) and old and old != new:
                        yield (*key, at, old, new, at > old, then["agent_name"], then["agent_user_name"])

    def assignment_periods(self):
        for key in self.steps:
            for life in self.lives(key):
                last, spans = None, life.spans
                for n, (start, end, row) in enumerate(spans):
                    agent = row["agent_name"] if row["status"] != "closed" else None
                    if agent is not None and agent != last:
                        begun = start
                    then = spans[n + 1][2] if n + 1 < len(spans) else None
                    if agent is not None and (not then or then["status"] == "closed" or then["agent_name"] != agent):
                        yield (*key, agent, row["agent_user_name"], begun, end)
                    last = agent

    def agent_workload(self, now):
        agents = defaultdict(lambda: {"open": 0, "overdue": 0, "closed": 0, "times": []})
        for key, row in self.tickets().items():
            if row["status"] != "closed":
                agent = agents[key[0], row["agent_user_name"], row["agent_name"]]
                agent["open"] += 1
                agent["overdue"] += bool(row["soft_deadline"] and row["soft_deadline"] < now)
        for key in self.steps:
            for life in self.lives(key):
                _, _, closed, _, resolution, *_, complete = metrics(life, now)
                if closed and not life.deleted and closed >= now - 30 * DAY:
                    row = next(row for n, (_, _, row) in reversed([*enumerate(life.spans)])
                               if n == 0 or life.spans[n - 1][2]["status"] != "closed")  # fmt: skip
                    agent = agents[key[0], row["agent_user_name"], row["agent_name"]]
                    agent["closed"] += closed >= now - 7 * DAY
                    agent["times"] += [resolution.total_seconds()] if complete else []
        for (project, login, name), agent in agents.items():
            median = statistics.median(agent["times"]) if agent["times"] else None
            yield (project, login, name, agent["open"], agent["overdue"], agent["closed"], median and round(median, 3),
                   len(agent["times"]))  # fmt: skip

    def moments(self, today, agent, type):
        """Of each day what came, went, and changed the backlog, and the last close of each ticket that is closed, of an
        agent and a type as they were at the moment."""
        def fits(row):
            return agent in (None, row["agent_name"] or "") and type in (None, row["type"] or "")

        days, closes = defaultdict(Counter), {}
        for key, steps in self.steps.items():
            gone, clock = False, steps[0].at
            for step in steps:
                if step.flows or (agent, type) != (None, None) and changes_hands(step):
                    clock = max(step.at, clock)
                day = days[min(clock.date(), today)]
                day["more"] += bool(step.becomes and fits(step.after)) - bool(step.was and fits(step.before))
                if step.flows and fits(step.after or step.before):
                    day["opened"] += step.was is None and not gone
                    day["closed"] += step.becomes is False and (step.was or not gone)
                    day["reopened"] += step.flows == (False, True)
                    day["deleted"] += step.becomes is None
                gone |= step.becomes is None and step.was is not None
                closes[key] = step.after if step.flows and step.becomes is False else closes.get(key)
        now = self.tickets()
        return days, [row for key, row in closes.items() if key in now and not is_open(now[key]) and fits(row)]

    def deliveries(self):
        for key, step in self.kept():
            yield (step.at, step.result, step.event.action, *key, None, 1, str(step.id))
        yield from self.rejected


def looks(row):
    """What the desk's views look at."""
    names = "status", "sub_status", "agent_name", "agent_user_name", "type", "soft_deadline", "first_open_time"
    return row and [row[name] for name in names]


def changes_hands(step):
    names = "agent_name", "agent_user_name", "type"
    return step.before and step.after and [step.before[name] for name in names] != [step.after[name] for name in names]


def state(row):
    if row["status"] == "closed":
        return "closed"
    return {"waiting4agent": "desk", "waiting4entity": "customer"}.get(row["sub_status"], "other")


def metrics(life, now):
    """Before it was opened no time passes."""
    row, zero = life.spans[-1][2], timedelta()
    opened = row["first_open_time"] or life.spans[0][0]
    closings, reopens, stations, runs = [], 0, 0, []
    time_of, unassigned, first_agent, first_turn = defaultdict(timedelta), zero, None, None
    last_state, last_agent = None, None
    for n, (start, end, ticket) in enumerate(life.spans):
        now_in, agent = state(ticket), ticket["agent_name"]
        closed_at, start, end = start, max(start, opened), max(end or now, opened)
        begin = start if n else opened
        if now_in == "closed" and last_state != "closed":
            closings.append(closed_at)
        reopens += last_state == "closed" != now_in
        if now_in in ("closed", "customer") and first_turn is None:
            first_turn = start
        if n == 0 and now_in == "closed":  # it was open before, nobody knows how
            time_of["other"] += start - opened
            unassigned += start - opened if agent is None else zero
        if now_in != "closed":
            time_of[now_in] += end - begin
            unassigned += end - begin if agent is None else zero
        if agent is not None:
            stations += agent != last_agent
            runs.append(agent)
            first_agent = first_agent or begin
        if now_in != last_state:
            since = begin
        last_state, last_agent = now_in, agent
    closed, began = last_state == "closed", state(life.spans[0][2])
    return (last_state, opened, closings[-1] if closed else None, max(closings[0] - opened, zero) if closings else None,
            max(closings[-1] - opened, zero) if closed else None, time_of["desk"], time_of["customer"],
            time_of["other"], sum(time_of.values(), zero), first_turn - opened if began == "desk" and first_turn else None,
            len(closings), reopens, stations, len(set(runs)), first_agent and first_agent - opened, unassigned,
            closed and len(closings) == 1 and "customer" not in {state(span[2]) for span in life.spans}
            and len(set(runs)) <= 1, None if closed else max(now - opened, zero),
            None if closed else now - row["last_event_at"],
            None if closed else max(now - since, zero), life.action == "add")  # fmt: skip


def cycles(life):
    """Each time that it was open: its spans, and the ticket behind the close."""
    found, open_now = [], False
    for span in life.spans:
        if span[2]["status"] == "closed":
            if open_now:
                found[-1].closed = span
            open_now = False
        else:
            if not open_now:
                found.append(SimpleNamespace(spans=[], closed=None, first=span is life.spans[0]))
            open_now = True
            found[-1].spans.append(span)
    return found


def cycle_row(life, cycle, now):
    start = opened = cycle.spans[0][0]
    if cycle.first:
        opened = life.spans[-1][2]["first_open_time"] or opened
        start = min(start, opened)
    cancelled = cycle.closed is None and life.deleted and cycle.spans[-1] is life.spans[-1]
    closed = cycle.closed and cycle.closed[0]
    known = [row["soft_deadline"] for _, _, row in cycle.spans]
    first, last = next((at for at in known if at), None), known[-1]
    ever, later, earlier, after, removed = False, 0, 0, 0, 0
    for n, (at, end, row) in enumerate(cycle.spans):
        deadline = row["soft_deadline"]
        if deadline:
            ever |= (at if n else start) < (end or now) > deadline
            if n + 1 < len(known):
                new = known[n + 1]
                later += bool(new and new > deadline)
                earlier += bool(new and new < deadline)
                after += bool(new and new != deadline and end > deadline)
                removed += new is None
    row = cycle.closed[2] if cycle.closed else cycle.spans[-1][2]
    return (opened, closed, first, last, closed and last and closed <= last, closed and last and closed > last,
            closed and first and closed <= first, ever, cancelled, bool(known[0] and known[0] < opened), later, earlier, after,
            removed, row["agent_name"], row["type"], row["agent_user_name"])  # fmt: skip


def status(row):
    return None if row is None else (row["status"], row["sub_status"])


def text(value):
    if value is None or isinstance(value, str):
        return value
    return value.astimezone(timezone.utc).isoformat() if isinstance(value, datetime) else json.dumps(value)


def check_all(history, zone="UTC"):
    """Every view, in one transaction: now() stands still."""
    [(now, _)] = query(history.connection, "SELECT now(), set_config('timezone', %s, true)", zone)

    def check(view, columns, expected):
        history.check(view, columns, list(expected), now)

    check("open_tickets", "project_id, ticket_id, status, sub_status, agent_name, age, overdue, soft_deadline",
          history.open_tickets(now))  # fmt: skip
    check("overdue_tickets", "project_id, ticket_id, status, sub_status, agent_name, age, soft_deadline, overdue_by",
          [(*row[:6], row[7], now - row[7]) for row in history.open_tickets(now) if row[6]])  # fmt: skip
    check("ticket_history", "project_id, ticket_id, received_at, action, attribute, old_value, new_value, "
          "event_id::text, result", history.ticket_history())  # fmt: skip
    check("status_periods", "project_id, ticket_id, status, sub_status, started_at, ended_at, duration, ended_by, "
          "state",
          history.status_periods(now))  # fmt: skip
    if all(step.kept for _, step in history.every()):
        check("ticket_metrics", METRICS, history.ticket_metrics(now))
        check("agent_workload", "project_id, agent_user_name, agent_name, open, overdue, closed_last_7_days, "
              "round(extract(epoch FROM median_resolution), 3)::float8, resolved_last_30_days",
              history.agent_workload(now))  # fmt: skip
        check("deadline_cycles", "project_id, ticket_id, opened_at, closed_at, first_deadline, deadline, met, breached, "
              "met_first, ever_breached, cancelled, predates, moved_later, moved_earlier, moved_after_breach, removed, "
              "agent_name, type, agent_user_name, cycle_no", history.deadline_cycles(now))  # fmt: skip
        check("deadline_moves", "project_id, ticket_id, moved_at, old_deadline, new_deadline, after_breach, agent_name, "
              "agent_user_name", history.deadline_moves())  # fmt: skip
        check("assignment_periods", "project_id, ticket_id, agent_name, agent_user_name, started_at, ended_at",
              history.assignment_periods())  # fmt: skip
    check("daily_flow", "day, project_id, project_name, opened, closed, reopened, deleted, backlog, "
          "deleted_open, restored, restored_open",
          history.daily_flow(now, ZoneInfo(zone)))  # fmt: skip
    check("resolution_times", "project_id, ticket_id, type, opened_at, closed_at, resolution, reopened, successful, "
          "deadline_met, agent_user_name, agent_name", history.resolution_times())  # fmt: skip
    check("deliveries", "received_at, result, action, project_id, ticket_id, reason, attempts, event_id::text",
          history.deliveries())  # fmt: skip
    history.connection.commit()


def check_moments(history, agent, type):
    """What the page says of an agent or a type, and its lists; however many days are asked for."""
    [(report, today)] = query(history.connection, "SELECT vcc.report(90, NULL, %s, %s), current_date", agent, type)
    days, closes = history.moments(today, agent, type)
    backlog = 0
    for row in report["flow"]:
        day = days[datetime.fromisoformat(row["day"]).date()]
        backlog += day["more"]
        expected = {"day": row["day"], "backlog": backlog, **{name: day[name] for name in FLOWS}}
        assert row == expected, f"SEED={history.seed}"
    assert report["today"]["net"] == days[today]["more"]
    busy = {row["agent"]: row["closed"] for row in report["agents"] if row["closed"]}
    assert busy == Counter(row["agent_name"] for row in closes)
    ask = "SELECT vcc.report_list(%s, 90, NULL, %s, %s) -> 'total'"
    totals = {name: query(history.connection, ask, name, agent, type)[0][0] for name in (*FLOWS, "resolved")}
    for row in report["flow"][-DAYS::6]:
        ask = "SELECT vcc.report_list(%s, 90, NULL, %s, %s, day => %s) ->> 'total'"
        for name in (*FLOWS, "backlog"):
            assert int(query(history.connection, ask, name, agent, type, row["day"])[0][0]) == row[name], f"SEED={history.seed} {name} {row}"
    [(shorter,)] = query(history.connection, "SELECT vcc.report(7, NULL, %s, %s)", agent, type)
    assert shorter["flow"] == report["flow"][-7:]
    assert totals == {name: sum(day[name] for day in days.values()) for name in FLOWS} | {"resolved": len(closes)}


@pytest.fixture(scope="module")
def database():
    with Cluster() as cluster:
        cluster.createdb("tickets")
        cluster.install_schema("tickets", os.environ.get("SQL_DIR", SQL_DIR))
        yield cluster


@pytest.fixture
def connection(database):
    """To a database without tickets, in whose sessions it is UTC."""
    database.execute(EMPTY, dbname="tickets")
    with contextlib.closing(database.connect("tickets", autocommit=False)) as connection:
        query(connection, "SELECT set_config('timezone', 'UTC', false)")
        yield connection


@pytest.mark.parametrize("seed", SEEDS)
def test_random_history(connection, seed):
    """One in seven events is late, by up to three days; days have their bounds elsewhere in each zone."""
    history = History(connection, seed)
    for zone in ZONES:
        check_all(history, zone)
    seen = Counter(step.flows for steps in history.steps.values() for step in steps)
    for flow in (None, True), (None, False), (True, False), (False, True), (True, None), (False, None):
        assert seen[flow], f"SEED={seed}: proves little, for none went {flow}"


@pytest.mark.parametrize("agent, type", [(None, None), ("Anna", None), ("", None), (None, "complaint"), ("Bert", "")])
@pytest.mark.parametrize("seed", SEEDS)
def test_figures_are_of_the_moment(connection, seed, agent, type):
    """It counts for who had the ticket then, deleted ones too."""
    check_moments(History(connection, seed, events=200), agent, type)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("days", [30, 10, 0])
def test_oldest_rows_dropped(connection, seed, days):
    """What the journal still has is right, and so is the present. None is late here: a late one, dropped, is missing
    between others, and then its ticket's history has a gap."""
    history = History(connection, seed, late=0)
    history.drop_before((NOW - days * DAY).date())
    check_all(history)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_present_survives_any_loss(connection, seed):
    """Late events and a lost beginning: the last periods and today's backlog agree with the tickets nevertheless."""
    history = History(connection, seed)
    history.drop_before((NOW - 15 * DAY).date())
    columns = "project_id, ticket_id, status, sub_status"
    last = query(connection, f"SELECT {columns} FROM vcc.status_periods WHERE ended_at IS NULL ORDER BY 1, 2")
    assert last == query(connection, f"SELECT {columns} FROM vcc.tickets ORDER BY 1, 2"), f"SEED={seed}"
    backlog = query(connection, "SELECT project_id, backlog FROM vcc.daily_flow WHERE day = current_date ORDER BY 1")
    assert backlog == query(connection, "SELECT p, (SELECT count(*) FROM vcc.open_tickets WHERE project_id = p) "
                                        "FROM generate_series(1, 2) p"), f"SEED={seed}"  # fmt: skip
    assert query(connection, "SELECT * FROM vcc.status_periods WHERE duration < '0'") == [], f"SEED={seed}"
    assert query(connection, "SELECT * FROM vcc.resolution_times WHERE resolution < '0'") == [], f"SEED={seed}"


def test_business_time_beside(connection):
    """With 24 hours on 7 days it is calendar time, in an office what vcc.business_seconds says; none is beyond 2039."""
    history = History(connection, SEEDS[0])
    query(connection, "INSERT INTO vcc.calendar_hours SELECT 1, n, '00:00', '24:00' FROM generate_series(1, 7) n;"
          "INSERT INTO vcc.calendar_hours SELECT 2, n, '08:20', '16:40' FROM generate_series(1, 5) n;"
          "INSERT INTO vcc.calendars VALUES (1, 'always', 'Europe/Budapest', true), (2, 'office', 'Europe/Budapest', false);"
          "INSERT INTO vcc.project_calendars VALUES (2, 2)")
    columns = [name for (name,) in query(connection, "SELECT left(attname, -9) FROM pg_attribute "
               "WHERE attrelid = 'vcc.ticket_metrics'::regclass AND attname LIKE %s", "%_business")]  # fmt: skip
    assert len(columns) == 12
    others = 0
    for name in columns:
        differ = f"SELECT 1 FROM vcc.ticket_metrics WHERE project_id = %s AND {name} IS DISTINCT FROM {name}_business"
        assert query(connection, differ, 1) == [], f"SEED={history.seed}, {name}"
        others += bool(query(connection, differ, 2))
    assert others > 6
    for name in "first_resolution", "age", "first_turn", "time_to_assign":
        assert query(connection, f"SELECT {name}, {name}_business FROM vcc.ticket_metrics WHERE project_id = 2 AND "
                     f"extract(epoch FROM {name}_business) <> vcc.business_seconds(opened_at, opened_at + {name}, project_id)"
                     ) == [], name  # fmt: skip
    query(connection, "UPDATE vcc.tickets SET first_open_time = '0001-01-01Z' WHERE project_id = 2")
    assert query(connection, "SELECT count(open_time), count(first_resolution_business) + count(age_business) "
                 "FROM vcc.ticket_metrics WHERE project_id = 2")[0][1] == 0
    connection.rollback()


def test_kept_answers_follow(connection):
    """The materialized forms of sql/README.md, refreshed as it says: without locking readers out."""
    text = (SOURCE / "README.md").read_text()
    statements = re.search(r"```\n(CREATE MATERIALIZED VIEW.*?)```", text, re.DOTALL).group(1)
    history = History(connection, SEEDS[0])
    query(connection, statements)
    names = re.findall(r"CREATE MATERIALIZED VIEW (\w+)", statements)
    before = [query(connection, f"SELECT count(*) FROM {name}") for name in names]
    for n in range(100, 120):
        for action, status in ("add", "park"), ("update", "closed"):
            body = {"action": action, "ticket": {"projectId": 3, "ticketId": n, "status": status}}
            history.apply(received(json.dumps(body).encode()), NOW)
    for name in names:
        query(connection, re.search(r"REFRESH[^;]*CONCURRENTLY (?=daily_flow;)", statements).group() + name)
        for one, other in (name, f"vcc.{name}"), (f"vcc.{name}", name):
            assert query(connection, f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}") == []
    assert all(before < query(connection, f"SELECT count(*) FROM {name}") for before, name in zip(before, names))
    connection.rollback()


def test_the_kept_reports_follow(connection):
    """What vcc.refresh_reports keeps is what the views say: of tickets that changed, came, went, and of open ones. It looks
    at no other, and leaves a second caller alone."""
    query(connection, "SELECT vcc.refresh_reports(true)")
    history, rng = History(connection, SEEDS[0]), random.Random(SEEDS[0])
    looked_at = []
    for n in range(4):
        connection.commit()
        looked_at += query(connection, "SELECT vcc.refresh_reports()")[0]
        for name in "ticket_metrics", "deadline_cycles", "agent_workload":
            for one, other in (name, f"{name}_kept"), (f"{name}_kept", name):
                assert query(connection, f"SELECT * FROM vcc.{one} EXCEPT ALL SELECT * FROM vcc.{other}") == [], f"SEED={history.seed}"
        connection.commit()
        for _ in range(2 * n):
            history.apply(received(random_body(rng, rng.choice(KEYS))), NOW - rng.random() * DAY)
    assert looked_at[0] == len(KEYS) > looked_at[1] > 0
    query(connection, "SELECT pg_advisory_xact_lock(824391007)")
    with contextlib.closing(psycopg2.connect(connection.dsn)) as other:
        assert query(other, "SELECT vcc.refresh_reports()") == [(None,)]
    query(connection, "SELECT vcc.erase_ticket(project_id, ticket_id) FROM vcc.ticket_metrics_kept LIMIT 1")
    assert query(connection, "SELECT count(*) FROM vcc.ticket_metrics_kept") == [(len(history.tickets()) - 1,)]
    connection.rollback()


@pytest.mark.parametrize("action", ["update", "delete"])
def test_erased_while_reports_are_refreshed(connection, action):
    """It waits for what the other session keeps, and leaves nothing of it."""
    query(connection, "SELECT vcc.refresh_reports(true)")  # nothing is left of other tests
    history = History(connection, SEEDS[0], events=0)
    for what in "add", action:
        body = {"action": what, "ticket": {"projectId": 1, "ticketId": 1, "agentName": "secret", "softDeadline": iso(1)}}
        history.apply(received(json.dumps(body).encode()), NOW)
    connection.commit()
    query(connection, "SELECT vcc.refresh_reports()")
    with contextlib.closing(psycopg2.connect(connection.dsn)) as other, ThreadPoolExecutor(1) as pool:
        erased = pool.submit(query, other, "SELECT vcc.erase_ticket(1, 1)")
        while not (erased.done() or query(connection, "SELECT pg_blocking_pids(%s) <> '{}'", other.get_backend_pid())[0][0]):
            pass
        connection.commit()
        erased.result(20)
        other.commit()
    assert query(connection, "SELECT * FROM vcc.deadline_cycles_kept") == query(connection, "SELECT * FROM vcc.ticket_metrics_kept") == []


def test_a_cycle_is_kept_once(connection):
    """Where the journal was cut the cycles of a ticket that did not change have other numbers than those that are kept."""
    history = History(connection, SEEDS[0], events=1)

    def tickets(numbers, at, **attributes):
        for number in numbers:
            history.apply(received(json.dumps({"action": "add", "ticket": {"projectId": 9, "ticketId": number, **attributes}}).encode()), at)

    tickets([1], NOW - 40 * DAY, status="new", softDeadline=iso(38))
    tickets([1], NOW - 20 * DAY, status="closed")
    connection.commit()
    query(connection, "SELECT vcc.refresh_reports()")
    history.drop_before((NOW - 30 * DAY).date())
    tickets([2, 3], NOW - 10 * DAY, status="new")  # now most of the project has changed
    connection.commit()
    query(connection, "SELECT vcc.refresh_reports()")
    assert query(connection, "SELECT count(*) FROM vcc.deadline_cycles_kept WHERE project_id = 9 AND ticket_id = 1") == [(1,)]


def test_deliveries_page_by_page(connection):
    """Newest first, each once, without sorting them all."""
    History(connection, SEEDS[0], events=100)
    everything = query(connection, "SELECT received_at, event_id FROM vcc.deliveries")
    page, pages = "SELECT received_at, event_id FROM vcc.deliveries WHERE (received_at, event_id) < (%s, %s) ", []
    page += "ORDER BY received_at DESC, event_id DESC LIMIT 7"
    last = ("infinity", "ffffffff-ffff-ffff-ffff-ffffffffffff")
    while found := query(connection, page, *last):
        pages += found
        last = found[-1]
    assert pages == sorted(everything, reverse=True) and len(pages) > 90
    query(connection, "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
    [[[explained]]] = query(connection, "EXPLAIN (FORMAT JSON) " + page, *last)
    assert "Sort" not in {node["Node Type"] for node in nodes(explained["Plan"])}
    connection.rollback()


# -- plans ----------------------------------------------------------------------------------------------------------


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def scans(connection, statement, **settings):
    """(table, kind of scan, conditions of its indexes) of each scan. Which plan is cheapest depends on sizes and
    settings; what we hold is that an index fits the question."""
    for name, value in {"enable_seqscan": "off", **settings}.items():
        query(connection, "SELECT set_config(%s, %s, true)", name, value)
    [[[explained]]] = query(connection, "EXPLAIN (FORMAT JSON) " + statement)
    return [(scan["Relation Name"], scan["Node Type"], " ".join(node.get("Index Cond", "") for node in nodes(scan)))
            for scan in nodes(explained["Plan"]) if "Relation Name" in scan]  # fmt: skip


@pytest.mark.parametrize("view, where, wanted", [
    ("open_tickets", "project_id = 1", ["project_id"]),
    ("overdue_tickets", "project_id = 1", ["project_id"]),
    ("ticket_history", "project_id = 1 AND ticket_id = 2", ["project_id", "ticket_id"]),
    ("status_periods", "project_id = 1 AND ticket_id = 2", ["project_id", "ticket_id"]),
    ("ticket_spans", "project_id = 1 AND ticket_id = 2", ["project_id", "ticket_id"]),
    ("ticket_metrics", "project_id = 1", ["project_id"]),
    ("deadline_cycles", "project_id = 1", ["project_id"]),
    ("deadline_moves", "project_id = 1", ["project_id"]),
    ("assignment_periods", "project_id = 1", ["project_id"]),
    ("daily_flow", "project_id = 1 AND day > current_date - 30", ["project_id"]),
    ("resolution_times", "project_id = 1 AND closed_at > now() - interval '30 days'", ["project_id"]),
    ("agent_workload", "project_id = 1", ["project_id"]),
    ("deliveries", "received_at > now() - interval '1 hour'", ["received_at"]),
    ("deliveries", "project_id = 1 AND ticket_id = 2", ["project_id", "ticket_id"]),
])  # fmt: skip
def test_filter_reaches_the_indexes(connection, view, where, wanted):
    found = scans(connection, f"SELECT * FROM vcc.{view} WHERE {where}")
    assert found
    for table, _, condition in found:
        if table not in ("rejected_events", "migrations", "calendars", "calendar_slots"):  # which no project has
            assert all(column in condition for column in wanted), f"{table}: {condition!r}"


@pytest.mark.parametrize("view, column", [("daily_flow", "backlog"), ("resolution_times", "closed_at")])
def test_flows_are_read_from_their_index_alone(database, connection, view, column):
    History(connection, seed=1)
    connection.commit()
    database.execute("VACUUM ANALYZE vcc.ticket_events", dbname="tickets")
    filled = [row[0] for row in query(connection, "SELECT DISTINCT tableoid::regclass::text FROM vcc.ticket_events")]
    found = scans(connection, f"SELECT {column} FROM vcc.{view} WHERE project_id = 1", enable_bitmapscan="off")
    kinds = {kind for table, kind, condition in found if f"vcc.{table}" in filled and "received_at" not in condition}
    assert kinds == {"Index Only Scan"}
