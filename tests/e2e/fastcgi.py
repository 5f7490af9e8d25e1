"""A FastCGI client that can be as rude as it likes (FastCGI specification 1.0)."""

import json
import socket
import struct

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = 1, 2, 3, 4, 5, 6, 7
RESPONDER, AUTHORIZER = 1, 2
KEEP = 1


def record(kind, content=b"", request_id=1):
    padding = -len(content) % 8
    return struct.pack(">BBHHBB", 1, kind, request_id, len(content), padding, 0) + content + bytes(padding)


def stream(kind, content):
    pieces = [content[i:i + 65528] for i in range(0, len(content), 65528)]
    return b"".join(record(kind, p) for p in pieces) + record(kind)


def pair(name, value):
    def size(n):
        return bytes([n]) if n < 128 else struct.pack(">I", n | 0x80000000)
    name, value = name.encode(), value.encode()
    return size(len(name)) + size(len(value)) + name + value


def begin(role=RESPONDER, flags=KEEP):
    return record(BEGIN, struct.pack(">HB5x", role, flags))


def params(length, method="POST", uri="/vcc/tickets", **more):
    values = {"REQUEST_METHOD": method, "REQUEST_URI": uri, "QUERY_STRING": uri.partition("?")[2]}
    if length is not None:
        values["CONTENT_LENGTH"] = str(length)
    values.update(more)
    return stream(PARAMS, b"".join(pair(n, v) for n, v in values.items()))


def request(body, flags=KEEP, **values):
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    length = values.pop("length", len(body))
    return begin(flags=flags) + params(length, **values) + stream(STDIN, body)


class Connection:
    def __init__(self, address, timeout=15):
        """To a unix socket's path, or a host and a port."""
        if isinstance(address, tuple):
            self.socket = socket.create_connection(address, timeout)
            return
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(address)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def send(self, content):
        self.socket.sendall(content)

    def exactly(self, size):
        content = b""
        while len(content) < size:
            piece = self.socket.recv(size - len(content))
            if not piece:
                raise EOFError
            content += piece
        return content

    def answer(self):
        """The text of the next answer: header lines and body."""
        text = b""
        while True:
            _, kind, _, length, padding, _ = struct.unpack(">BBHHBB", self.exactly(8))
            content = self.exactly(length + padding)[:length]
            if kind == STDOUT:
                text += content
            elif kind == END:
                return text.decode()

    def is_closed(self):
        """Waits for the other side to close."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
