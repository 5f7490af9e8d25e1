"""Business time: vcc.business_seconds and its inverse against a slow computation with the zones of Python, and the
faults that others had."""

import random
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import psycopg2
import pytest
from conftest import Database
from psycopg2.extras import execute_values

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
FIRST, LAST = date(2022, 12, 1), date(2026, 2, 1)  # of the days that random times are from
ALWAYS = [(weekday, "00:00", "24:00", None, None) for weekday in range(1, 8)]
HALVES = ("08:20", "12:00"), ("12:30", "17:05")
OFFICE = [(weekday, *hours, None, None) for weekday in range(1, 6) for hours in HALVES]
# Name, zone, whether it is the default; hours (weekday, from, until, first day, last day); exceptions (day, from,
# until).
CALENDARS = {
    1: ("office", "Europe/Budapest", False, OFFICE, [
        ("2024-12-25", None, None), ("2024-08-20", "09:00", "11:00"), ("2024-08-20", "14:00", "15:00"),
        ("2024-03-31", "01:00", "05:00"), ("2024-10-27", "00:00", "24:00")]),
    2: ("nights, changed twice, the second time too early", "Europe/Budapest", False,
        [(6, "22:00", "24:00", None, "2024-06-30"), (7, "00:00", "02:30", None, "2024-06-30"),
         (7, "03:00", "06:00", None, None),
         (6, "21:00", "24:00", "2024-07-01", "2025-03-31"), (6, "20:00", "23:00", "2025-03-01", None)], []),
    3: ("always", "Europe/Budapest", False, ALWAYS, []),
    4: ("far west", "America/St_Johns", True, [(weekday, "09:00", "17:30", None, None) for weekday in range(1, 7)], []),
    5: ("far east", "Pacific/Auckland", False, [(weekday, "07:45", "19:00", None, None) for weekday in range(1, 8)],
        [("2024-01-01", None, None)]),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(cluster):
    database = Database(cluster, "calendars")
    make(database)
    yield database
    database.connection.close()


def make(database):
    tables = {name: [] for name in "calendar_hours calendar_exceptions calendars project_calendars".split()}
    for n, (name, zone, default, hours, exceptions) in CALENDARS.items():
        tables["calendars"] += [(n, name, zone, default)]
        tables["calendar_hours"] += [(n, *row[:3], row[3] or "-infinity", row[4] or "infinity") for row in hours]
        tables["calendar_exceptions"] += [(n, *row, "note") for row in exceptions]
        tables["project_calendars"] += [(n, n)] if not default else []
    for name, rows in tables.items():
        with database.connection.cursor() as cursor:
            execute_values(cursor, f"INSERT INTO vcc.{name} VALUES %s", rows)


def instant(day, clock, zone):
    """As PostgreSQL reads a local time: twice there it is the second, not there as before the change."""
    if clock == "24:00":
        day, clock = day + DAY, "00:00"
    local = datetime.combine(day, time.fromisoformat(clock), ZoneInfo(zone))
    first, second = (local.replace(fold=fold).astimezone(timezone.utc) for fold in (0, 1))
    return first if first > second else second


def pieces(n):
    """Of the calendar, in order: (from, until) in UTC, what overlaps made one."""
    _, zone, _, hours, exceptions = CALENDARS[n]
    found = []
    for day in (FIRST + k * DAY for k in range((LAST - FIRST).days)):
        of_day = [row[1:] for row in exceptions if row[0] == str(day)]
        if not of_day:
            of_day = [(opens, closes) for weekday, opens, closes, first, last in hours
                      if weekday == day.isoweekday() and (first or "") <= str(day) <= (last or "9")]  # fmt: skip
        found += [(instant(day, opens, zone), instant(day, closes, zone)) for opens, closes in of_day if opens]
    merged = []
    for opens, closes in sorted(piece for piece in found if piece[0] < piece[1]):
        if merged and opens <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(closes, merged[-1][1]))
        else:
            merged.append((opens, closes))
    return merged


def worked(slots, begin, end):
    return sum((max(min(end, closes) - max(begin, opens), 0 * DAY) for opens, closes in slots), 0 * DAY)


@pytest.mark.parametrize("seed", [1])
def test_equal_to_the_slow_one(made, seed):
    """10,000 intervals, and that the inverse is the earliest such time; from a session whose zone is another one."""
    rng = random.Random(seed)
    slots = {n: pieces(n) for n in CALENDARS}
    start, length = datetime(2023, 1, 1, tzinfo=timezone.utc), 3 * 365 * 86400
    asked, expected = [], []
    for _ in range(10_000):
        n, begin = rng.choice([*CALENDARS]), start + rng.randrange(length) * SECOND
        near = [edge for piece in slots[n][::7] for edge in piece]
        if rng.random() < 0.2:
            begin = rng.choice(near)
        end = min(begin + rng.expovariate(1 / 86400 / rng.choice([0.1, 2, 20])) * SECOND, start + length * SECOND)
        asked.append((begin, max(begin, end), n))
        # Only those around it, which makes it bearable.
        expected.append(worked([s for s in slots[n] if s[1] > begin and s[0] < end], begin, end))
    made.query("SET timezone = 'America/New_York'")
    found = made.query("""
        SELECT seconds, back
          FROM unnest(%s::timestamptz[], %s::timestamptz[], %s::bigint[]) WITH ORDINALITY i (a, b, project, n)
         CROSS JOIN LATERAL vcc.business_seconds(a, b, project) seconds
         CROSS JOIN LATERAL vcc.add_business_seconds(a, seconds, project) back ORDER BY n""",
        *([row[k] for row in asked] for k in range(3)))  # fmt: skip
    for (begin, end, n), want, (seconds, back) in zip(asked, expected, found):
        assert want == timedelta(microseconds=int(seconds * 1_000_000)), (begin, end, n)
        assert begin <= back <= end
        nearby = [s for s in slots[n] if s[1] > begin and s[0] < end]
        assert worked(nearby, begin, back) == want, (begin, end, n)
        assert not want or worked(nearby, begin, back - SECOND / 1000) < want, (begin, end, n)


