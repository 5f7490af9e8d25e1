"""The dashboard in a real browser: what it shows is what SQL says, nothing that strangers sent does anything, and it tells
when something is wrong.

SCREENSHOT=FILE also leaves the picture of the README there."""

import contextlib
import csv
import io
import json
import os
import random
import re
import shutil
import struct
import time
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs

import conftest
import pytest
from conftest import LOCATION, ROOT, Database, Handler, Nginx, command, event, sample, send, temporary_folder
from test_report import DUE, FIGURES, history, reader, reader_of, site  # noqa: F401, fixtures

webdriver = pytest.importorskip("selenium.webdriver", reason="python3-selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

AXE = ROOT / "build/browser/node_modules/axe-core/axe.min.js"
HOSTILE = ["<script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 1'>", "\u202eright to left", "x" * 10000,
           "'\"&amp;</td></table>\x01\t"]  # fmt: skip

pytestmark = pytest.mark.skipif(not shutil.which("chromedriver") or not shutil.which("chromium"), reason="chromium is not installed")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """One browser for all tests; each starts with an empty page."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
                     "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars").split():  # fmt: skip
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
    driver.set_page_load_timeout(30)
    yield driver
    driver.quit()


class Page:
    """The dashboard of a site."""

    def __init__(self, driver, port):
        self.driver, self.address = driver, f"http://127.0.0.1:{port}{LOCATION}/dashboard/"

    def resize(self, width, height=1000):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})  # fmt: skip

    def open(self, query="", width=1280, height=1000):
        self.resize(width, height)
        self.driver.get(self.address + query)
        wait_until(lambda: self.text("verdict-words", By.ID) not in ("", "Waiting for the first answer"), 15, "the first answer")
        return self

    def leave(self):
        """It asks no more, and what it said meanwhile is forgotten. An empty page would cost a process of the browser."""
        self.media(prefers_color_scheme="light")
        wait_until(lambda: self.script("return typeof nextRefresh") == "number", 15, "the page's scripts")
        self.script("busy = true; clearTimeout(nextRefresh); window.stop()")
        self.driver.get_log("browser")

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, name, by="field"):
        selector = f"[data-field='{name}']" if by == "field" else f"#{name}"
        return self.script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)  # not drawn yet

    def value(self, name):
        return self.script("return document.querySelector(arguments[0]).dataset.value", f"[data-field='{name}']")

    def table(self, name):
        """The rows, each of the values before they were made readable."""
        return self.script("""return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map(row =>
            [...row.children].map(cell => cell.dataset.value ?? (cell.querySelector('.none') ? null : cell.textContent)))""", name)

    def script(self, text, *values):
        return self.driver.execute_script(text, *values)

    def media(self, **features):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]})  # fmt: skip

    def complaints(self):
        """What the browser's console has: errors of scripts, and what the Content-Security-Policy forbade."""
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def wait_until(condition, *more):
    """Each look at the page costs the browser time: ten a second will do."""
    return conftest.wait_until(lambda: condition() or time.sleep(0.1), *more)


@pytest.fixture
def page(chromium, site):  # noqa: F811
    page = Page(chromium, site.port)
    yield page
    page.leave()


@pytest.fixture(scope="module")
def desk(cluster):
    """A site with a history, refused bodies and events of today, for all tests that only look at it."""
    with temporary_folder() as folder, contextlib.ExitStack() as stack:
        database = Database(cluster, "desk")
        stack.callback(database.connection.close)
        history(database)
        database.query(DUE)
        handler = Handler(folder, database, TICKETD_REPORT="on", TICKETD_REPORT_DATABASE=reader_of(database))
        stack.callback(handler.stop)
        nginx = Nginx(folder, handler.socket)
        stack.callback(nginx.stop)
        for body in *(event("add", ticket, ticketNo=f"T-{ticket}", title="x" * 200) for ticket in range(3)), \
                event("add", 101, title="Broken pipe", ticketNo="130-1"), \
                event("add", 102, title="Broken leg", ticketNo="130-2"), event("delete", 102), \
                event("update", 0, status="closed"), event("delete", 1), b"nix", b"nix", b'{"action": "none"}':  # fmt: skip
            send(nginx.port, body)
        nginx.database = database
        yield nginx


@pytest.fixture
def look(chromium, desk):
    page = Page(chromium, desk.port)
    yield page
    page.leave()


def texts(rows):
    return [[None if value is None else str(value) for value in row] for row in rows]


# -- figures --------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_sql(look, desk):
    """As one opens it, then for one project and a week by the selectors, which the address keeps."""
    page, database = look.open(), desk.database

    def check(days, project):
        def sql(name):
            return database.query(FIGURES[name].format(days=days, project=f"project_id = {project}" if project else "true"))

        tickets, overdue = sql("open")[0]
        wait_until(lambda: page.value("open.tickets") == str(tickets) and len(page.table("flow")) == days, 15, "the figures")
        assert page.value("open.overdue") == str(overdue)
        assert sorted(page.table("statuses"), key=str) == sorted(texts(sql("by_status")), key=str)
        assert page.table("flow") == texts(sql("flow"))
        agents = {name: (open_now, late) for name, _, open_now, late, *_ in page.table("agents")}
        for name, open_now, late in sql("agents"):
            assert agents[name] == (str(open_now), str(late))
        closed = len(sql("closed"))
        assert page.value("resolution.tickets") == str(closed)
        assert sum(int(row[1]) for row in page.table("resolution")) == closed
        shown = database.value(f"SELECT vcc.report({days}, {project or 'NULL'})")["resolution"]
        assert page.value("resolution.median_s") == str(shown["median_s"])
        assert page.value("resolution.p90_s") == str(shown["p90_s"]) and f"n = {shown['complete']}" in page.text("resolution.p90_s")

    check(30, None)
    assert page.value("rejected.bodies") == "2" and page.value("rejected.attempts") == "3"
    reasons = database.query("SELECT reason, count(*), sum(attempts) FROM vcc.rejected_events GROUP BY 1")
    assert sorted(row[:3] for row in page.table("reasons")) == sorted(texts(reasons))
    assert dict((row[0], row[2]) for row in page.table("answers"))["400"] == "2"
    assert sum(int(row[1]) for row in page.table("minutes")) == database.value(
        "SELECT count(*) FROM vcc.ticket_events WHERE received_at >= date_trunc('minute', now()) - interval '59 minutes'")
    Select(page.find("#project")).select_by_value("2")
    Select(page.find("#period")).select_by_value("7d")
    check(7, 2)
    assert "project=2" in page.driver.current_url and "period=7d" in page.driver.current_url
    assert not page.complaints()


def test_it_renews_itself(page, site):
    """And takes neither focus nor what was typed away."""
    send(site.port, event("add", 1, status="park"))
    page.open()
    assert page.value("open.tickets") == "1" and page.text("verdict-words", By.ID) == "Events are stored"
    page.find("#number").send_keys("13")
    for name in "add", "update":
        assert send(site.port, sample(name)).status == 200
    wait_until(lambda: page.value("open.tickets") == "2", 20, "the second ticket")
    assert page.script("return document.activeElement.id + document.activeElement.value") == "number13"
    # One ticket, by the keyboard and by the address.
    page.find("#number").send_keys("0-20240215-270338", Keys.ENTER)
    wait_until(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "#timeline > li")) == 2, 15, "the timeline")
    assert page.text("ticket.title") == "Customer complaint" and page.text("ticket.ticket_id") == "21"
    changes = page.script("""return [...document.querySelectorAll('#timeline > li:last-child .change')].map(change =>
        [change.querySelector('.attribute').textContent, change.querySelector('del').textContent, change.querySelector('ins').textContent])""")
    assert ["title", "bug", "Customer complaint"] in changes and ["sub_status", "waiting4agent", "waiting4entity"] in changes
    page.open("?ticket=21")
    wait_until(lambda: page.text("ticket.ticket_id") == "21", 15, "the ticket")
    page.open("?ticket=22")
    wait_until(lambda: page.text("ticket.outcome") == "There is no such ticket.", 15, "the outcome")
    assert not page.complaints()


