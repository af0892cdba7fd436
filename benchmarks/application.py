"""The application of the benchmarks, a program of its own on the `sqlite3` module (one SQLite library a process).

- ``build DB MIB``: make a sample database: orders as a shop has them, which LZ4 makes half as large;
- ``serve DB``: for each line ``N`` on standard input change N rows in one commit; answers the monotonic seconds when
  COMMIT returned;
- ``bulk DB MIB MIB_S``: rewrite random rows in commits of 16 pages, hardly ever the same page twice; MIB mebibytes of
  WAL in all at that pace (0: as fast as it goes), no autocheckpoint;
- ``append DB MIB MIB_S``: the same amount in commits of one inserted row, which write the same page again and again;
- ``top DB SECONDS SYNCHRONOUS``: commit single inserts as fast as it goes, default autocheckpoint;
- ``paced DB SECONDS RATE SYNCHRONOUS``: commit single inserts at that rate.

The last four answer one JSON object.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time
from collections.abc import Callable

WORDS = [
    "north", "south", "east", "west", "order", "shipment", "return", "invoice", "paid", "open", "express",
    "standard", "fragile", "gift", "customer", "street", "road", "avenue", "blue", "green", "red", "large",
    "small", "medium", "steel", "cotton", "leather", "paper", "glass", "wood", "lamp", "chair", "table", "cup",
    "plate", "bottle",
]  # fmt: skip
PHRASES = [" ".join(random.Random(seed).choices(WORDS, k=5)) for seed in range(60)]
_BASE_MIB = 32
_ROW_BYTES = 250
_FRAME_BYTES = 4120


def connect(path: str) -> sqlite3.Connection:
    """Open the database in autocommit mode."""
    return sqlite3.connect(path, isolation_level=None, timeout=30)


def order(rng: random.Random, number: int) -> tuple[object, ...]:
    """Return one row without its id."""
    text = "; ".join(rng.choices(PHRASES, k=5))
    tag = f"{rng.getrandbits(64):016x}"
    cents = rng.randrange(1, 100_000)
    return number * 7 % 100_003, 1_700_000_000 + number * 13, cents, tag, text, f'{{"n":{number}}}'


def build(path: str, mib: int) -> None:
    """Make the database and leave it in WAL mode, checkpointed."""
    db = connect(path)
    db.execute("PRAGMA page_size = 4096")
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    db.execute(
        'CREATE TABLE "order" (id INTEGER PRIMARY KEY, customer INT, at INT, cents INT, tag TEXT, text TEXT, more TEXT)'
    )
    db.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, at REAL, text TEXT)")
    rng = random.Random(1)
    wanted = mib << 20
    columns = "customer, at, cents, tag, text, more"
    insert = f'INSERT INTO "order" ({columns}) VALUES (?, ?, ?, ?, ?, ?)'
    db.execute("BEGIN")
    base = min(mib, _BASE_MIB) << 20
    number = 0
    while size(db) < base:
        count = max(100, min(5000, (base - size(db)) // _ROW_BYTES))
        db.executemany(insert, [order(rng, number + i) for i in range(count)])
        number += count
    db.execute("COMMIT")
    while size(db) < wanted:
        limit = max(1, min(number, int(number * (wanted - size(db)) / max(base, 1))))
        db.execute(f'INSERT INTO "order" ({columns}) SELECT {columns} FROM "order" WHERE id <= ?', (limit,))
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


def size(db: sqlite3.Connection) -> int:
    """Return the size of the database in bytes."""
    pages: int = db.execute("PRAGMA page_count").fetchone()[0]
    return pages * 4096


def change(db: sqlite3.Connection, rng: random.Random, rows: int, count: int) -> None:
    """Rewrite `count` random rows in one commit; each is on a page of its own, most likely."""
    db.execute("BEGIN IMMEDIATE")
    for _ in range(count):
        fresh = order(rng, rng.randrange(rows))
        db.execute(
            'UPDATE "order" SET cents = ?, tag = ?, text = ? WHERE id = ?', (*fresh[2:5], rng.randrange(1, rows + 1))
        )
    db.execute("COMMIT")


def serve(path: str) -> None:
    """Answer commits until standard input ends."""
    db = connect(path)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    (rows,) = db.execute('SELECT max(id) FROM "order"').fetchone()
    rng = random.Random(time.time_ns())  # the same content again would be a commit that writes nothing
    for line in sys.stdin:
        change(db, rng, rows, int(line))
        print(time.monotonic(), flush=True)


def bulk(path: str, mib: float, mib_s: float) -> dict[str, float]:
    """Fill `mib` mebibytes of WAL."""
    db = connect(path)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("PRAGMA synchronous = NORMAL")
    (rows,) = db.execute('SELECT max(id) FROM "order"').fetchone()
    rng = random.Random(time.time_ns())
    return at_pace(lambda _: change(db, rng, rows, 16), 16 * _FRAME_BYTES, mib, mib_s)


def append(path: str, mib: float, mib_s: float) -> dict[str, float]:
    """Fill at least `mib` mebibytes of WAL with small commits."""
    db = connect(path)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("PRAGMA synchronous = NORMAL")
    return at_pace(lambda number: insert(db, number), _FRAME_BYTES, mib, mib_s)


def at_pace(commit: Callable[[int], None], commit_bytes: int, mib: float, mib_s: float) -> dict[str, float]:
    """Commit until `mib` mebibytes are written, `mib_s` a second (0: without a pause)."""
    commits = int(mib * (1 << 20) / commit_bytes)
    started_s = time.monotonic()
    for number in range(commits):
        if mib_s:
            ahead_s = number * commit_bytes / (mib_s * (1 << 20)) - (time.monotonic() - started_s)
            if ahead_s > 0.001:
                time.sleep(ahead_s)
        commit(number)
    return {"commits": commits, "seconds": time.monotonic() - started_s}


def insert(db: sqlite3.Connection, number: int) -> None:
    """Commit one row of some 100 bytes."""
    text = f"event {number}: {WORDS[number % len(WORDS)]} of customer {number * 7919 % 100_003}, paid in full"
    db.execute("INSERT INTO event (at, text) VALUES (?, ?)", (time.time(), text))


def top(path: str, seconds: float, synchronous: str) -> dict[str, float]:
    """Commit as fast as it goes."""
    db = connect(path)
    db.execute(f"PRAGMA synchronous = {synchronous}")
    started_s = now_s = time.monotonic()
    slowest_s, count = 0.0, 0
    while now_s - started_s < seconds:
        insert(db, count)
        before_s, now_s = now_s, time.monotonic()
        slowest_s = max(slowest_s, now_s - before_s)
        count += 1
    return {"rate": count / (now_s - started_s), "slowest_ms": slowest_s * 1e3}


def paced(path: str, seconds: float, rate: float, synchronous: str) -> dict[str, object]:
    """Commit at a steady rate; a late commit does not make the next ones early."""
    db = connect(path)
    db.execute(f"PRAGMA synchronous = {synchronous}")
    times_ms = []
    due_s = time.monotonic()
    for number in range(int(seconds * rate)):
        time.sleep(max(0.0, due_s - time.monotonic()))
        started_s = time.perf_counter()
        insert(db, number)
        times_ms.append((time.perf_counter() - started_s) * 1e3)
        due_s = max(due_s + 1 / rate, time.monotonic())
    return {"times_ms": times_ms}


def main(what: str, path: str, *rest: str) -> None:
    """Do what the command line says."""
    if what == "build":
        build(path, int(rest[0]))
    elif what == "serve":
        serve(path)
    else:
        measured: dict[str, Callable[[], object]] = {
            "bulk": lambda: bulk(path, float(rest[0]), float(rest[1])),
            "append": lambda: append(path, float(rest[0]), float(rest[1])),
            "top": lambda: top(path, float(rest[0]), rest[1]),
            "paced": lambda: paced(path, float(rest[0]), float(rest[1]), rest[2]),
        }
        print(json.dumps(measured[what]()))


if __name__ == "__main__":
    main(*sys.argv[1:])