@pytest.mark.parametrize("name, begin, end, project, hours", [
    ("winter's offset in winter", "2024-01-15 07:00Z", "2024-01-15 08:00Z", 1, 40 / 60),
    ("summer's offset in summer", "2024-07-15 06:00Z", "2024-07-15 07:00Z", 1, 40 / 60),
    ("days after the change to winter time", "2024-10-28 00:00Z", "2024-11-02 00:00Z", 1, 5 * 8.25),
    ("days after the change to summer time", "2024-04-01 00:00Z", "2024-04-06 00:00Z", 1, 5 * 8.25),
    ("the long day", "2024-10-26 22:00Z", "2024-10-27 23:00Z", 1, 25),
    ("the short night", "2024-03-31 00:00Z", "2024-03-31 06:00Z", 1, 3),
    ("a holiday, by its local day", "2024-12-24 23:00Z", "2024-12-25 23:00Z", 1, 0),
    ("a holiday far from UTC, its eve and its morrow", "2023-12-31 00:00Z", "2024-01-02 00:00Z", 5, 6 + 5.25),
    ("a day with other hours, in two pieces", "2024-08-19 22:00Z", "2024-08-20 22:00Z", 1, 3),
    ("over midnight", "2024-06-15 12:00Z", "2024-06-16 12:00Z", 2, 7.5),
    ("where hours changed and two rows hold", "2025-03-15 12:00Z", "2025-03-16 12:00Z", 2, 4 + 3),
    ("24 hours, 7 days are calendar time", "2024-03-01 00:00Z", "2024-11-30 12:34:56.789Z", 3, 6588.5824413889),
    ("the default of a project without its own", "2024-01-15 00:00Z", "2024-01-16 00:00Z", 77, 8.5),
    ("backwards", "2024-01-16 00:00Z", "2024-01-15 00:00Z", 77, -8.5),
])  # fmt: skip
def test_what_others_got_wrong(made, name, begin, end, project, hours):
    found = made.value("SELECT vcc.business_seconds(%s, %s, %s)", begin, end, project)
    assert float(found) == pytest.approx(hours * 3600), name


def test_without_a_calendar(database):
    """All time counts, in any year; an exact one, however long."""
    years = "timestamptz '0001-01-01Z'", "timestamptz '9999-12-31 00:00:00.000001Z'"
    assert database.value("SELECT vcc.business_seconds({0}, {1}, 1) = extract(epoch FROM {1} - {0})".format(*years))
    assert database.value("SELECT vcc.add_business_seconds('2024-03-30Z', 172800, 1) = '2024-04-01Z'")


def test_less_than_a_microsecond(made):
    """Is nothing: also where the calendar is closed."""
    assert made.value("SELECT vcc.add_business_seconds('2024-01-15Z', 0.0000004, 1) = '2024-01-15Z'")


@pytest.mark.parametrize("call", [
    "business_seconds('1999-12-31 23:59:59Z', '2024-01-01Z', 1)",
    "business_seconds('2024-01-01Z', '2040-01-01Z', 1)",
    "add_business_seconds('1999-01-01Z', 1, 1)",
    "add_business_seconds('2024-01-01Z', 1e10, 1)",
    "add_business_seconds('2024-01-01Z', -1, 1)",
    "business_seconds('2024-01-01Z', '2024-01-02Z', 9)",  # of a calendar that nobody made
])  # fmt: skip
def test_never_zero_for_what_is_not_known(made, call):
    made.query("INSERT INTO vcc.project_calendars VALUES (9, 99) ON CONFLICT DO NOTHING")
    with pytest.raises((psycopg2.errors.DatetimeFieldOverflow, psycopg2.errors.InvalidParameterValue)):
        made.query(f"SELECT vcc.{call}")


def test_a_change_counts_at_once(made):
    """Also one by somebody who may change calendars and nothing else; the reader may ask."""
    monday = "SELECT vcc.business_seconds('2024-01-15Z', '2024-01-16Z', 1)"
    before = made.value(monday)
    made.query("BEGIN; GRANT UPDATE, SELECT ON vcc.calendar_hours TO vcc_reader; SET ROLE vcc_reader")
    made.query("UPDATE vcc.calendar_hours SET closes = '18:05' WHERE calendar_id = 1 AND closes = '17:05'")
    assert made.value(monday) == before + 3600
    made.query("RESET ROLE; UPDATE vcc.calendar_exceptions SET day = '2024-01-15', calendar_id = 1 "
               "WHERE calendar_id = 5")
    assert made.value(monday) == 0
    made.query("TRUNCATE vcc.calendar_hours")
    assert made.value("SELECT vcc.business_seconds('2024-01-15Z', '2024-01-16Z', 3)") == 0
    made.query("DELETE FROM vcc.calendars")
    with pytest.raises(psycopg2.errors.DatetimeFieldOverflow):
        made.query(monday)
    made.query("ROLLBACK")
    assert made.value(monday) == before