def test_a_journey_by_keyboard(look):
    """Tab reaches every control, in the order of the page, and shows where it is."""
    page = look.open()
    seen = []
    while "Show" not in seen and len(seen) < 60:
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        name, control, outline = page.script("""const on = document.activeElement;
            const control = on.matches('#project, #period, #number');
            return [on.id || on.textContent.slice(0, 30), control, getComputedStyle(on).outlineStyle]""")
        assert not control or outline != "none"
        seen.append(name)
    order = [seen.index(name) for name in ("project", "period", "number", "Show")]
    assert order == sorted(order)


# -- lists behind figures -------------------------------------------------------------------------------------------


LINKS = "document.querySelectorAll('[data-list], :is(#statuses, #flow, #agents, #resolution) td[data-link=true] > a')"


def links(page):
    """What leads to a list: {its name and what narrows it: (place, what it is a number of, number)}, of each the largest."""
    found = {}
    for place, (href, name, value) in enumerate(page.script(f"""return [...{LINKS}].map(a => [a.getAttribute('href'),
            a.dataset.field || 'cell', a.dataset.value === undefined ? a.parentElement.dataset.value : a.dataset.value])""")):
        query = parse_qs(href[1:], keep_blank_values=True)
        kind = (query["list"][0], name.partition(".")[0], *[part for part in query if part.startswith("list.")])
        number = int(value) if name not in NO_COUNTS else 0
        if kind not in found or number > found[kind][2]:
            found[kind] = place, name, number
    return found


