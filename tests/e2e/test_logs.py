"""What people read: log lines that lead from the web server to the journal, levels, and what is said too often."""

import fcntl
import json
import os
import re
import signal
import time

import pytest
from conftest import LOCATION, Nginx, event, send, wait_until
from test_metrics import scrape, value
from test_spool import ask

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
LINE = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S+)')


def lines(handler):
    return [{key: json.loads(text) if text.startswith('"') else text for key, text in LINE.findall(line)}
            for line in handler.log.read_text().splitlines()]  # fmt: skip


def said(handler, message):
    return [line for line in lines(handler) if line["msg"] == message]


@pytest.mark.parametrize("content, status, message", [
    (event("add"), 200, "inserted"),
    ({"action": "add", "ticket": {"title": "my words"}}, 422, "The body is not an event that can be stored"),
    ("{", 400, "The body cannot be read"),
])  # fmt: skip
def test_one_id_leads_to_the_next(start, folder, database, content, status, message):
    """nginx's log → ours → the journal, or what was set aside."""
    handler = start(TICKETD_LOG_LEVEL="debug")
    log = folder / "nginx-ticketd.log"
    nginx = Nginx(folder, handler.socket)
    try:
        answer = send(nginx.port, content, path=LOCATION + "?secret-key=my-token")
        assert answer.status == status
        nginx_line = wait_until(lambda: log.exists() and log.read_text(), what="nginx's log")
    finally:
        nginx.stop()
    identifier = answer.headers["X-Event-Id"]
    assert re.fullmatch(UUID, identifier)
    found = re.search(r"request=([0-9a-f]{32}) event=(\S+)$", nginx_line)
    assert found[2] == identifier
    line, = said(handler, message)
    assert (line["request"], line["event"], line["status"]) == (found[1], identifier, str(status))
    assert 0 < int(line["microseconds"]) < 10e6
    assert line["level"] == ("debug" if status == 200 else "warning")
    table = "ticket_events WHERE event_id" if status == 200 else "rejected_events WHERE last_event_id"
    assert database.value(f"SELECT count(*) FROM vcc.{table} = %s", identifier) == 1
    everything = handler.log.read_text() + nginx_line
    assert "my-token" not in everything and "my words" not in everything


def test_an_event_that_is_stored_is_no_news(start):
    handler = start()
    assert ask(handler.socket, event("add"))[0] == 200
    assert not said(handler, "inserted")


def test_what_comes_too_often_is_counted(start):
    handler = start(TICKETD_TOKEN="secret")
    for _ in range(50):
        assert ask(handler.socket, b"{}")[0] == 401
    assert ask(handler.socket, b"{}", method="GET")[0] == 405
    assert value(scrape(handler), "log_lines_dropped_total") == 40
    message = "A token is missing, wrong or given twice"
    assert [line.get("status") for line in said(handler, message)] == ["401"] * 10
    assert len(said(handler, "Method not allowed")) == 1, "another message has ten of its own"

    last = wait_until(lambda: said(handler, message)[10:], 15, "the summary")
    assert [(line["more_times"], line["level"]) for line in last] == [("40", "warning")]
    assert 10 <= int(last[0]["seconds"]) <= 12
    for _ in range(15):
        assert ask(handler.socket, b"{}")[0] == 401
    handler.stop()
    assert [line.get("more_times") for line in said(handler, message)[11:]] == [None] * 10 + ["5"], "not said at the end"


def test_nobody_reads_the_log(start, folder):
    """A pipe that is full stops nobody: the lines that it has no room for are counted."""
    log = folder / "ticketd.log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 16384)
    try:
        handler = start(TICKETD_LOG_LEVEL="debug")
        for n in range(200):  # the first ones are longer than what a pipe takes at once (pipe(7), PIPE_BUF)
            assert ask(handler.socket, event("update", title=str(n)), REQUEST_ID="i" * (9000 if n < 100 else 16))[0] == 200
        assert value(scrape(handler), "log_lines_dropped_total") > 50
        assert os.read(reader, 1 << 16).count(b"msg=updated") > 5
        assert ask(handler.socket, event("delete"))[0] == 200
        assert b"msg=deleted" in os.read(reader, 1 << 16)
        handler.stop()
    finally:
        os.close(reader)
        log.unlink()
        log.touch()


def test_long_values_are_cut(start):
    handler = start(TICKETD_LOG_LEVEL="debug")
    assert ask(handler.socket, event("update"), REQUEST_ID="é" * 600)[0] == 200
    assert said(handler, "inserted")[0]["request"] == "é" * 500 + "…"
    assert ask(handler.socket, event("update", title="1"), REQUEST_ID="\1" * 5000)[0] == 200
    assert not said(handler, "updated")
    assert value(scrape(handler), "log_lines_dropped_total") == 1


def test_levels_change_while_it_runs(start):
    handler = start(TICKETD_LOG_LEVEL="warning", TICKETD_LOG_FORMAT="json")
    expected = []
    number = 0

    def tell(signal_number, then_shows):
        nonlocal number
        handler.process.send_signal(signal_number)
        time.sleep(0.3)
        number += 1
        assert ask(handler.socket, event("add", number))[0] == 200
        expected.append(then_shows)
        shown = [line for line in map(json.loads, handler.log.read_text().splitlines()) if line["msg"] == "inserted"]
        assert len(shown) == sum(expected)

    tell(signal.SIGUSR2, False)  # error
    tell(signal.SIGUSR2, False)  # there is nothing less
    tell(signal.SIGUSR1, False)
    tell(signal.SIGUSR1, False)  # info
    tell(signal.SIGUSR1, True)
    tell(signal.SIGUSR1, True)  # there is nothing more
    tell(signal.SIGUSR2, False)
    assert ask(handler.socket, b"{")[0] == 400
    assert [line["level"] for line in map(json.loads, handler.log.read_text().splitlines())][-1] == "warning"


@pytest.mark.parametrize("is_its_stream", [True, False])
def test_priorities_for_the_journal(start, folder, is_its_stream):
    """As systemd tells it: the device and inode of standard error."""
    (folder / "ticketd.log").touch()
    status = os.stat(folder / "ticketd.log")
    handler = start(JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino + (not is_its_stream)}", TICKETD_LOG_LEVEL="debug")
    assert ask(handler.socket, event("add"))[0] == 200
    assert ask(handler.socket, b"{")[0] == 400
    handler.stop()
    found = {(line[:3], re.search(r"level=(\w+)", line)[1]) for line in handler.log.read_text().splitlines()}
    if is_its_stream:
        assert found == {("<7>", "debug"), ("<6>", "info"), ("<4>", "warning")}, handler.log.read_text()
    else:
        assert {begin for begin, _ in found} == {"tim"}
