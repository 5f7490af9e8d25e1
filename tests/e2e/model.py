"""What an event does, once more: a plain model of the contract that the database is compared with.

It is written from the contract's text, not from the SQL, and knows nothing of PostgreSQL but the names of the columns.

    model = Model()
    for body in random_events(random.Random(1), 1000, [(130, 1), (130, 2)]):
        result = model.apply(decode(body))
    differences = compare(connection, model)      # [] when the database agrees
"""

import copy
import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal

# attribute in the event → (column, type)
FIELDS = {
    "entityId": ("entity_id", "integer"),
    "contactId": ("contact_id", "integer"),
    "createdUserId": ("created_user_id", "integer"),
    "userId": ("user_id", "integer"),
    "ticketNo": ("ticket_no", "text"),
    "title": ("title", "text"),
    "type": ("type", "text"),
    "description": ("description", "text"),
    "cc": ("cc", "text"),
    "status": ("status", "text"),
    "subStatus": ("sub_status", "text"),
    "createdUserName": ("created_user_name", "text"),
    "projectName": ("project_name", "text"),
    "agentName": ("agent_name", "text"),
    "agentUserName": ("agent_user_name", "text"),
    "firstOpenTime": ("first_open_time", "time"),
    "lastOpenTime": ("last_open_time", "time"),
    "softDeadline": ("soft_deadline", "time"),
}
COLUMNS = [column for column, _ in FIELDS.values()]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass
class Event:
    action: str
    key: tuple  # (projectId, ticketId)
    columns: dict = field(default_factory=dict)  # column → value, None: an explicit null; absent: not sent
    extra: dict = field(default_factory=dict)  # name → value, None: an explicit null
    body: bytes = b""
    number: int = 0  # order of receipt, as its id tells it
    waited: bool = False


@dataclass
class Ticket:
    columns: dict = field(default_factory=dict)  # only what is known
    extra: dict = field(default_factory=dict)