def take_csv(page, folder):
    """The records of the CSV that a click on the button brings."""
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    page.find("#list-csv").click()
    path = wait_until(lambda: next((file for file in folder.glob("*.csv") if file.stat().st_size), None), 15, "the CSV")
    text = path.read_bytes().decode("utf-8-sig")
    path.unlink()
    return list(csv.DictReader(io.StringIO(text, newline="")))


NO_COUNTS = "open.oldest", "open.idle", "resolution.median_s"
LEADS = """open overdue today due unassigned waiting oldest idle opened closed reopened deleted resolved open+agent
    overdue+agent resolved+agent open+status+sub_status overdue+status+sub_status opened+day closed+day reopened+day deleted+day
    came+day went+day backlog+day resolved+within""".split()


def test_each_number_leads_to_its_tickets(look, folder):
    """Number = rows of the list = rows of the CSV, of the tiles, the chart and the tables."""
    page = look.open("?period=7d")
    wait_until(lambda: page.value("open.tickets"), 15, "the figures")
    found = links(page)
    assert {"+".join([name, *[part[5:] for part in narrowed]]) for name, _, *narrowed in found} == set(LEADS)
    for kind, (place, name, number) in found.items():
        page.script(f"{LINKS}[arguments[0]].click()", place)
        wait_until(lambda: page.script("return state.list?.at && state.list.asked === listQuery()"), 15, "the list")
        rows, records = page.table("listed"), take_csv(page, folder)
        assert [row[0] for row in rows] == [record["ticket_no"] or record["ticket_id"] for record in records]
        some = number > 0 or name in ("today.came", "today.went")  # soon after midnight nothing has yet
        assert len(rows) == number and some or name in NO_COUNTS and rows, kind
        page.script("choose({ list: null })")
    assert not page.complaints()


def test_filters_and_the_period_before(look, desk):
    """What is chosen is in the address; the same page opened by it shows the same."""
    page, database = look.open(), desk.database
    wait_until(lambda: page.value("before.open.tickets"), 15, "the period before")
    before = database.value("SELECT vcc.report_before(30, NULL)")["before"]
    for name in "tickets", "overdue", "today", "unassigned", "waiting":
        assert page.value("before.open." + name) == str(before["open"][name])
    assert page.value("before.resolution.tickets") == str(before["resolution"]["tickets"])
    Select(page.find("#agent")).select_by_visible_text("Anna")
    of_anna = database.value("SELECT count(*) FROM vcc.open_tickets WHERE agent_name = 'Anna'")
    wait_until(lambda: page.value("open.tickets") == str(of_anna), 15, "Anna's tickets")
    assert "agent=Anna" in page.driver.current_url and [row[0] for row in page.table("agents")] == ["Anna"]
    Select(page.find("#agent")).select_by_visible_text("nobody")
    of_nobody = database.value("SELECT count(*) FROM vcc.open_tickets WHERE agent_name IS NULL")
    wait_until(lambda: page.value("open.tickets") == str(of_nobody), 15, "nobody's tickets")
    assert page.value("open.unassigned") == str(of_nobody)
    page.open(page.driver.current_url.partition("dashboard/")[2])
    assert wait_until(lambda: page.value("open.tickets"), 15, "the figures") == str(of_nobody)
    assert Select(page.find("#agent")).first_selected_option.text == "nobody"
    assert not page.complaints()


