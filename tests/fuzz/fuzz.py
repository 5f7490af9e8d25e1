#!/usr/bin/python3
"""Runs each fuzz target for a while, two at a time, and says what came of it.

    fuzz.py FOLDER [SECONDS]

FOLDER holds the built targets, fuzz_NAME. What they found interesting stays in FOLDER/corpus/NAME and is where the next
run begins; an input that breaks something stays in FOLDER/crashes, and the exit status is 1 then."""

import concurrent.futures
import pathlib
import re
import subprocess
import sys

from seeds import SEEDS

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = pathlib.Path(sys.argv[1])
SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 60


def made(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def last(pattern, log):
    """The last match's group, or a question mark."""
    return (re.findall(pattern, log) or ["?"])[-1]


def run(name):
    """Runs one target. Whether it found nothing wrong."""
    seeds = made(FOLDER / "seeds" / name)
    for number, seed in enumerate(SEEDS[name]):
        (seeds / str(number)).write_bytes(seed)
    crashes = made(FOLDER / "crashes")
    dictionary = HERE / f"{name}.dict"
    command = [FOLDER / f"fuzz_{name}", f"-max_total_time={SECONDS}", "-timeout=10", "-print_final_stats=1",
               f"-artifact_prefix={crashes}/{name}-", *([f"-dict={dictionary}"] if dictionary.exists() else []),
               made(FOLDER / "corpus" / name), seeds, *([HERE.parent / "data"] if name == "event" else [])]
    log_path = FOLDER / f"{name}.log"
    with open(log_path, "wb") as file:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file).returncode
    log = log_path.read_text(errors="replace")
    executions = last(r"stat::number_of_executed_units: *(\d+)", log)
    cov, ft, corpus = (last(rf"{what}: (\d+)", log) for what in ("cov", "ft", "corp"))
    print(f"{name:10} {executions:>9} executions   cov {cov:>5}   ft {ft:>6}   corpus {corpus:>5}"
          f"   {'CRASH' if status else 'good'}", flush=True)
    if status:
        found = last(r"Test unit written to (\S+)", log)
        for line in re.findall(r".*(?:does not hold|ERROR: |runtime error: |\*\*\* ).*", log):
            print(f"    {line}")
        print(f"    see {log_path}; again: {FOLDER}/fuzz_{name} {found}", flush=True)
    return status == 0


with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
    good = list(pool.map(run, SEEDS))
sys.exit(0 if all(good) else 1)