class Model:
    """State of all tickets after the events applied so far."""

    def __init__(self):
        self.tickets = {}  # key → Ticket
        self.deleted = set()  # keys
        self.adds = {}  # key → the bodies of every add that the ticket ever had
        self.journal = {}  # key → [(action, result, body, effect), …]
        self.taken = {}  # key → {number: (event, result)}, of what is in the journal
        self.erased = set()  # keys

    def apply(self, event):
        """Applies one event and returns its result. Of waited ones the numbers count."""
        taken = self.taken.setdefault(event.key, {})
        if event.waited and event.number in taken:
            return taken[event.number][1]
        if event.key in self.erased:
            event, result, effect = replace(event, columns={}, extra={}, body=b"{}"), "ignored", None
        else:
            result, effect = self._take(event, taken)
        taken[event.number or -len(taken)] = (event, result)
        self.journal.setdefault(event.key, []).append((event.action, result, event.body, effect))
        return result

    def _take(self, event, taken):
        if event.waited:
            later = [(e, result) for number, (e, result) in taken.items() if number > event.number]
            if event.action == "delete":
                again = [e for e, result in later if e.action == "add" and result in ("inserted", "updated")]
                if event.key in self.tickets and again and len(self.adds.get(event.key, ())) > 1:
                    return "ignored", None
            elif any(e.action == "delete" for e, _ in later):
                if event.action == "add":
                    self.adds.setdefault(event.key, set()).add(event.body)
                return "ignored", None
            event = replace(
                event, columns={name: value for name, value in event.columns.items() if not any(name in e.columns for e, _ in later)},
                extra={name: value for name, value in event.extra.items() if not any(name in e.extra for e, _ in later)})  # fmt: skip
        before = copy.deepcopy(self.tickets.get(event.key))
        result = getattr(self, "_" + event.action)(event)
        if result not in ("inserted", "updated", "deleted"):
            return result, None
        return result, self._effect(before, self.tickets.get(event.key))

    def erase(self, key):
        """All that is known of a ticket goes, and nothing of it comes back. Nothing happens where nothing was."""
        if key in self.tickets or key in self.deleted or self.adds.get(key) or self.journal.get(key):
            self.erased.add(key)
            self.deleted.add(key)
        for known in (self.tickets, self.adds, self.journal, self.taken):
            known.pop(key, None)

    @staticmethod
    def _effect(before, after):
        """Whether the ticket was and is open, and what changed: columns and names in extra, each with both values."""
        opened = [ticket and ticket.columns.get("status") != "closed" for ticket in (before, after)]
        before, after = before or Ticket(), after or Ticket()
        return (*opened, *({name: (old.get(name), new.get(name)) for name in old.keys() | new.keys()
                            if not same(old.get(name), new.get(name))}
                           for old, new in ((before.columns, after.columns), (before.extra, after.extra))))  # fmt: skip

    def _add(self, event):
        adds = self.adds.setdefault(event.key, set())
        is_first, is_repeat = not adds, event.body in adds
        adds.add(event.body)
        if event.key in self.tickets:
            if is_repeat:
                return "unchanged"
            return self._fill(event) if is_first else self._overwrite(event)
        if event.key in self.deleted and (is_first or is_repeat):
            return "ignored"
        return self._insert(event)

    def _update(self, event):
        if event.key in self.tickets:
            return self._overwrite(event)
        if event.key in self.deleted:
            return "ignored"
        return self._insert(event)

    def _delete(self, event):
        self.deleted.add(event.key)
        return "deleted" if self.tickets.pop(event.key, None) else "unchanged"

    def _insert(self, event):
        ticket = self.tickets[event.key] = Ticket()
        self.deleted.discard(event.key)
        for known, sent in ((ticket.columns, event.columns), (ticket.extra, event.extra)):
            known.update((name, value) for name, value in sent.items() if value is not None)
        return "inserted"

    def _fill(self, event):
        ticket, changed = self.tickets[event.key], False
        for known, sent in ((ticket.columns, event.columns), (ticket.extra, event.extra)):
            for name, value in sent.items():
                if value is not None and name not in known:
                    known[name] = value
                    changed = True
        return "updated" if changed else "unchanged"

    def _overwrite(self, event):
        ticket, changed = self.tickets[event.key], False
        for known, sent in ((ticket.columns, event.columns), (ticket.extra, event.extra)):
            for name, value in sent.items():
                if value is None:
                    changed |= known.pop(name, None) is not None
                elif name not in known or not same(known[name], value):
                    known[name] = value
                    changed = True
        return "updated" if changed else "unchanged"


# -- bodies ---------------------------------------------------------------------------------------------------------


def parse(text):
    """JSON with numbers as they are written. Of a name twice in one object the last counts."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def same(a, b):
    """Whether two values are the same JSON. Python's own == takes true for 1."""
    return canonical(a) == canonical(b)


def canonical(value):
    if isinstance(value, dict):
        return ("object", tuple(sorted((name, canonical(v)) for name, v in value.items())))
    if isinstance(value, (list, tuple)):
        return ("array", tuple(canonical(v) for v in value))
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return ("number", Decimal(value))
    return (type(value).__name__, value)


def decode(body):
    """A body made by random_events → Event. Not a decoder for what the world sends: it trusts its input."""
    document = parse(body.decode())
    ticket = document["ticket"] or {}  # PHP's empty object is []
    event = Event(document["action"], (int(ticket["projectId"]), int(ticket["ticketId"])), body=body)
    for name, value in ticket.items():
        if name in ("projectId", "ticketId") or (name == "substatus" and "subStatus" in ticket):
            continue
        if name == "substatus":
            name = "subStatus"
        if name not in FIELDS:
            event.extra[name] = value
            continue
        column, kind = FIELDS[name]
        if kind != "text" and value == "":
            value = None
        if value is not None:
            value = {"integer": int, "text": str, "time": decode_time}[kind](value)
        event.columns[column] = value
    return event