def test_days_and_times_are_of_one_zone(page, site, database):
    """That of the reports' session, whatever the browser's is."""
    database.query(f"ALTER DATABASE {database.name} SET timezone = 'Pacific/Kiritimati'")
    page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "America/New_York"})
    send(site.port, sample("add"))
    page.open()
    wait_until(lambda: page.value("open.tickets"), 15, "the figures")
    [(clock, day)] = database.query("""SELECT to_char(at, 'YYYY-MM-DD HH24:MI:SS'), at::date::text
        FROM (SELECT received_at AT TIME ZONE 'Pacific/Kiritimati' AS at FROM vcc.ticket_events) e""")
    assert page.text("last_event.at") == clock and page.table("flow")[-1][0] == day
    assert page.text("zone", By.ID) == "Times and days are those of Pacific/Kiritimati."
    page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_what_is_cut_is_said(page, site, database):
    now = datetime.now(timezone.utc)
    apply(database, 130, "add", [(agent, now, {"agent_name": f"Agent {agent}"}) for agent in range(510)])
    page.open()
    wait_until(lambda: len(page.table("agents")) == 500, 15, "the agents")
    assert page.script("return document.querySelector('.cut').textContent") == "The first 500 of 510."


def test_a_list_page_by_page(page, site, database, folder):
    """What is not on view is said, and comes; a click leads to the list, from there to the ticket, and back."""
    now = datetime.now(timezone.utc)
    apply(database, 130, "add", [(ticket, now, {"title": f"=cmd|' /C calc'!A{ticket}"}) for ticket in range(450)])
    page.open()
    wait_until(lambda: page.value("open.tickets") == "450", 15, "the figures")
    page.find("[data-field='open.tickets']").click()
    wait_until(lambda: len(page.table("listed")) == 200, 15, "the list")
    assert page.text("list.outcome").startswith("The first 200 of 450, as of")
    for rows in 400, 450:
        page.find("#list-more").click()
        wait_until(lambda: len(page.table("listed")) == rows, 15, "more")
    assert page.text("list.outcome").startswith("450 rows, as of") and not page.find("#list-more").is_displayed()
    records = take_csv(page, folder)
    assert len(records) == 450 and {record["title"][:5] for record in records} == {"'=cmd"}
    page.find("#listed tbody a").click()
    wait_until(lambda: page.text("ticket.ticket_no") == "0", 15, "the ticket")
    assert "list=open" in page.driver.current_url and "ticket_project=130" in page.driver.current_url
    page.driver.back()
    wait_until(lambda: not page.find("#ticket").is_displayed(), 15, "the way back")
    page.find("#list-close").click()
    wait_until(lambda: not page.find("#list").is_displayed(), 15, "the end of the list")
    assert not page.complaints()


# -- search and deliveries ------------------------------------------------------------------------------------------


def test_search_makes_a_choice(look):
    page = look.open()
    page.find("#number").send_keys("broken pipe", Keys.ENTER)
    wait_until(lambda: page.text("ticket.ticket_no") == "130-1", 15, "the ticket")
    page.find("#number").clear()
    page.find("#number").send_keys("broken", Keys.ENTER)
    wait_until(lambda: page.text("ticket.outcome") == "2 tickets have it: choose one.", 15, "the choice")
    assert {(row[0], row[4]) for row in page.table("choices")} == {("130-1", None), ("130-2", "deleted")}
    next(a for a in page.driver.find_elements(By.CSS_SELECTOR, "#choices a") if a.text == "130-2").click()
    wait_until(lambda: page.text("ticket.ticket_no") == "130-2", 15, "the deleted ticket")
    assert page.value("ticket.deleted_at") and not page.find("#choices").is_displayed()
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#timeline > li")) == 2
    assert not page.complaints()


