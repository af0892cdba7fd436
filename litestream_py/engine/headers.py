"""A quick look at every file of a replica: its header and its end, by small ranged reads, and what these say together.

It shows a file that is cut off, empty, foreign or under a name that is not its own, and neighbours that do not join;
not a bit that flipped in a page.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.verdict import Problem
from litestream_py.engine.fetch import READ_POLICY, Patience
from litestream_py.engine.pool import Pool
from litestream_py.errors import LtxFormatError, NotFoundError, TransientNetworkError
from litestream_py.ltx.checks import check_name
from litestream_py.ltx.ids import TXID, FileName
from litestream_py.ltx.index import END_SIZE, check_end
from litestream_py.ltx.records import HEADER_SIZE, Header

WHOLE_BYTES: Final = 16 << 10
"""Up to this size a file is read as a whole: one request is dearer than that many bytes."""
_QUEUED_PER_THREAD: Final = 4

Look = Header | LtxFormatError | NotFoundError


def look_at_headers(
    client: ReplicaClient, files: Sequence[FileInfo], *, parallelism: int, advance: Callable[[int], None]
) -> Iterator[tuple[FileInfo, Look]]:
    """Yield each file with its header, or what is wrong with it, in the order of `files`.

    Raises what the client raises, TransientNetworkError only after repeated attempts.
    """
    patience = Patience(READ_POLICY, threading.Event().wait)
    pending: deque[tuple[FileInfo, Future[Look]]] = deque()
    with Pool(parallelism, "headers") as pool:
        for info in files:
            pending.append((info, pool.submit(partial(_look, client, info, patience))))
            if len(pending) >= _QUEUED_PER_THREAD * parallelism:
                yield _next(pending, advance)
        while pending:
            yield _next(pending, advance)


def _next(
    pending: deque[tuple[FileInfo, Future[Look]]], advance: Callable[[int], None]
) -> tuple[FileInfo, Look]:
    info, future = pending.popleft()
    look = future.result()
    advance(read_size(info))
    return info, look


def read_size(info: FileInfo) -> int:
    """Return how many bytes of a file are read for a look at it."""
    return info.size if info.size <= WHOLE_BYTES else HEADER_SIZE + END_SIZE


def _look(client: ReplicaClient, info: FileInfo, patience: Patience) -> Look:
    try:
        if info.size <= WHOLE_BYTES:
            head = tail = _read(client, info.name, 0, info.size, patience)
        else:
            head = _read(client, info.name, 0, HEADER_SIZE, patience)
            tail = _read(client, info.name, info.size - END_SIZE, END_SIZE, patience)
        header = Header.unpack(head)
        check_name(header, info.name)
        check_end(tail[-END_SIZE:], info.size)
    except (LtxFormatError, NotFoundError) as error:
        return error
    return header


def _read(client: ReplicaClient, name: FileName, offset: int, size: int, patience: Patience) -> bytes:
    failures = 0
    while True:
        try:
            data = client.read(name, offset=offset, size=size)
        except TransientNetworkError as error:
            failures += 1
            patience.pause(failures, error)
        else:
            if len(data) != size:
                raise LtxFormatError("truncated", f"the file ends at byte {offset + len(data)}, not where listed")
            return data


class HeaderChain:
    """What the headers of a replica say of each other; feed it in order of max TXID."""

    def __init__(self) -> None:
        self._page_size: tuple[int, FileName] | None = None
        self._claims: dict[int, tuple[int, FileName]] = {}

    def check(self, name: FileName, header: Header) -> Problem | None:
        """Return what is wrong between a file and those before it."""
        if self._page_size is None:
            self._page_size = (header.page_size, name)
        size, first = self._page_size
        if header.page_size != size:
            detail = f"pages of {header.page_size} bytes; in {first} they have {size}"
            return Problem("page-size-differs", detail, name, name.min_txid)
        if header.lsyn is None:
            return None
        sides = [("lsyn-after-wrong", int(name.max_txid), header.lsyn.after)]
        if header.lsyn.before:
            sides.insert(0, ("lsyn-before-wrong", name.min_txid - 1, header.lsyn.before))
        for reason, txid, claimed in sides:
            known, other = self._claims.setdefault(txid, (claimed, name))
            if known != claimed:
                detail = f"it says that the database at {TXID(txid)} is {claimed:016x}; {other} says {known:016x}"
                return Problem(reason, detail, name, name.min_txid)
        return None
