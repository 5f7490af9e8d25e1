"""contrib/monitoring/grafana and metabase: each panel's and each question's SQL, as those programs send it, by a role that
only reads; with tickets and without any."""

import json
import re
from datetime import datetime, timedelta, timezone

import psycopg2
import pytest
from conftest import ROOT
from test_report import history, reader  # noqa: F401, a fixture
from test_systemd import install

MONITORING = ROOT / "contrib/monitoring"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((MONITORING / "grafana").glob("*.json"))}
QUESTIONS = sorted((MONITORING / "metabase").glob("*.sql"))
NOW = datetime.now(timezone.utc)
TRICKY = "o'hara, {\"\\"  # a login with all that some quoting knows


def fill(database):
    history(database)
    database.query("UPDATE vcc.tickets SET agent_user_name = %s WHERE agent_user_name = 'anna'", TRICKY)
    database.query("UPDATE vcc.tickets SET soft_deadline = now() + interval '1 second' WHERE ticket_id < 3")
    database.query("""INSERT INTO vcc.rejected_events (body, reason, first_received_at, last_received_at, attempts, project_id,
                             digest, last_event_id) VALUES ('x', 'is not JSON', now(), now(), 2, 0, 'x', gen_random_uuid())""")


@pytest.fixture(params=["empty", "with tickets"])
def site(request, database, reader):  # noqa: F811
    """A session of the reader; whether there are tickets."""
    if request.param != "empty":
        fill(database)
    connection = psycopg2.connect(reader, options="-c default_transaction_read_only=on -c timezone=Europe/Budapest")
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor, request.param != "empty"
    connection.close()


# -- Grafana --------------------------------------------------------------------------------------------------------


def grafana(sql, values, days=30):
    """What Grafana's templates and its PostgreSQL macros make of it (macros.go)."""
    begin, end = (f"'{NOW + timedelta(days):%Y-%m-%dT%H:%M:%S.%fZ}'" for days in (-days, 1))
    formats = {"csv": ",".join,
               "sqlstring": lambda chosen: ",".join("'" + value.replace("'", "''") + "'" for value in chosen)}  # fmt: skip
    sql = re.sub(r"\$\{(\w+):(\w+)\}", lambda m: formats[m[2]](values[m[1]]), sql).replace("$__interval", "1h")
    macros = {
        "__timeFrom": lambda: begin, "__timeTo": lambda: end,
        "__timeFilter": lambda column: f"{column} BETWEEN {begin} AND {end}",
        "__timeGroupAlias": lambda column, _: f'floor(extract(epoch from {column})/3600)*3600 AS "time"',
    }  # fmt: skip
    return re.sub(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)", lambda m: macros[m[1]](*filter(None, re.split(" *, *", m[2]))), sql)


def ask(cursor, sql):
    cursor.execute(sql)
    return [column.name for column in cursor.description], cursor.fetchall()


def choices(cursor, board):
    """All that a dashboard's variables offer, and one of each."""
    values = {}
    for variable in board["templating"]["list"]:
        names, rows = ask(cursor, grafana(variable["query"], values))
        assert names == ["__text", "__value"] and all(text and value for text, value in rows), rows
        values[variable["name"]] = [value for _, value in rows]
    return values


def test_the_panels_of_each_dashboard(site):
    """The columns that its kind needs; rows where there are tickets, none that it cannot show where there is none."""
    cursor, filled = site
    for board in BOARDS.values():
        values = choices(cursor, board)
        assert all(values.values()) == filled
        if filled and "agent" in values:
            assert {TRICKY, "bert", "-"} <= set(values["agent"])
        nothing = {variable: [""] if variable == "agent" else [] for variable in values}
        of_one = {variable: chosen[-1:] for variable, chosen in values.items()}
        for panel, chosen in ((panel, chosen) for panel in board["panels"] for chosen in (values, of_one, nothing)):
            [target] = panel["targets"]
            sql = grafana(target["rawSql"], chosen)
            assert "$" not in sql, sql
            names, rows = ask(cursor, sql)
            if target["format"] == "time_series":
                assert names[0] == "time" and [row[0] for row in rows] == sorted(row[0] for row in rows), sql
                assert not any(isinstance(row[-1], str) for row in rows), rows[0]
            if panel["type"] == "stat":
                assert len(rows) == 1 and len(rows[0]) == 1, sql
            else:
                assert rows or chosen is not values or not filled, sql
                assert not rows or filled and (chosen is not nothing or board is BOARDS["deliveries"]), sql