def test_deliveries(page, site, database):
    """From the tile and from each reason; the body does nothing, and the command that is shown tries just this one again."""
    for n in range(3):
        send(site.port, event("add", n))
    for body in HOSTILE[0].encode(), b"nix", json.dumps({"action": "add", "ticket": {"projectId": 7}}).encode():
        assert send(site.port, body).status in (400, 422)
    page.open()
    wait_until(lambda: page.value("rejected.bodies") == "3", 15, "the figures")
    for place, (_, bodies, *_) in enumerate(page.table("reasons")):
        page.script("document.querySelectorAll('#reasons td[data-link=true] > a')[arguments[0]].click()", place)
        wait_until(lambda: page.script("""const { reason } = state.report.rejected.reasons[arguments[0]], { deliveries } = state;
            return deliveries?.at && new URLSearchParams(deliveries.asked).get('reason') === reasonOf(reason)""", place))
        assert page.value("deliveries.outcome") == bodies == str(len(page.table("delivered")))
    page.find("[data-field='rejected.bodies']").click()
    wait_until(lambda: len(page.table("delivered")) == 3, 15, "the bodies")
    commands = []
    for summary in page.driver.find_elements(By.CSS_SELECTOR, "#delivered td.body summary"):
        summary.click()
    wait_until(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, ".delivery pre")) == 3, 15, "what came")
    shown = [pre.text for pre in page.driver.find_elements(By.CSS_SELECTOR, ".delivery pre")]
    assert HOSTILE[0] in shown and "nix" in shown and page.script("return window.hacked") is None
    commands = [code.text for code in page.driver.find_elements(By.CSS_SELECTOR, ".delivery code")]
    retry = next(command for command in commands if " retry " in command).split()[3:]
    listed = command("rejected", "list", *retry[1:], TICKETD_DATABASE=database.handler).stdout
    assert listed.count("1 time") == 1, listed
    Select(page.find("#deliveries-result")).select_by_value("stored")
    page.find("#deliveries-since").clear()
    page.find("#deliveries-project").send_keys("130", Keys.ENTER)
    wait_until(lambda: [row[1] for row in page.table("delivered")] == ["inserted"] * 3, 15, "the events")
    assert "deliveries.project=130" in page.driver.current_url and "deliveries.since" not in page.driver.current_url
    assert not page.complaints()


# -- what strangers sent --------------------------------------------------------------------------------------------


