#!/usr/bin/python3
"""What does a large body cost PostgreSQL? The memory that one session needs at most for a call of vcc.apply_events, beyond what
it has when it begins, and how long the call takes, of bodies as large as TICKETD_MAX_BODY_KB may be.

    make bench BENCH_BODIES=1      or /usr/bin/python3 tests/bench/bodies.py

It takes half a minute."""

import pathlib
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

from cluster import Cluster  # noqa: E402

CALL = """SELECT result, detail FROM vcc.apply_events(
    event_id => %s::uuid[], received_at => ARRAY[now()], action => '{update}', project_id => '{1}', ticket_id => '{2}',
    payload => %s, extra_names => %s, description => %s)"""
HEAD = '{"action": "update", "ticket": {"projectId": 1, "ticketId": 2'


def bodies(size):
    """(what, body, the attribute without a column, description)"""
    numbers, text = "[" + ",".join(["1"] * (size // 2)) + "]", "x" * size
    yield "numbers", f'{HEAD}, "a": {numbers}}}}}', "{a}", None
    yield "numbers beside the ticket", f'{HEAD}}}, "a": {numbers}}}', None, None
    yield "text", f'{HEAD}, "a": "{text}"}}}}', "{a}", None
    yield "description", f'{HEAD}, "description": "{text}"}}}}', None, text


def peak(pid):
    """In MB."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main():
    print(f"{'a body of':10}  {'what':26} {'memory, MB':>10} {'seconds':>8}  result")
    with Cluster() as cluster:
        cluster.createdb("tickets")
        cluster.install_schema("tickets")
        for size in (1, 8):
            for what, body, name, description in bodies(size << 20):
                connection = cluster.connect("tickets")
                before, began = peak(connection.get_backend_pid()), time.monotonic()
                with connection.cursor() as cursor:
                    cursor.execute(CALL, ([str(uuid.uuid4())], [body], [name] if name else None, [description] if description else None))
                    result = ": ".join(filter(None, cursor.fetchone()))
                seconds = time.monotonic() - began
                print(f"{size} MB        {what:26} {peak(connection.get_backend_pid()) - before:10.0f} {seconds:8.2f}  {result}", flush=True)
                connection.close()


if __name__ == "__main__":
    main()
