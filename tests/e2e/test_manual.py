"""What is installed beside the program: the manual page, the template of settings, the completion of bash."""

import os
import re
import subprocess

import pytest
from conftest import ROOT, TICKETD, command, event
from test_lists import output, settings
from test_metrics import families
from test_spool import ask
from test_systemd import install


def documents(which):
    return subprocess.run([ROOT / "tools/documents", which], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def page():
    """As people read it, on lines of any length."""
    text = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=1000"], input=documents("page"), check=True,
                          capture_output=True, text=True).stdout  # fmt: skip
    return re.sub(r".\x08", "", text)


def test_mandoc_finds_no_fault(folder):
    (folder / "ticketd.8").write_text(documents("page"))
    checked = subprocess.run(["mandoc", "-T", "lint", "-W", "style", folder / "ticketd.8"], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_man_finds_no_fault(folder):
    """Debian's man, which is groff: in a macro's line it takes quotes away."""
    (folder / "ticketd.8").write_text(documents("page"))
    shown = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", folder / "ticketd.8"], capture_output=True, text=True,
                           env={**os.environ, "MANWIDTH": "200", "MANROFFSEQ": "", "MAN_KEEP_FORMATTING": ""}, check=True)  # fmt: skip
    assert shown.stderr == "" and '{"received_at": time, "event": event}' in shown.stdout
    _, *heads, _ = re.findall(r"^(?:   )?\S.*$", shown.stdout, re.MULTILINE)
    assert len(heads) == len(set(heads)) > 20


def test_paths_of_the_page_exist(folder):
    """But for those that come with the first start, or from the administrator."""
    install(folder)
    page = (folder / "share/man/man8/ticketd.8").read_text()
    paths = re.findall(r"^\.(?:It )?Pa (/\S+)", page, re.MULTILINE)
    shipped = [path.removeprefix(str(folder)) for path in paths if not path.startswith(("/run/", "/var/"))]
    shipped.remove("/etc/ticketd/token")
    assert len(shipped) > 8 and [path for path in shipped if not os.path.exists(f"{folder}{path}")] == []
    assert "/var/lib/ticketd/spool" in paths


def test_every_word_is_in_the_synopsis():
    synopsis = documents("page").partition(".Sh SYNOPSIS")[2].partition(".Sh")[0]
    for name, words in re.findall(r"^  ([a-z]+) ((?:[a-z]+\|)+[a-z]+) ", output("--help"), re.MULTILINE):
        part = synopsis.partition(f".Cm {name}\n")[2:]
        for word in words.split("|"):
            assert re.search(rf"\.Cm {name}\n(?:\..*\n)*?\.Cm .*\b{word}\b", synopsis), (name, word, part)


def test_the_page_lists_everything(page, handler):
    """Settings with what --help says of them, commands, statuses, metrics; in the order of the lists."""
    shown = re.findall(r"^ +(TICKETD_[A-Z_]+)\n +(.*)$", page, re.MULTILINE)
    assert [name for name, _ in shown] == settings()
    of_help = re.findall(r"^  (TICKETD_\S+) +(.*)$", output("--help"), re.MULTILINE)
    for (name, text), (_, meaning) in zip(shown, of_help):
        meaning, _, preset = meaning.partition("; default ")
        expected = meaning.replace("|", ", ") + "." + (f" Default: {preset}." if preset else "")
        assert re.sub(r"\s+", " ", text) == expected, name
    for words in re.findall(r"^  ([a-z]+)(?: ([a-z|]+))? ", output("--help").partition("settings")[0], re.MULTILINE):
        assert re.search(rf"^ +{words[0]}\b", page, re.MULTILINE), words
    statuses = re.findall(r"^OUTCOME\(\w+, ([1-9]\d+),", (ROOT / "handler/base/outcome.def").read_text(), re.MULTILINE)
    assert re.findall(r"^ +([1-9]\d\d) +[“A-Z]", page, re.MULTILINE) == statuses and len(statuses) > 10
    assert re.findall(r"^ +(\w+) \((counter|gauge|histogram|age)\)$", page, re.MULTILINE) == [
        (name, "age" if name.endswith("_age_seconds") else kind) for name, kind in families(handler)]


# -- settings -------------------------------------------------------------------------------------------------------


def uncommented():
    """Name and value of each setting of the template, and what is above it."""
    return re.findall(r"^# (.*)\n#(TICKETD_[A-Z_]+)=(.*)$", documents("environment"), re.MULTILINE)


def test_the_template_lists_everything():
    lines = documents("environment").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        'TICKETD_DATABASE="dbname=tickets"', "TICKETD_TOKEN_FILE=/etc/ticketd/token",
        "TICKETD_SPOOL_DIR=/var/lib/ticketd/spool"]  # fmt: skip
    assert [name for _, name, _ in uncommented()] == settings()


def test_the_template_has_the_defaults(start, database):
    """Taken as it is, each line says what happens without it."""
    values = {name: value for _, name, value in uncommented()}
    assert values["TICKETD_WORKERS"] == "2" and values["TICKETD_LOG_LEVEL"] == "info"
    handler = start(**{name: value for name, value in values.items() if value and name != "TICKETD_AUTH"})
    assert ask(handler.socket, event("add"))[0] == 200
    # And a line with its default says no more than no line: the help is made of the same list.
    of_help = dict(re.findall(r"^  (TICKETD_\S+) .*; default (.*)$", output("--help"), re.MULTILINE))
    assert {name: value for name, value in values.items() if value} == of_help


def test_an_empty_setting_is_none(database, folder):
    """As the template has those without a default."""
    empty = {name: "" for _, name, value in uncommented() if not value}
    done = command("check", **{**empty, "TICKETD_DATABASE": database.handler, "TICKETD_AUTH": "none"})
    assert done.returncode == 0, done.stdout + done.stderr


# -- completion -----------------------------------------------------------------------------------------------------


def completed(*words, cwd=ROOT):
    """What bash would offer for the last of these words."""
    script = """
        source "$1"
        COMP_WORDS=("${@:2}")
        COMP_CWORD=$(($# - 2))
        _ticketd
        printf '%s\\n' "${COMPREPLY[@]}"
        complete -p ticketd"""
    done = subprocess.run(["bash", "-c", script, "bash", str(ROOT / "contrib/completion/ticketd"), TICKETD, *words], cwd=cwd,
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stderr == ""
    *offered, registered = done.stdout.splitlines()
    assert registered == "complete -o filenames -F _ticketd ticketd"
    return sorted(filter(None, offered))


def test_bash_completes(folder):
    (folder / "events.jsonl").touch()
    commands = re.findall(r"^    \{\"(\w+)\", command_", (ROOT / "handler/main.c").read_text(), re.MULTILINE)
    assert len(commands) == 8
    assert completed("") == sorted([*commands, "--help", "--version"])
    assert completed("s") == ["serve", "spool"]
    assert completed("--v") == ["--version"]
    assert completed("rejected", "") == ["drop", "list", "retry", "show"]
    assert completed("spool", "d") == ["drain", "drop"]
    assert completed("spool", "a") == ["add", "adopt"]
    assert completed("check", "") == ["--url"]
    assert completed("verify", "") == ["--rebuild"]
    assert completed("spool", "add", "ev", cwd=folder) == ["events.jsonl"]
    assert completed("import", "ev", cwd=folder) == ["events.jsonl"]
    for words in ("serve", ""), ("spool", "drain", ""), ("nonsense", ""), ("migrate", "s"):
        assert completed(*words) == [], words
