"""A spool as ticketd 0.1.0 left it: NUMBER.segment files of records. handler/spool/old_format.c tells the format."""

import os
import struct
import time
import uuid
import zlib


def new_id(received_at):
    """A UUIDv7: none is smaller than the one before it."""
    new_id.last = max(received_at // 1000 << 16, new_id.last + 1)
    number = (new_id.last >> 16) << 80 | 7 << 76 | 2 << 62 | (new_id.last & 0xFFFF) << 40 | int.from_bytes(os.urandom(5), "big")
    return uuid.UUID(int=number)


new_id.last = 0


def record(marker, event, received_at, project, reason, body):
    reason = reason.encode()
    head = marker + event.bytes + struct.pack("<qqIII", received_at, project, len(reason), len(body), zlib.crc32(reason + body))
    return head + struct.pack("<I", zlib.crc32(head)) + reason + body


def write(folder, requests, rng):
    """Writes the requests into segments, as if they had been answered `spooled`; the last one ends in half a record."""
    number = 1
    while requests:
        count = rng.randrange(1, 200)
        part, requests, marker = requests[:count], requests[count:], os.urandom(8)
        content = b"ticketd spool 1\n" + marker
        for request in part:
            now = time.time_ns() // 1000
            event = new_id(now)
            refused = "" if request.key else "it was refused"
            content += record(marker, event, now, 0, refused, request.body)
            request.status, request.result, request.event = (200, "spooled", str(event)) if request.key else (422, "", "")
        if not requests:
            content += record(marker, new_id(now), now, 0, "", b'{"torn": 1}')[:-3]
        (folder / f"{number}.segment").write_bytes(content)
        (folder / f"{number}.segment").chmod(0o600)
        number += count