def test_hostile_texts_do_nothing(page, site, database):
    for ticket, text in enumerate(HOSTILE):
        body = event("add", ticket, title=text, ticketNo=f"T-{ticket}", status=text[:100], subStatus=text, agentName=text,
                     agentUserName=text, projectName=text, **{text[:100]: text})  # fmt: skip
        assert send(site.port, json.dumps(body)).status == 200
        database.query("SELECT vcc.reject_event(gen_random_uuid(), now(), 0, %s::bytea, %s)", str(ticket), text)
    page.open("?list=open&deliveries=1&deliveries.result=rejected", width=800)
    wait_until(lambda: len(page.table("listed")) == len(page.table("delivered")) == len(HOSTILE), 15, "the tables")
    page.script("document.querySelectorAll('#delivered td.body summary').forEach(one => one.click())")
    wait_until(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, ".delivery pre")) == len(HOSTILE), 15, "the bodies")
    for ticket, text in enumerate(HOSTILE):
        page.find(f"#listed tbody a[href*='ticket={ticket}&']").click()
        wait_until(lambda: page.text("ticket.ticket_no") == f"T-{ticket}", 15, "the ticket")
        assert page.text("ticket.title") == text[:1000].replace("\x01", "␁")
        bidi = page.script("return getComputedStyle(document.querySelector(\"[data-field='ticket.title'] bdi\")).unicodeBidi")
        assert bidi == "isolate"
        assert page.script("return window.hacked") is None
        assert page.driver.find_elements(By.CSS_SELECTOR, "main script, main img") == []
        assert page.script("return document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert not page.complaints()


def test_the_policy_holds(look, desk):
    """The server sends it, and the browser obeys: a script that somebody got into the page would not run."""
    page, answer = look.open(), send(desk.port, path=f"{LOCATION}/dashboard/", method="GET")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    page.script("const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)")
    assert page.script("return window.hacked") is None
    assert "Content Security Policy" in page.complaints()[0]["message"]
    # Its own copy, for web servers that send none.
    copy = page.script("return document.querySelector('meta[http-equiv]').content")
    assert policy == f"{copy}; frame-ancestors 'none'"


# -- when something is wrong ----------------------------------------------------------------------------------------


def test_the_database_stops_and_comes_back(page, site, database):
    send(site.port, event("add", 1, status="park"))
    page.open()
    assert page.text("verdict-words", By.ID) == "Events are stored"
    database.cluster.stop()
    try:
        assert send(site.port, event("add", 2, status="park")).json["result"] == "spooled"
        wait_until(lambda: "wait in the spool" in page.text("verdict-words", By.ID), 25, "the verdict")
        wait_until(lambda: page.value("spool.events") == "1", 15, "the spooled event")
        assert page.text("problem") == "The database does not answer."
        assert page.value("takes_events") == "spool" and page.value("open.tickets") == "1"
    finally:
        database.cluster.start()
        database.reconnect()
    wait_until(lambda: page.text("verdict-words", By.ID) == "Events are stored", 30, "the verdict")
    wait_until(lambda: page.value("open.tickets") == "2", 15, "the drain")


def test_the_handler_is_away(page, site):
    send(site.port, event("add", 1, status="park"))
    page.open()
    site.handler.stop()
    wait_until(lambda: page.text("verdict-words", By.ID) == "No answer from ticketd", 20, "the verdict")
    wait_until(lambda: page.text("stale").startswith("Data of"), 10, "how old the data is")
    assert page.value("open.tickets") == "1"
    site.handler.start()
    wait_until(lambda: page.text("verdict-words", By.ID) == "Events are stored", 25, "the verdict")
    assert page.text("stale") == ""


def test_the_verdict_turns(page, site, database):
    """When a wrong token, a body too large or one refused came, also before the page was opened; and says so in the title."""
    site.handler.stop()
    site.handler.settings.update(TICKETD_AUTH="token", TICKETD_TOKEN="x" * 24)
    site.handler.start()
    token = {"Authorization": "Bearer " + "x" * 24}
    assert send(site.port, event("add", 1), headers=token).status == 200
    assert send(site.port, b"x" * (1 << 20) + b"x", headers=token).status == 413
    page.open()
    assert page.text("verdict-words", By.ID) == "Events are stored, but some are too large"
    assert send(site.port, event("add", 2)).status == 401
    wait_until(lambda: "wrong token" in page.text("verdict-words", By.ID), 15, "the verdict")
    assert page.driver.title == "! Events are stored, but some come with a wrong token – ticketd"
    send(site.port, b"nix", headers=token)
    wait_until(lambda: "some are refused" in page.text("verdict-words", By.ID), 15, "the verdict")
    database.query("UPDATE vcc.rejected_events SET last_received_at = now() - interval '1 hour'")
    wait_until(lambda: "wrong token" in page.text("verdict-words", By.ID), 15, "the verdict")
    assert {row[0]: row[2] for row in page.table("answers") if row[3] != "–"} == {"200": "1", "400": "1", "401": "1", "413": "1"}
    site.handler.stop()
    site.handler.start()
    wait_until(lambda: page.text("verdict-words", By.ID) == "Events are stored" and page.driver.title == "ticketd", 15, "the verdict")


def test_reports_are_off(chromium, nginx):
    page = Page(chromium, nginx.port).open()
    assert page.text("verdict-words", By.ID) == "Reports are switched off"
    assert "TICKETD_REPORT=on" in page.text("problem") and len(page.complaints()) == 1


# -- for everybody --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there: npm could not fetch it")
def test_axe_finds_nothing(look):
    page = look.open("?period=7d&ticket=T-0&list=today&deliveries=1&deliveries.result=rejected")
    wait_until(lambda: page.text("ticket.ticket_no") == "T-0" and page.table("delivered"), 15, "the ticket")
    page.find("#delivered td.body summary").click()
    wait_until(lambda: page.driver.find_elements(By.CSS_SELECTOR, ".delivery pre"), 15, "the body")
    page.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    page.script(AXE.read_text())
    # What depends on colours alone, and what does not depend on them.
    for scheme, width, rules in ("light", 1280, {}), ("dark", 1280, {"runOnly": "color-contrast"}), \
                                ("light", 320, {"rules": {"color-contrast": {"enabled": False}}}):  # fmt: skip
        page.media(prefers_color_scheme=scheme)
        page.resize(width)
        passes, found = page.driver.execute_async_script("""const [rules, done] = arguments;
            axe.run({ ...rules, resultTypes: ['violations'] })
                .then(({ passes, violations }) => done([passes.length, violations]))""", rules)
        assert passes
        assert [(each["impact"], each["id"], [node["html"][:100] for node in each["nodes"][:3]]) for each in found] == []
    page.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})


