"""What the compiler and the linker were asked for is in the binary."""

import os
import platform
import re
import resource
import shutil
import signal
import stat
import subprocess

import pytest
from conftest import TICKETD, accepts, environment, wait_until

pytestmark = pytest.mark.skipif(bool(re.search("san|coverage", TICKETD)), reason="this build is not what is installed")


FEATURES = re.compile(r"x86 feature:.*IBT.*SHSTK")


def readelf(*options, program=TICKETD):
    return subprocess.run(["readelf", "-W", *options, program], capture_output=True, text=True, check=True).stdout


def test_position_independent():
    assert re.search(r"Type:\s+DYN", readelf("-h"))
    assert re.search(r"FLAGS_1.*PIE", readelf("-d"))


def test_relocations_are_read_only_and_bound_at_start():
    assert "GNU_RELRO" in readelf("-l")
    assert re.search(r"FLAGS.*(BIND_NOW|NOW)", readelf("-d"))


def test_nothing_is_writable_and_executable():
    segments = re.findall(r"^\s+(LOAD|GNU_STACK)\s.*?\s([R ][W ][E ])\s", readelf("-l"), re.MULTILINE)
    assert len(segments) > 3 and all("WE" not in flags for _, flags in segments)


def test_stack_protector_and_fortified_calls():
    symbols = readelf("--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert len(set(re.findall(r"__\w+_chk@", symbols))) > 3


@pytest.mark.skipif(platform.machine() != "x86_64", reason="control-flow enforcement is a property of x86")
def test_control_flow_enforcement(folder):
    """Every object must have it, those that the C library links into each program too."""
    (folder / "empty.c").write_text("int main(void) { return 0; }")
    subprocess.run(["cc", "-fcf-protection", "-o", folder / "empty", folder / "empty.c"], check=True)
    if not FEATURES.search(readelf("-n", program=folder / "empty")):
        pytest.skip("this system's C library is built without control-flow enforcement")
    assert FEATURES.search(readelf("-n"))


def test_it_needs_little_and_nobody_lends_it_rights():
    needed = set(re.findall(r"NEEDED.*\[(\w+)", readelf("-d")))
    assert needed <= {"libfcgi", "libcjson", "libpq", "libcrypto", "libz", "libc", "libpthread", "libsqlite3"}, needed
    assert not os.stat(TICKETD).st_mode & (stat.S_ISUID | stat.S_ISGID)
    assert "RPATH" not in readelf("-d") and "RUNPATH" not in readelf("-d")


def crash(folder, *command, ready=lambda: True, **settings):
    """Lets a program crash where it may leave as large a core as the system allows. Returns the files that it left."""
    cwd = folder / "cwd"
    cwd.mkdir()
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    process = subprocess.Popen(command, cwd=cwd, env=environment(**settings), stderr=subprocess.DEVNULL,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)))  # fmt: skip
    try:
        wait_until(ready)
    finally:
        process.send_signal(signal.SIGSEGV)
        process.wait()
    left = [f.name for f in cwd.iterdir()]
    shutil.rmtree(cwd)
    return left


def test_a_crash_leaves_no_core(folder):
    if not crash(folder, "sleep", "60"):
        pytest.skip("this system leaves no core of any program in its folder")
    socket = str(folder / "s")
    settings = {"TICKETD_LISTEN": f"unix:{socket}", "TICKETD_TOKEN": "t" * 40, "TICKETD_DATABASE": f"host={folder}"}
    assert crash(folder, TICKETD, ready=lambda: accepts(socket), **settings) == []
