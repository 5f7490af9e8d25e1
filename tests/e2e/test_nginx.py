"""nginx/ticketd.conf in a server as users have one: TLS, HTTP/2, and what is there to be switched on."""

import http.client
import json
import re
import shutil
import ssl
import subprocess

import pytest
from conftest import LOCATION, ROOT, Nginx, event, free_port, send, wait_until


def uncomment(location, directive):
    """What an administrator does to use it."""
    changed, count = re.subn(rf"(?m)^(\s*)#({re.escape(directive)}.*)$", r"\1\2", location)
    assert count == 1, directive
    return changed


@pytest.fixture
def site(folder, handler):
    """An nginx with a changed location."""
    started = []

    def site(location, **more):
        started.append(Nginx(folder, handler.socket, location, **more))
        return started[-1]
    yield site
    for nginx in started:
        nginx.stop()


def test_an_allow_list(site, database):
    refused = uncomment(uncomment(Nginx.installed_location(), "allow 192.0.2.0/24;"), "deny all;")
    nginx = site(refused)
    assert send(nginx.port, event("add")).status == 403
    assert send(nginx.port, method="GET", path=LOCATION + "/livez").status == 200
    nginx.stop()
    nginx = site(refused.replace("192.0.2.0/24", "127.0.0.0/8"))
    assert send(nginx.port, event("add")).status == 200
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 1


def test_a_limit(site, database, folder):
    """What is above it gets 503 and is sent again; as shipped it holds off nobody who sends a thousand at once."""
    location = uncomment(Nginx.installed_location(), "limit_req ")
    nginx = site(location)
    assert {send(nginx.port, event("update", n)).status for n in range(100)} == {200}
    nginx.stop()
    nginx = site(location.replace("burst=1000", "burst=3"))
    upstream = (folder / "upstream.conf").read_text()
    assert "rate=500r/s" in upstream
    (folder / "upstream.conf").write_text(upstream.replace("rate=500r/s", "rate=1r/m"))
    pid = folder / "nginx.pid"
    wait_until(lambda: pid.exists() and pid.read_text().strip(), what="the number of its process")  # it listens earlier
    subprocess.run(["nginx", "-e", f"{folder}/nginx-error.log", "-p", folder, "-c", folder / "nginx.conf", "-s", "reload"],
                   check=True)  # fmt: skip
    answers = []
    while not answers or (answers[-1].status == 200 and len(answers) < 300):
        answers.append(send(nginx.port, event("update", 1000 + len(answers))))
    assert answers[-1].status == 503 and answers[-1].headers["Retry-After"] == "10"
    assert answers[-1].json["detail"] == "The web server got no answer from ticketd."
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 100 + len(answers) - 1


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_behind_tls(folder, handler, database):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem"], check=True, capture_output=True)  # fmt: skip
    port = free_port()
    location = f"""
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        """ + Nginx.installed_location()
    nginx = Nginx(folder, handler.socket, location)
    try:
        context = ssl.create_default_context(cafile=folder / "cert.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
        for _ in range(2):  # by one connection
            connection.request("POST", LOCATION + "?secret-key=x", json.dumps(event("update")))
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["result"] in ("inserted", "unchanged")) == (200, True)
        connection.close()
        if shutil.which("curl") and b"HTTP2" in subprocess.run(["curl", "-V"], capture_output=True).stdout:
            done = subprocess.run(["curl", "-s", "--http2", "--cacert", folder / "cert.pem", "-d", json.dumps(event("delete")),
                                   f"https://127.0.0.1:{port}{LOCATION}"], check=True, capture_output=True)  # fmt: skip
            assert json.loads(done.stdout)["result"] == "deleted"
    finally:
        nginx.stop()


def test_the_time_outs_agree():
    """nginx waits longer than the longest answer takes, which README gives as twice TICKETD_DB_TIMEOUT_MS."""
    default = int(re.search(r"DB_TIMEOUT_MS, db_timeout_ms, (\d+)", (ROOT / "handler/base/conf.def").read_text())[1])
    seconds = int(re.search(r"fastcgi_read_timeout (\d+)s;", Nginx.installed_location())[1])
    assert seconds * 1000 >= 2 * default + 2000
    cap = re.search(r"MAX_BODY_KB, max_body_kb, (\d+)", (ROOT / "handler/base/conf.def").read_text())[1]
    assert f"client_max_body_size {int(cap) // 1024}m;" in Nginx.installed_location()
