"""The Debian package: that it is built without complaint, and what is in it. tests/package installs it."""

import io
import re
import shutil
import subprocess
import tarfile
import tempfile

import pytest

from conftest import ROOT, environment

VERSION = re.search(r"^VERSION *= *(\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def package():
    """What tools/deb builds, which fails where lintian finds an error or a warning."""
    folder = tempfile.mkdtemp(prefix="ticketd-deb-")
    try:
        built = subprocess.run([ROOT / "tools/deb", folder], capture_output=True, text=True, env=environment())
        assert built.returncode == 0, built.stdout + built.stderr
        yield built.stdout.split()[-1]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_files(package):
    listed = re.findall(r" \./(.*[^/\n])$", output("dpkg-deb", "-c", package), re.MULTILINE)
    for name in ("usr/sbin/ticketd", "lib/systemd/system/ticketd.service", "lib/systemd/system/ticketd.socket",
                 "usr/lib/sysusers.d/ticketd.conf", "usr/share/ticketd/apache/ticketd-away.asis", "usr/share/doc/ticketd/copyright"):
        assert name in listed
    for folder, source in ("sql/optional", "sql/optional"), ("patroni", "contrib/patroni"):
        ours = {f.name for f in (ROOT / source).iterdir() if f.is_file()}
        assert ours == {n.rpartition("/")[2] for n in listed if n.rpartition("/")[0] == f"usr/share/ticketd/{folder}"}
    assert {n.rpartition("/")[2] for n in listed if n.rpartition("/")[0] == "usr/share/ticketd/sql"} == {"README.md", "citus.sql"}
    assert any(re.match(r"usr/share/doc/ticketd/docs/install-database\.md(\.gz)?$", name) for name in listed)
    assert not [name for name in listed if "local/" in name or not re.match("(usr|lib|etc)/", name)]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="these are no sources in git")
def test_sources(tmp_path):
    """`make dist` packs what is committed, and the same bytes whoever does it."""
    made = []
    for name, umask in ("a", 0o077), ("b", 0o002):
        done = subprocess.run(["make", "-s", "dist", f"BUILD={tmp_path / name}"], cwd=ROOT, umask=umask, capture_output=True, text=True,
                              env=environment(TZ="Asia/Tokyo" if name == "a" else "UTC"), check=True)  # fmt: skip
        made.append((tmp_path / name / done.stdout.strip().rpartition("/")[2]).read_bytes())
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as tar:
        packed = {member.name.partition("/")[2] for member in tar if member.isfile()}
        assert {member.name.partition("/")[0] for member in tar} == {f"ticketd-{VERSION}"}
    assert packed == set(output("git", "-C", ROOT, "ls-tree", "-r", "--name-only", "HEAD").split("\n")[:-1])


def test_the_copyright_is_the_licence():
    head, terms = (ROOT / "LICENSE").read_text().split("\n\n", 2)[1:]
    told = re.sub(r"^ \.$", "", (ROOT / "debian/copyright").read_text(), flags=re.MULTILINE).split()
    assert terms.split() == told[-len(terms.split()):]
    assert head == "Copyright (c) 2026 the ticketd authors" and head.split()[2:] == told[told.index("2026"):][:4]


def test_conffiles_and_version(package, tmp_path):
    output("dpkg-deb", "-e", package, tmp_path)
    apache = (f"apache2/conf-available/{file.name}" for file in (ROOT / "contrib/apache").glob("*.conf"))
    edited = "ticketd/ticketd.env", "nginx/snippets/ticketd.conf", "nginx/conf.d/ticketd.conf", *apache
    assert sorted((tmp_path / "conffiles").read_text().split()) == sorted(f"/etc/{name}" for name in edited)
    assert output("dpkg-deb", "-f", package, "Version").strip() == VERSION


def test_units_of_the_package(package, tmp_path):
    output("dpkg-deb", "-x", package, tmp_path)
    service = (tmp_path / "lib/systemd/system/ticketd.service").read_text()
    assert "\nExecStart=/usr/sbin/ticketd serve\n" in service
    assert "\nConditionPathExists=/etc/ticketd/token\n" in service
    assert output(tmp_path / "usr/sbin/ticketd", "--version")


def test_an_upgrade_leaves_the_socket_alone(package, tmp_path):
    output("dpkg-deb", "-e", package, tmp_path)
    postinst = (tmp_path / "postinst").read_text()
    assert "deb-systemd-invoke start 'ticketd.socket'" in postinst
    assert "restart 'ticketd.socket'" not in postinst and "_dh_action 'ticketd.service'" in postinst
    assert "systemd" not in (tmp_path / "preinst").read_text()
    assert "stop 'ticketd.socket'" in (tmp_path / "prerm").read_text()
