"""The application of the demo: moves money between accounts, one transaction each, on the `sqlite3` module.

``demo_app.py DB ACCOUNTS PAUSE_S`` makes the database and prints ``ready BYTES``. Then it commits without end, and
after each commit that SQLite acknowledged prints its number. Commands come as lines on standard input:

- ``copy PATH``: stop committing, write the database to PATH as a new reader sees it, page by page; prints ``copied N``,
  N being the number of the last commit;
- ``go``: commit on.
"""

from __future__ import annotations

import random
import select
import sqlite3
import sys
import time
from pathlib import Path

BALANCE = 1000
_SCHEMA = """
    CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance INTEGER NOT NULL);
    CREATE TABLE transfer (id INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER, note TEXT);
    CREATE INDEX transfer_source ON transfer (source);
"""


def create(path: str, accounts: int) -> sqlite3.Connection:
    """Make the database, in WAL mode, with a balance of `BALANCE` in every account."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(_SCHEMA)
    db.execute("BEGIN")
    owners = ((f"account holder {number}, {number * 7919 % 997} Main Street", BALANCE) for number in range(accounts))
    db.executemany("INSERT INTO account (owner, balance) VALUES (?, ?)", owners)
    db.execute("COMMIT")
    return db


def transfer(db: sqlite3.Connection, number: int, accounts: int, rng: random.Random) -> None:
    """Commit transfer `number`: two balances change, one row is added; the sum of all balances stays what it was."""
    source, target, amount = rng.randint(1, accounts), rng.randint(1, accounts), rng.randint(1, 100)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, source))
    db.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, target))
    note = f"transfer {number}: {amount} from {source} to {target}"
    db.execute("INSERT INTO transfer VALUES (?, ?, ?, ?, ?)", (number, source, target, amount, note))
    db.execute("COMMIT")


def tell(word: object) -> None:
    """Print one line at once."""
    print(word, flush=True)


def main(path: str, accounts: int, pause_s: float) -> None:
    """Run until killed, or until standard input ends."""
    db = create(path, accounts)
    tell(f"ready {len(db.serialize())}")
    rng = random.Random(1)
    number, working = 0, True
    while True:
        # Waiting for a command is the pause between two commits.
        if select.select([sys.stdin], [], [], 0 if working else None)[0]:
            command = sys.stdin.readline().split(maxsplit=1)
            if not command:
                return
            working = command[0] == "go"
            if command[0] == "copy":
                Path(command[1].rstrip("\n")).write_bytes(db.serialize())
                tell(f"copied {number}")
        elif working:
            number += 1
            transfer(db, number, accounts, rng)
            tell(number)
            time.sleep(pause_s)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
