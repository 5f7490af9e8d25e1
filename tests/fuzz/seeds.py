"""What the fuzz targets begin with, by target: valid inputs, and those that once found something. tests/data is event's."""

import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import fastcgi as fcgi


def padded(kind, content, padding):
    return struct.pack(">BBHHBB", 1, kind, 1, len(content), len(padding), 0) + content + padding


def smuggled_records():
    """A management record in padding that libfcgi does not skip: it overflowed its stack by that."""
    values = fcgi.pair("FCGI_MAX_CONNS", "") * 14
    hidden = struct.pack(">BBHHBB", 1, 9, 0, len(values), 0, 0) + values
    begin, params, body = fcgi.begin(), fcgi.params(2), fcgi.stream(fcgi.STDIN, b"{}")
    return [padded(fcgi.BEGIN, begin[8:], hidden) + params + body,
            begin + params[:-8] + padded(fcgi.PARAMS, b"", hidden) + body,
            begin + params + body[:-8] + padded(fcgi.STDIN, b"", hidden)]


SEEDS = {
    "event": [],
    "timestamp": [b"2024-02-15T15:46:46+01:00\n", b"2024-02-15 15:46:46.123456\n", b"1969-12-31T23:59:60,5Z\n",
                  b"2011-12-30T12:00\x03", b"2024-03-31 02:30:00\x01", b"0856-02-08*"],
    "query": [b"secret-key\na=1&secret%2Dkey=%41%6a%00&b", b"k\nk=v&%6b=w", b"\n"],
    "decrypt": [b"a=b&iv=00112233445566778899aabbccddeeff\nuVxOm6mQ1+8kKq/5y0b3Zg==", b"iv=0\n", b"\nAAAA"],
    "lines": [b"one\ntwo\r\n\r\nfour\x00\x00\x20", b"{}\n{}\r\n\x20\x00\x02", b"\r\r\n\xc0\xff\x00",
              b'[{"received_at": "2024-02-15", "event": {"a": [{}]}},\n{"event":1,"received_at":1}]\x00\x00\x80'],
    "records": [fcgi.request(b"{}"), fcgi.request(b"x" * 40000, flags=0, CONTENT_TYPE="y" * 200),
                fcgi.request(b"{}", length=None) + fcgi.request(b"[]"), *smuggled_records()],
}
