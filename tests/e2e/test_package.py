"""What is packed: the sources, the licence, the version. tests/package builds the Debian package and installs it."""

import io
import re
import subprocess
import tarfile

import pytest

from conftest import ROOT, environment

VERSION = re.search(r"^VERSION *= *(\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]


def output(*command, **options):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, **options).stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="these are no sources in git")
def test_sources(tmp_path):
    """`make dist` packs what is committed, and the same bytes whoever does it."""
    made = []
    for name, umask in ("a", 0o077), ("b", 0o002):
        said = output("make", "-s", "dist", f"BUILD={tmp_path / name}", umask=umask,
                      env=environment(TZ="Asia/Tokyo" if name == "a" else "UTC"))  # fmt: skip
        made.append((tmp_path / name / said.strip().rpartition("/")[2]).read_bytes())
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as tar:
        packed = {member.name.partition("/")[2] for member in tar if member.isfile()}
        assert {member.name.partition("/")[0] for member in tar} == {f"ticketd-{VERSION}"}
    assert packed == set(output("git", "ls-tree", "-r", "--name-only", "HEAD").splitlines())


def test_the_copyright_is_the_licence():
    head, terms = (ROOT / "LICENSE").read_text().split("\n\n", 2)[1:]
    told = re.sub(r"^ \.$", "", (ROOT / "debian/copyright").read_text(), flags=re.MULTILINE).split()
    assert terms.split() == told[-len(terms.split()):]
    assert head == "Copyright (c) 2026 the ticketd authors" and head.split()[2:] == told[told.index("2026"):][:4]


def test_the_version_is_one():
    """The newest entry of CHANGELOG.md may be one that is not released."""
    assert re.match(r"ticketd \((.+?)\)", (ROOT / "debian/changelog").read_text())[1] == VERSION
    assert VERSION in re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[:2]