def test_the_figures_are_those_of_the_tables(database, reader):  # noqa: F811
    """With all chosen, whoever is in charge, nobody among them; and with one agent."""
    fill(database)
    cursor, board = database.connection.cursor(), BOARDS["desk"]
    values = choices(cursor, board)
    sql = {panel["title"]: panel["targets"][0]["rawSql"] for panel in board["panels"]}
    is_open = "SELECT count(*) FROM vcc.tickets WHERE status IS DISTINCT FROM 'closed'"
    nobody, late = " AND agent_user_name IS NULL", " AND soft_deadline < now()"
    for chosen, where in (values["agent"], ""), ([TRICKY], " AND agent_user_name LIKE 'o%'"), (["-"], nobody):
        for title, more in {"Open": "", "Overdue": late, "Unassigned": nobody}.items():
            [(found,)] = ask(cursor, grafana(sql[title], {**values, "agent": chosen}))[1]
            assert found == database.value(is_open + where + more), (title, chosen)


def test_dashboards_ask_the_data_source_that_is_provisioned():
    source = (MONITORING / "grafana/datasource.yml").read_text()
    uid, kind = (re.search(rf"^ +{name}: (\S+)$", source, re.MULTILINE)[1] for name in ("uid", "type"))
    panels = [panel for board in BOARDS.values() for panel in board["panels"]]
    parts = [*(v for board in BOARDS.values() for v in board["templating"]["list"]), *panels,
             *(target for panel in panels for target in panel["targets"])]  # fmt: skip
    assert {json.dumps(part["datasource"]) for part in parts} == {json.dumps({"type": kind, "uid": uid})}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 3
    for name, board in BOARDS.items():
        places = [panel["gridPos"] for panel in board["panels"]]
        taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
        assert len(taken) == len(set(taken)) and max(x for x, _ in taken) < 24, name


def test_they_are_installed_where_grafana_is_told(folder):
    install(folder)
    grafana = folder / "share/ticketd/monitoring/grafana"
    [path] = re.findall(r"^ +path: (/.*)$", (grafana / "dashboards.yml").read_text(), re.MULTILINE)
    assert path == str(grafana)
    assert {file.name for file in grafana.iterdir()} == {file.name for file in (MONITORING / "grafana").iterdir()}
    assert len(list((folder / "share/ticketd/monitoring/metabase").glob("*.sql"))) == len(QUESTIONS) == 10


# -- Metabase -------------------------------------------------------------------------------------------------------

ANSWERS = {"project": "1", "agent": TRICKY, "since": "2020-01-01", "until": "2099-12-31", "ticket": "1", "result": "updated"}


def metabase(sql, answered):
    """What Metabase makes of it: a part in [[ ]] stays where its variable is answered."""
    def part(match):
        return match[1] if set(re.findall(r"{{(\w+)}}", match[1])) <= answered else ""
    sql = re.sub(r"\[\[(.*?)\]\]", part, sql, flags=re.DOTALL)
    return re.sub(r"{{(\w+)}}", lambda m: f"%({m[1]})s", sql.replace("%", "%%"))


def test_the_questions(site):
    """Without an answer, with each alone and with all: as text, which a variable is at first, and as what it is."""
    cursor, filled = site
    answers = {**ANSWERS, "project": 1, "ticket": 1, "since": NOW.date() - timedelta(3000), "until": NOW.date()}
    for path in QUESTIONS:
        sql = path.read_text()
        asked = set(re.findall(r"{{(\w+)}}", sql))
        assert asked and asked <= ANSWERS.keys() and ";" not in sql, path
        head, _, rest = sql.partition("\n")
        assert head.startswith("-- ") and "?" in head and "{{" not in head and "--" not in rest, path
        for answered in [set(), *({name} for name in asked), asked]:
            text = metabase(sql, answered)
            cursor.execute(re.sub(r"%\((\w+)\)s", r"CAST(%(\1)s AS varchar)", text), ANSWERS)
            rows = cursor.fetchall()
            assert not rows or filled
            assert rows or not filled or answered, path
            cursor.execute(text, answers)