def decode_time(value):
    if isinstance(value, Decimal):
        unit = timedelta(milliseconds=1) if abs(value) >= 10**11 else timedelta(seconds=1)
        return EPOCH + int(value) * unit
    time = datetime.fromisoformat(value)
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)


# Few values, so that the same one comes again and "nothing changes" is tried often.
TEXTS = ["", "a", "b", "Ünïcödé 🎫", 'quote " backslash \\ tab \t', "line\nline", "null", "{}", " "]
INTEGERS = [0, 1, -1, 6, 1814, 2**53 - 1]
SPELLINGS = [lambda n: n, lambda n: str(n), lambda n: float(n)]
TIMES = [
    "2024-02-15T15:46:46+01:00", "2024-02-15T14:46:46Z", "2024-02-15 14:46:46.123456", "2024-02-15T15:46:46+0100",
    "2024-02-15", "2024-02-15T15:46+01", "1999-12-31T23:59:59-12:30", 1708008406, 1708008406000, 0, -1,
]  # fmt: skip
EXTRA_NAMES = ["colour", "Title", "x y", "extra", "tags", "ticket_id", "a\"b", "ü"]
EXTRA_VALUES = [
    "", "red", 0, 1, 1.5, True, False, [], {}, [1, None], {"a": None}, {"a": {"b": [None, {"c": None}]}}, {"b": 1},
    "x" * 3000,
]  # fmt: skip


def random_value(rng, kind):
    if kind == "text":
        return rng.choice(TEXTS)
    if rng.random() < 0.05:
        return ""  # clears an integer or a time
    if kind == "time":
        return rng.choice(TIMES)
    number = rng.choice(INTEGERS)
    return rng.choice(SPELLINGS)(number) if 0 <= number < 10**6 else number


def random_body(rng, key, actions=("add", "update", "update", "update", "delete")):
    """One new body for a ticket."""
    action = rng.choice(actions)
    ticket = {"projectId": rng.choice(SPELLINGS)(key[0]), "ticketId": rng.choice(SPELLINGS)(key[1])}
    share = rng.choice((0.0, 0.1, 0.3, 1.0)) if action == "update" else rng.choice((0.1, 0.5, 1.0))
    for name, (_, kind) in FIELDS.items():
        if rng.random() < share:
            ticket[name] = None if rng.random() < 0.2 else random_value(rng, kind)
    if "subStatus" in ticket and rng.random() < 0.5:
        ticket["substatus"] = ticket.pop("subStatus")
        if rng.random() < 0.2:
            ticket["subStatus"] = rng.choice([None, "both"])  # wins
    for _ in range(rng.choice((0, 0, 1, 3))):
        ticket[rng.choice(EXTRA_NAMES)] = None if rng.random() < 0.3 else rng.choice(EXTRA_VALUES)
    items = list(ticket.items())
    rng.shuffle(items)
    document = {"action": action, "ticket": dict(items)}
    if rng.random() < 0.1:
        document["sentBy"] = rng.choice(TEXTS)  # beside the ticket: only the journal keeps it
    if rng.random() < 0.5:
        document = dict(reversed(document.items()))
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, None, 1)))
    if rng.random() < 0.05:  # a name twice: the last counts
        text = text.replace('"ticket": {', '"ticket": {"title": "first", "colour": "first",', 1)
    return text.encode()


def random_events(rng, n, tickets):
    """A list of n webhook bodies for the tickets (keys): new events, earlier ones again byte for byte, the same
    content in other bytes, and events that are overtaken by later ones."""
    bodies, late = [], []
    while len(bodies) < n:
        chance = rng.random()
        if late and chance < 0.15:
            bodies.append(late.pop(rng.randrange(len(late))))
        elif bodies and chance < 0.35:
            # Mostly a recent one: a sender retries soon.
            bodies.append(rng.choice(bodies[-20:] if rng.random() < 0.7 else bodies))
        elif bodies and chance < 0.40:
            bodies.append(rng.choice(bodies[-20:]) + rng.choice((b" ", b"\n", b"\r\n")))
        else:
            body = random_body(rng, rng.choice(tickets))
            (late if rng.random() < 0.15 else bodies).append(body)
    return bodies


