#!/usr/bin/python3
"""The commands of the documents, in the order in which they are written.

    tests/e2e/documents.py SCENE...    writes a script for bash that runs them one by one, for `make deb-check`

A block of commands is ```sh in Markdown; in the manual page and at the heads of files of web servers it is a line that
begins with "$ ". A comment right before a block may say

    <!-- not run: WHY -->           it cannot be run, and why
    <!-- run with: WORD -->         it is for one of several scenes: nginx or apache, package or source; or for upgrade

A ```text block behind one of commands is what they print; … stands for anything."""

import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Removing comes last.
MARKDOWN = [ROOT / name for name in (
    "README.md", "docs/events.md", "docs/dashboard.md", "docs/configuration.md", "docs/install-database.md",
    "docs/failover.md", "docs/citus.md", "docs/measured.md", "docs/scale.md", "docs/developing.md", "sql/README.md",
    "SECURITY.md", "CHANGELOG.md", "docs/operating.md")]  # fmt: skip
OTHERS = [ROOT / "handler/ticketd.8", *sorted((ROOT / "nginx").iterdir()), *sorted((ROOT / "contrib/apache").iterdir())]


class Block:
    def __init__(self, file, line, language, text, comments, after=None):
        self.place = f"{file.relative_to(ROOT)}:{line}"
        self.language, self.text = language, text
        self.not_run = " ".join(re.findall(r"<!-- not run: (.+?) -->", comments))
        self.scenes = set(re.findall(r"<!-- run with: (\w+) -->", comments))
        self.prints = None  # the text that it must print
        if language == "text" and after and after.language == "sh":
            after.prints = text


def markdown(file):
    """Every block of a document."""
    text, found = file.read_text(), []
    for match in re.finditer(r"((?:^<!-- [^\n]* -->\n)*)^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        between = text[found[-1].end:match.start()].strip() if found else "-"
        line = text.count("\n", 0, match.start(2)) + 2
        found.append(Block(file, line, match[2], match[3], match[1], None if between else found[-1]))
        found[-1].end = match.end()
    return found


def others(file):
    """Each line behind "$ " is a block."""
    scene = f"<!-- run with: {file.parent.name} -->" if file.suffix == ".conf" else ""
    return [Block(file, n, "sh", match[1].replace(r"\-", "-"), scene)
            for n, line in enumerate(file.read_text().splitlines(), 1) if (match := re.match(r"(?:# *)?\$ (.+)", line))]


def commands(text):
    """A block's commands, each as it would be entered."""
    command = ""
    for line in text.splitlines(True):
        command += line
        looked = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True)
        if not looked.returncode and not looked.stderr and not command.rstrip().endswith(("\\", "|", "&&")):
            if command.strip():
                yield command
            command = ""
    assert not command, f"incomplete: {command}"


def blocks():
    for file in MARKDOWN:
        if file.name == "operating.md":
            for other in OTHERS:
                yield from others(other)
        yield from markdown(file)


def pattern(text):
    """For [[ … == … ]]."""
    return "*".join(map(shlex.quote, text.strip().split("…")))


def script(scene):
    """Where there is no package the README leads to its replacement first."""
    for block in sorted(blocks(), key=lambda block: "source" not in block.scenes or "configuration" not in block.place):
        if block.language != "sh" or block.not_run or not block.scenes <= scene or "upgrade" in scene - block.scenes:
            continue
        print(': >"$printed"')
        for command in commands(block.text):
            print(f"run {block.place} {shlex.quote(command.strip())}")
        if block.prints is not None:
            print(f"prints {block.place} {shlex.quote(pattern(block.prints))}")


if __name__ == "__main__":
    script(set(sys.argv[1:]))
