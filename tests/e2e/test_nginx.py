"""nginx/ticketd.conf in a server as users have one: TLS, HTTP/2, and what is there to be switched on."""

import http.client
import json
import re
import shutil
import ssl
import subprocess

import pytest
from conftest import (BY_LOGIN, LOCATION, ROOT, Nginx, certificate, event, free_port, look_from_elsewhere, make_login, send,
                      uncomment, wait_until)  # fmt: skip
from test_logs import said
from test_metrics import scrape, value


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


def test_an_allow_list(site, database, folder):
    refused = uncomment(Nginx.installed_location(folder), "allow 192.0.2.0/24;", "deny all;")
    nginx = site(refused)
    assert send(nginx.port, event("add")).status == 403
    assert send(nginx.port, method="GET", path=LOCATION + "/livez").status == 200
    nginx.stop()
    nginx = site(refused.replace("192.0.2.0/24", "127.0.0.0/8"))
    assert send(nginx.port, event("add")).status == 200
    assert database.value("SELECT count(*) FROM vcc.ticket_events") == 1


def test_a_limit(site, database, folder):
    """What is above it gets 503 and is sent again; as shipped it holds off nobody who sends a thousand at once."""
    location = uncomment(Nginx.installed_location(folder), "limit_req ")
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
    certificate(folder)
    port = free_port()
    location = f"""
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        """ + Nginx.installed_location(folder)
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


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_a_login_for_the_dashboard(site, folder):
    """From another machine, by TLS. This host needs none, and livez stays its own."""
    certificate(folder)
    make_login(folder / "htpasswd")
    port, installed = free_port(), Nginx.installed_location(folder)
    nginx = site(f"""
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        set_real_ip_from 127.0.0.1;
        real_ip_header X-Client;
        """ + uncomment(installed, "satisfy any;", "auth_basic ", "auth_basic_user_file").replace(
            "/etc/nginx/ticketd.htpasswd", f"{folder}/htpasswd"))  # fmt: skip
    expected = {**BY_LOGIN, ("report.json", True): 404}  # the handler's word: TICKETD_REPORT is off
    assert look_from_elsewhere(folder, port) == expected
    assert send(nginx.port, path=LOCATION + "/dashboard/", method="GET").status == 200
    assert send(nginx.port, event("add"), headers={"X-Client": "203.0.113.9"}).status == 200


def test_it_starts_where_ticketd_is_gone(folder):
    """After a removal its files are there, and nothing that they name. Nor what version 0.1.0 had elsewhere."""
    installed = Nginx.installed_location(folder).replace(f"{ROOT}/", "/nowhere/")
    nginx = Nginx(folder, "/nowhere/ticketd.sock", installed, http="include /dev/null;")
    try:
        answer = send(nginx.port, event("add"))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        assert send(nginx.port, path=LOCATION + "/dashboard/", method="GET").status == 404
    finally:
        nginx.stop()


def test_what_is_too_large_is_counted_and_logged(site, handler):
    """An image in a text (big-413.py): nginx lets it through, the handler answers."""
    nginx = site(None)
    large = event("add", description='<img src="data:image/png;base64,' + "iVBORw0KGgo" * 150000 + '">')
    for _ in range(3):
        answer = send(nginx.port, large)
        assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert value(scrape(handler), "requests_total", 'status="413"') == 3
    line, = said(handler, "The body is larger than TICKETD_MAX_BODY_KB")
    assert line["status"] == "413" and len(line["request"]) == 32


def test_what_nginx_answers_by_itself_leaves_a_trace(site, handler, folder):
    """In a log without the token, even one that stands behind an encoded question mark."""
    nginx = site(None)
    query = "?secret-key=S3cret"
    for method, length, path, status in [
            ("POST", 1 << 30, LOCATION + query, 413), ("GET", 0, LOCATION + "/elsewhere" + query, 404),
            ("GET", 0, LOCATION + query.replace("?", "%3F"), 404), ("GET", 0, LOCATION + "/livez", 200)]:
        connection = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=10)
        connection.request(method, path, headers={"Content-Length": str(length)})
        assert connection.getresponse().status == status, path
        connection.close()
    handler.stop()
    assert send(nginx.port, event("add"), path=LOCATION + query).status == 503
    log = folder / "nginx-ticketd.log"
    wait_until(lambda: log.read_text().count("\n") == 5, what="the log's lines")
    assert re.findall(r"\] (\S+ \S+ \d+) ", log.read_text()) == [
        f"POST {LOCATION} 413", f"GET {LOCATION}/elsewhere 404", f"GET {LOCATION} 404", f"GET {LOCATION}/livez 200",
        f"POST {LOCATION} 503"]
    assert "S3cret" not in log.read_text() and "secret-key" not in log.read_text()
    handler.start()


def test_beside_what_other_sites_have(site, folder):
    """Rules for static files, hidden ones and programs (nginx-static-assets.conf) are not for this location."""
    nginx = site(Nginx.installed_location(folder) + """
        location / { try_files $uri /nothing; }
        location ~* \\.(?:css|js|json|gif|jpe?g|png|svg|ico|woff2?)$ { expires max; log_not_found off; }
        location ~ /\\. { deny all; }
        location ~ \\.php|tickets|livez { return 418; }""")
    page = LOCATION + "/dashboard/"
    for path, kind in ("", "text/html"), ("dashboard.js", "text/javascript"), ("dashboard.css", "text/css"), \
                      ("uplot/uPlot.min.css", "text/css"):
        answer = send(nginx.port, path=page + path, method="GET")
        assert answer.status == 200 and answer.headers["Content-Type"].startswith(kind), path
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and "Expires" not in answer.headers
    assert send(nginx.port, path=LOCATION + "/report.json", method="GET").json["status"] == 404  # the handler's word
    assert send(nginx.port, path=LOCATION + "/livez", method="GET").json == {"live": True}
    assert send(nginx.port, event("add")).status == 200
    assert send(nginx.port, path=page + ".x.js", method="GET").status == 404


def test_a_slash_at_the_end_is_the_same_place(site, database):
    nginx = site(None)
    assert send(nginx.port, event("add"), path=LOCATION + "/?x").status == 200
    assert send(nginx.port, method="GET", path=LOCATION + "/livez/").json == {"live": True}
    assert send(nginx.port, method="GET", path=LOCATION + "//livez/x").status == 404


def test_the_limits_agree(folder):
    """nginx waits longer than the longest answer takes, which README gives as twice TICKETD_DB_TIMEOUT_MS, and its cap
    is above any that the handler may have."""
    default = int(re.search(r"DB_TIMEOUT_MS, db_timeout_ms, (\d+)", (ROOT / "handler/base/conf.def").read_text())[1])
    seconds = int(re.search(r"fastcgi_read_timeout (\d+)s;", Nginx.installed_location(folder))[1])
    assert seconds * 1000 >= 2 * default + 2000
    cap = re.search(r"MAX_BODY_KB, max_body_kb, \d+, 1, (\d+)", (ROOT / "handler/base/conf.def").read_text())[1]
    assert int(re.search(r"client_max_body_size (\d+)m;", Nginx.installed_location(folder))[1]) * 1024 > int(cap)