def read_changes(changes):
    """The journal's changes as the model has them: columns, then names in extra."""
    read = {"integer": int, "text": str, "time": decode_time}
    kinds = dict(FIELDS.values())
    extra = changes.pop("extra", {})
    columns = {column: tuple(None if value is None else read[kinds[column]](value) for value in values)
               for column, values in changes.items()}  # fmt: skip
    return columns, {name: tuple(values) for name, values in extra.items()}


# -- comparison -----------------------------------------------------------------------------------------------------


def compare(connection, model, journal=True, order="event_id"):
    """What differs between the database and the model, one readable line each. The journal's events are compared in
    the order of their ids, so they must have been given in the order in which the model got the bodies; or in `order`."""
    differences = []
    cursor = connection.cursor()

    cursor.execute(f"SELECT project_id, ticket_id, extra::text, {', '.join(COLUMNS)} FROM vcc.tickets")
    rows = {(project, ticket): (parse(extra), dict(zip(COLUMNS, values)))
            for project, ticket, extra, *values in cursor}  # fmt: skip
    for key in sorted(rows.keys() | model.tickets.keys()):
        if key not in rows:
            differences.append(f"ticket {key}: no row, expected {model.tickets[key]}")
        elif key not in model.tickets:
            differences.append(f"ticket {key}: has a row, expected none: {rows[key]}")
        else:
            extra, columns = rows[key]
            ticket = model.tickets[key]
            for column in COLUMNS:
                if columns[column] != ticket.columns.get(column):
                    differences.append(f"ticket {key}: {column} is {columns[column]!r}, "
                                       f"expected {ticket.columns.get(column)!r}")  # fmt: skip
            for name in sorted(extra.keys() | ticket.extra.keys()):
                if not same(extra.get(name, ...), ticket.extra.get(name, ...)):
                    differences.append(f"ticket {key}: extra[{name!r}] is {extra.get(name, ...)!r}, "
                                       f"expected {ticket.extra.get(name, ...)!r}")  # fmt: skip

    cursor.execute("SELECT project_id, ticket_id FROM vcc.deleted_tickets")
    deleted = set(cursor.fetchall())
    differences += [f"ticket {key}: no deletion is remembered" for key in sorted(model.deleted - deleted)]
    differences += [f"ticket {key}: a deletion is remembered" for key in sorted(deleted - model.deleted)]

    if journal:
        cursor.execute(f"""SELECT project_id, ticket_id, action, result, payload::text, was_open, is_open, changes::text
                             FROM vcc.ticket_events ORDER BY {order}""")
        histories = {}
        for project, ticket, *entry, was_open, is_open, changes in cursor:
            effect = (was_open, is_open, *read_changes(parse(changes))) if changes else None
            assert changes or (was_open, is_open) == (None, None)
            histories.setdefault((project, ticket), []).append((*entry, effect))
        for key in sorted(histories.keys() | model.journal.keys()):
            found, expected = histories.get(key, []), model.journal.get(key, [])
            if len(found) != len(expected):
                differences.append(f"ticket {key}: {len(found)} events in the journal, expected {len(expected)}")
            for n, (a, b) in enumerate(zip(found, expected)):
                if a[:2] != b[:2]:
                    differences.append(f"ticket {key}: event {n} in the journal is {a[:2]}, expected {b[:2]}")
                if not same(a[3], b[3]):
                    differences.append(f"ticket {key}: event {n} in the journal did {a[3]}, expected {b[3]}")
                if not same(parse(a[2]), parse(b[2].decode())):
                    differences.append(f"ticket {key}: event {n} in the journal has the body {a[2]}, expected {b[2]}")
    return differences