def test_in_hungarian(look):
    """No text without its words: of the page with all that can be opened, and of what stands in the sources."""
    page = look.open("?lang=hu&list=overdue&list.agent=&deliveries=1&ticket=1")
    wait_until(lambda: page.value("before.open.tickets") and page.table("listed") and page.table("delivered"), 15, "the figures")
    page.find("#delivered td.body summary").click()
    wait_until(lambda: page.driver.find_elements(By.CSS_SELECTOR, ".delivery .command"), 15, "a body")
    assert page.text("list-heading", By.ID).startswith("Lejártak, a legrégebben lejárt elöl · ügyintéző nincs")
    assert (page.text("verdict-words", By.ID), page.text("problem")) == ("Az események rögzülnek, de némelyiket elutasítjuk", "")
    assert page.text("desk-heading", By.ID) == "Az ügyfélszolgálat" and page.text("list-close", By.ID) == "Bezárás"
    assert page.script("return document.documentElement.lang") == "hu" and "lang=hu" in page.script("return addressOf(state.choice)")
    said = {text for file in (ROOT / "dashboard").glob("*.js") if not file.name.startswith("words") for text in re.findall(
        r"say\('([^']+)'\)|'([A-Z][a-z]+ [^'`$]+)'", file.read_text()) for text in text if text}  # fmt: skip
    assert len(said) > 50
    page.script("for (const text of arguments[0]) say(text)", sorted(said))
    assert page.script("return [...missing]") == []
    Select(page.find("#language")).select_by_value("en")
    wait_until(lambda: page.text("list-heading", By.ID).startswith("Overdue, longest first"), 15, "English")
    assert not page.complaints()


def test_on_a_phone(look):
    page = look.open("?list=open&deliveries=1&ticket=1", width=800)
    wait_until(lambda: page.value("open.tickets") and page.table("listed") and page.table("delivered"), 15, "the figures")
    page.script("document.querySelectorAll('main details').forEach(one => one.open = true)")
    for width in 800, 480, 320:
        page.resize(width)
        assert page.script("return document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
        wait_until(lambda: page.script("""return [...document.querySelectorAll('canvas')]
            .every(canvas => canvas.clientWidth <= innerWidth)"""))
    lost = page.script("""return [...document.querySelectorAll('tbody :is(th, td)')].filter(cell => cell.getClientRects().length)
        .filter(cell => cell.getBoundingClientRect().right > innerWidth || cell.scrollWidth > cell.clientWidth + 1)
        .map(cell => cell.closest('table').id + ' ' + cell.dataset.column)""")
    assert lost == []  # no column is out of sight


def test_dark_and_light(look):
    page, brightness = look.open(), {}
    for scheme in "dark", "light":
        page.media(prefers_color_scheme=scheme)
        colour = page.script("return getComputedStyle(document.body).backgroundColor + getComputedStyle(document.documentElement).backgroundColor")
        brightness[scheme] = [int(n) for n in colour.replace("rgba(0, 0, 0, 0)", "").split("(")[1].split(")")[0].split(",")[:3]]
    assert sum(brightness["dark"]) < 200 < 500 < sum(brightness["light"])


def test_it_is_small_and_quick(look, desk):
    """Everything that is loaded, the first answer included, and nothing from anywhere else."""
    page = look
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})  # as somebody who comes first
    paints = []
    for _ in range(3):  # the best of some: others use the machine too
        page.open()
        paints.append(wait_until(lambda: page.script("return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"),
                                 10, "the first paint"))  # fmt: skip
    loaded = page.script("""return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
        .map(e => [e.name, e.decodedBodySize, e.encodedBodySize])""")
    assert {name.split("/")[2] for name, *_ in loaded if name.startswith("http")} == {f"127.0.0.1:{desk.port}"}
    scripts = {name.rpartition("/")[2] for name, *_ in loaded if name.endswith(".js")}
    assert scripts - {"uPlot.iife.min.js"} == {file.name for file in (ROOT / "dashboard").glob("*.js")}
    files = sum(size for name, size, _ in loaded if "report.json" not in name)
    sent = sum(size for *_, size in loaded)
    print(f"{files} bytes of files, {sent} sent with the first answer, first paint after {min(paints):.0f} ms")
    page.driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": False})
    assert 50_000 < files < 150 * 1024 and 20_000 < sent < 80_000
    assert min(paints) < 1000


