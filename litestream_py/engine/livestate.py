"""The database on this machine, as lsync's own state knows it: for a comparison that never opens the database.

`pages.crc` holds the checksum of each page as of the TXID of `position.json`. Both are read without the lock, so a
daemon may be running: what it changes meanwhile shows in TXID or XOR, and then nothing is compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from litestream_py.core.pagestate import PageState
from litestream_py.core.verdict import Problem
from litestream_py.local.meta import MetaDir
from litestream_py.local.pagesums import PageSums
from litestream_py.ltx.checksum import CHECKSUM_FLAG

_BLOCK_PAGES = 1 << 16
EQUAL = "equal"


def compare_live(meta_path: Path, state: PageState) -> tuple[str, Problem | None]:
    """Compare a rebuilt state with the local one; returns what came of it in words, and a problem if they differ.

    Raises LocalIOError, AccessDeniedError.
    """
    meta = MetaDir(meta_path)
    record = meta.read_position()
    sums = PageSums.open(meta.pages_crc, read_only=True)
    if sums is None or record is None:
        if sums is not None:
            sums.close()
        return f"not compared: no local state in {meta_path}", None
    try:
        if record.txid != state.txid or sums.txid != state.txid:
            busy = ", a running daemon is ahead" if record.txid > state.txid else ""
            return f"not compared: the database is at TXID {record.txid}, the replica at {state.txid}{busy}", None
        if (sums.commit, sums.page_size) != (state.commit, state.page_size):
            detail = f"{state.commit} pages of {state.page_size} bytes; locally {sums.commit} of {sums.page_size}"
            return _differs(detail, state)
        total, pgno = _first_difference(sums, state)
    finally:
        sums.close()
    if total != record.database_checksum:
        return "not compared: the local state is being changed, or not whole", None
    return (EQUAL, None) if pgno is None else _differs(f"page {pgno} is not what the replica has", state)


def _differs(detail: str, state: PageState) -> tuple[str, Problem]:
    return "differs", Problem("live-differs", f"the database at TXID {state.txid}: {detail}", None, state.txid)


def _first_difference(sums: PageSums, state: PageState) -> tuple[int, int | None]:
    """Return the XOR of the local page checksums, and the first page whose checksum is another one."""
    total, found = 0, None
    for first in range(1, state.commit + 1, _BLOCK_PAGES):
        count = min(_BLOCK_PAGES, state.commit + 1 - first)
        local = sums.read_range(first, count)
        total ^= int(np.bitwise_xor.reduce(local, initial=np.uint64(0)))
        differs = np.flatnonzero(local != state.page_sums(first, count))
        if found is None and len(differs):
            found = first + int(differs[0])
    return total | CHECKSUM_FLAG, found
