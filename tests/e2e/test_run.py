"""`make run`: it serves by the rules of the documents, and stops however it is told to."""

import os
import re
import shutil
import signal
import subprocess

import documents
import pytest
from conftest import ROOT, copy_of_the_tree, environment, event, free_port, send, temporary_folder, wait_until

READY = re.compile(r"^ready: http://127\.0\.0\.1:(\d+)(/vcc/tickets\?secret-key=\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def tree():
    with temporary_folder() as folder:
        copy_of_the_tree(folder)
        for name in "nginx", "contrib", "dashboard", "tests/data/sample":
            shutil.copytree(ROOT / name, folder / name)
        yield folder


def heed_interrupts():
    """Also where we were started in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ignore_interrupts():
    """As a script's shell does for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def try_an_outage(tree, port):
    """As docs/developing.md has it."""
    block, = (block for block in documents.markdown(ROOT / "docs/developing.md") if "ALLOW_CONNECTIONS" in block.text)
    done = subprocess.run(["sh", "-e", "-c", block.text.replace("8080", port)], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0 and '"spooled"' in done.stdout, done.stdout + done.stderr
    assert re.search(r"^130\t21\t1\t", done.stdout, re.MULTILINE), done.stdout
    wait_until(lambda: re.search(r"^events +0$", subprocess.run([tree / "run/ticketd", "spool", "status"], capture_output=True,
                                                               text=True).stdout, re.MULTILINE), 10, "an empty spool")  # fmt: skip


@pytest.mark.parametrize("tell, started", [
    (lambda process: process.send_signal(signal.SIGINT), heed_interrupts),
    (lambda process: process.send_signal(signal.SIGTERM), heed_interrupts),
    (lambda process: os.killpg(process.pid, signal.SIGINT), ignore_interrupts),
], ids=["SIGINT to make", "SIGTERM to make", "SIGINT to a job in the background"])  # fmt: skip
def test_without_a_terminal(tree, tell, started):
    """The data is kept from run to run; the handler reads reports by its own role."""
    clean = {name: value for name, value in environment(PORT=free_port()).items() if not name.startswith("MAKE")}
    with open(tree / "said", "wb") as said:
        process = subprocess.Popen(["make", "run"], cwd=tree, env=clean, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                   start_new_session=True, preexec_fn=started)  # fmt: skip
    try:
        words = (tree / "said").read_text
        wait_until(lambda: READY.search(words()) or process.poll() is not None, 60, "make run")
        assert process.poll() is None, words()
        port, path = READY.search(words()).groups()
        runs = sum(1 for _ in tree.glob("was-*"))
        assert send(int(port), event("add"), path=path).json["result"] == ("unchanged" if runs else "inserted")
        (tree / f"was-{runs}").touch()
        report = send(int(port), method="GET", path="/vcc/tickets/report.json").json
        assert report["problem"] is None and report["report"]["open"]["tickets"] == 1
        assert (tree / "run/pg_hba.conf").read_text().split()[3] == "peer"
        shown = subprocess.run(["sh", "-c", re.search(r"psql -h .*", words())[0]], capture_output=True, text=True, cwd=tree)
        assert re.search(r"ticket_id +\| 21\b", shown.stdout), shown.stderr
        assert re.search(r"^ +run/ticketd check$", words(), re.MULTILINE)
        found = subprocess.run([tree / "run/ticketd", "check"], capture_output=True, text=True)
        assert found.returncode == 0 and "reports    ok" in found.stdout, found.stdout + found.stderr
        if not runs:
            try_an_outage(tree, port)
        tell(process)
        process.wait(20)
        assert "stopping" in words()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
    subprocess.run(["flock", "-w", "5", tree / "run/lock", "true"], check=True)  # nothing of it lives
