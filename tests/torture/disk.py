"""What the disk has of files after a power cut, by the log that faults.c keeps, and what else may become of them."""

import pathlib
import sqlite3

SECTOR = 512
PAGE = 4096


class File:
    def __init__(self):
        self.durable = bytearray()
        self.pending = []  # (place in the log, offset, bytes; None: cut there)

    def apply(self, offset, content):
        if content is None:
            del self.durable[offset:]
            self.durable.extend(bytes(offset - len(self.durable)))
        else:
            self.durable.extend(bytes(max(0, offset + len(content) - len(self.durable))))
            self.durable[offset:offset + len(content)] = content

    def sync(self, until):
        for place, *change in self.pending:
            if place < until:
                self.apply(*change)
        self.pending = [change for change in self.pending if change[0] >= until]

    def cut(self, rng):
        """Of what was not synchronised each sector came to the disk, did not, or is garbage. Returns the bytes lost."""
        share, lost = rng.choice([0, 0.5, 0.9, 1]), 0
        for _, offset, content in self.pending:
            if content is None:
                if rng.random() < share:
                    self.apply(offset, None)
                continue
            for at in range(0, len(content), SECTOR):
                sector = content[at:at + SECTOR]
                if rng.random() < share:
                    self.apply(offset + at, sector)
                elif rng.random() < 0.2:
                    self.apply(offset + at, rng.randbytes(len(sector)))
                    lost += len(sector)
                else:
                    lost += len(sector)
        return lost


def cut_power(log, folder, rng):
    """Makes of the folder's databases what the disk has of them. Returns the bytes lost."""
    content = log.read_bytes() if log.exists() else b""
    files, made, removed, lost, at = {}, set(), {}, 0, 0
    while (end := content.find(b"\n", at)) >= 0:
        place = at
        call, path, offset, length = content[at:end].decode().split(" ")
        offset, at = int(offset), end + 1 + int(length)
        if call == "sync" and path == str(folder):
            made.clear()
            removed.clear()  # their names are on the disk now, or are not
        elif call == "sync" and path in files:
            files[path].sync(offset)
        elif call == "make":
            files[path] = File()
            made.add(path)
        elif call == "unlink":
            if path in files and path not in made:
                removed[path] = files[path]
            files.pop(path, None)
            made.discard(path)
        elif call == "write":
            files.setdefault(path, File()).pending.append((place, offset, content[end + 1:at]))
        elif call == "cut":
            files.setdefault(path, File()).pending.append((place, offset, None))
    for path, file in removed.items():
        if path not in files and rng.random() < 0.5:
            files[path] = file
    for path in folder.glob("spool.db*"):
        path.unlink()
    for path, file in files.items():
        path = pathlib.Path(path)
        if not path.name.startswith("spool.db") or path.name.endswith("-shm") or (str(path) in made and rng.random() < 0.5):
            continue
        lost += file.cut(rng)
        path.write_bytes(file.durable)
    return lost


def checkpoint(file):
    """Brings all of the -wal into the database."""
    db = sqlite3.connect(file)
    assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    db.close()


def damage(file, rng):
    """Overwrites the head of a page in the middle, one that holds rows of a table or an index. Returns its bytes before."""
    content = bytearray(file.read_bytes())
    pages = [at for at in range(PAGE, len(content), PAGE) if content[at] in (0x0A, 0x0D)]
    at = rng.choice(pages)
    before = bytes(content[at:at + PAGE])
    content[at:at + 16] = rng.randbytes(16)
    file.write_bytes(content)
    return before
