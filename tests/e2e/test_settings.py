"""The settings file of an installed program: a command by hand sees what the service sees."""

import os
import shutil
import subprocess

import pytest
from conftest import TICKETD, environment, temporary_folder
from test_spool import ROOT_ONLY
from test_systemd import install


@pytest.fixture(scope="module")
def installed():
    """Where a program is that reads etc/ticketd/ticketd.env beside it."""
    with temporary_folder() as folder:
        install(folder)
        for path in folder, folder / "etc/ticketd":
            path.chmod(0o755)
        yield folder


def run(folder, *arguments, file=None, before=(), user=None, **settings):
    """Runs the installed program, by an ordinary user where that matters not; `file` is the text of its settings."""
    if file is not None:
        (folder / "etc/ticketd/ticketd.env").write_bytes(file.encode())
    user = user or ("nobody" if os.geteuid() == 0 and not before else None)
    return subprocess.run([*before, folder / "sbin/ticketd", *arguments], env=environment(**settings), capture_output=True,
                          text=True, timeout=30, user=user, extra_groups=[] if user else None)  # fmt: skip


@pytest.mark.parametrize("text, value", [
    ("loud", "loud"), (" loud \t", "loud"), ('"very loud"', "very loud"), ("'very \"loud\"'", 'very \\"loud\\"'),
    ("very\\ loud", "very loud"), ("very loud # it says", "very loud # it says"), ('very"loud"', 'very\\"loud\\"'),
    ('"\\$x \\\\ \\x"', "$x \\\\ \\\\x"), ('"very\nloud"', "very\\u000aloud"), ("ve\\\nry", "very"), ("loud \\\n", "loud "), ('"very" "loud"', "veryloud"),
    ("loud\r\nTICKETD_WORKERS=1\r", "loud"),
])  # fmt: skip
def test_it_is_read_as_systemd_reads_it(installed, text, value):
    """A bad value is quoted in the complaint, which tells how it was read."""
    done = run(installed, "check", file=f"# a comment\n\n; another\n TICKETD_LOG_LEVEL = {text}\nTICKETD_AUTH=none\n")
    assert done.returncode == 1
    assert f"name=TICKETD_LOG_LEVEL value={value} " in done.stderr.replace(f'"{value}"', value), done.stderr


def test_the_environment_wins(installed, folder):
    settings = f"TICKETD_SPOOL_DIR={folder}/spool\nTICKETD_TIME_ZONE=Europe/Budapest\nTICKETD_AUTH=none\n"
    folder.chmod(0o755)
    assert f"{folder}/spool" in run(installed, "spool", "status", file=settings).stdout
    assert "/nowhere/spool" in run(installed, "spool", "status", TICKETD_SPOOL_DIR="/nowhere/spool").stderr
    assert "those of Europe/Budapest" in run(installed, "check").stdout
    assert "those of UTC" in run(installed, "check", TICKETD_TIME_ZONE="").stdout


@pytest.mark.parametrize("line, said", [
    ("TICKETD_WRITER=1", "unknown setting"), ("S3cret", "line=2"), ("export TICKETD_TOKEN=S3cret", "line=2"), ("=S3cret", "line=2"),
])  # fmt: skip
def test_what_is_wrong_stops_it(installed, line, said):
    """With its name or line, and without a value that may be a secret."""
    done = run(installed, "spool", "status", file=f"TICKETD_SPOOL_DIR=/nowhere\n{line}\n")
    assert done.returncode == 2 and said in done.stderr and "S3cret" not in done.stdout + done.stderr


@ROOT_ONLY
def test_who_may_not_read_it(installed, folder):
    """Where the environment configures that is no error."""
    folder.chmod(0o755)
    run(installed, "fields", file="TICKETD_LOG_LEVEL=loud\n")
    file = installed / "etc/ticketd/ticketd.env"
    file.chmod(0o600)
    done = run(installed, "spool", "status")
    assert done.returncode == 2 and f"file={file} error=\"Permission denied\"" in done.stderr
    assert run(installed, "spool", "status", TICKETD_SPOOL_DIR=f"{folder}/spool").returncode == 0
    assert "PGHOST" not in run(installed, "migrate", PGHOST="/nowhere").stderr
    for command in "fields", "--help", "--version":
        assert run(installed, command).returncode == 0
    file.unlink()
    assert "TICKETD_SPOOL_DIR is not set" in run(installed, "spool", "status").stderr
    assert "TICKETD_SPOOL_DIR is not set" in run(installed, "spool", "status", file="", MALLOC_PERTURB_="190").stderr


@ROOT_ONLY
@pytest.mark.skipif(subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0,
                    reason="needs a mount namespace")
def test_root_becomes_the_services_user(installed, folder, cluster):
    """Not for migrate. The user is made for this process alone."""
    (folder / "passwd").write_text("root:x:0:0::/root:/bin/sh\nticketd:x:65431:65432::/:/bin/sh\n")
    (folder / "group").write_text("root:x:0:\nticketd:x:65432:\n")
    (folder / "spool").mkdir()
    os.chown(folder / "spool", 65431, 65432)
    folder.chmod(0o755)
    private = f"mount --bind {folder}/passwd /etc/passwd && mount --bind {folder}/group /etc/group && exec \"$@\""
    before = "unshare", "--mount", "sh", "-c", private, "sh"
    settings = f"TICKETD_SPOOL_DIR={folder}/spool\nTICKETD_DATABASE=\"{cluster.conninfo('none')}\"\n"
    done = run(installed, "spool", "status", file=settings, before=before)
    assert "takes more  yes" in done.stdout, done.stdout + done.stderr
    (installed / "etc/ticketd/ticketd.env").chmod(0o600)  # read before that
    assert "takes more  yes" in run(installed, "spool", "status", before=before).stdout
    assert 'does not exist' in run(installed, "migrate", before=before).stderr
    (installed / "etc/ticketd/ticketd.env").unlink()  # a program without an installation stays as it is
    assert "another user" in run(installed, "spool", "status", before=before, TICKETD_SPOOL_DIR=folder / "spool").stdout


def test_a_program_that_is_not_installed_has_no_file(installed):
    def head(program):
        return subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout

    assert f"\nsettings (environment variables, and lines of {installed}/etc/ticketd/ticketd.env):" in head(installed / "sbin/ticketd")
    assert "\nsettings (environment variables):" in head(TICKETD)