# -- the picture of the README --------------------------------------------------------------------------------------

AGENTS = [("Rachel Scott", "rachel_scott"), ("John Smith", "john_smith"), ("Anna Kovács", "anna_kovacs"), ("Li Wei", "li_wei")]


def apply(database, project, action, events):
    """Events at times of their own, (ticket, time, attributes), of each ticket one, all with the same attributes."""
    tickets, times, attributes = zip(*events)
    names = attributes[0]
    identifiers = [f"{int(at.timestamp() * 1000):012x}7000{8 << 60 | random.randrange(1 << 60):016x}" for at in times]
    columns = [",".join(json.dumps(str(each[name]), ensure_ascii=False) for each in attributes) for name in names]
    database.query("SELECT vcc.apply_events(project => %s, ticket_id => %s::bigint[], event_id => %s::uuid[], "
                   "received_at => %s, action => %s, payload => %s" + "".join(f", {name} => %s" for name in names) + ")",
                   project, list(tickets), identifiers, list(times), [action] * len(events), ["{}"] * len(events),
                   *[f"{{{column}}}" for column in columns])  # fmt: skip


def six_weeks(database):
    """A desk of six weeks, as sample data: some hundred tickets that are opened, handed on and mostly closed."""
    rng, now = random.Random(7), datetime.now(timezone.utc)
    steps = {}
    for ticket in range(1, 420):
        opened = now - timedelta(days=40 * rng.random() ** 0.9)
        name, login = rng.choice(AGENTS)
        took = timedelta(hours=rng.expovariate(1 / 40))
        base = {"status": "park", "sub_status": "waiting4agent", "project_name": ["Support", "Sales"][ticket % 2],
                "title": "Customer complaint", "ticket_no": f"130-{opened:%Y%m%d}-{ticket:06}", "first_open_time": str(opened),
                "soft_deadline": str(opened + timedelta(days=5))}  # fmt: skip
        life = [(opened, "add", base), (opened + took / 4, "update", {
            "agent_name": name, "agent_user_name": login, "sub_status": "waiting4entity"})]  # fmt: skip
        if rng.random() < 0.93:
            life.append((opened + took, "update", {"status": "closed", "sub_status": "successful"}))
        for at, action, attributes in life:
            if at < now:
                steps.setdefault((130 + ticket % 2, action, *attributes), []).append((ticket, at, attributes))
    for (project, action, *_), events in steps.items():
        apply(database, project, action, sorted(events, key=lambda event: event[1]))


def test_screenshot(page, site, database, folder):
    """Taken of sample data; what the README shows was made by this, with make screenshot."""
    six_weeks(database)
    rng = random.Random(7)
    now = datetime.now(timezone.utc)
    minutes = [now - timedelta(minutes=minute, seconds=n) for minute in range(58, -1, -1) for n in range(rng.randrange(3, 12))]
    for first in range(0, len(minutes), 199):
        tickets = rng.sample(range(2, 400, 2), 199)
        apply(database, 130, "update", [(ticket, at, {"user_id": rng.randrange(1 << 30)})
                                        for ticket, at in zip(tickets, minutes[first:])])  # fmt: skip
    for body in [b"nix"] * 3 + [b'{"action": "add", "ticket": {"projectId": 130}}']:
        send(site.port, body)
    send(site.port, event("update", 2, userId=8))
    page.media(prefers_color_scheme="light")
    page.open(width=1180, height=910)
    wait_until(lambda: page.value("open.tickets"), 15, "the figures")
    time.sleep(0.5)  # the charts are drawn in the next frame
    path = folder / "screenshot.png"
    page.driver.save_screenshot(str(path))
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", content[16:24]) == (1180, 910) and len(content) > 30000
    with contextlib.suppress(KeyError):
        shutil.copy(path, os.environ["SCREENSHOT"])
