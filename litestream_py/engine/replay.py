"""Every file of a replica decoded once, in the order in which the database came about: each state rebuilt and proven.

No page is kept: of each file its page numbers and their checksums (12 bytes a page) until it is verified as a whole,
of the database the same. Files are fetched in parallel; decoding is one thread's work.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from litestream_py.core.listing import is_base
from litestream_py.core.pagestate import FilePages, PageState
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.restore import DamagedFileError
from litestream_py.core.verdict import Problem
from litestream_py.engine.fetch import Fetcher
from litestream_py.errors import LtxFormatError, NotFoundError
from litestream_py.ltx.checksum import page_checksum
from litestream_py.ltx.decoder import Decoder
from litestream_py.ltx.ids import FileName

Read = FilePages | LtxFormatError | DamagedFileError | NotFoundError


@dataclass
class Replay:
    """What came of it. problems: in TXID order. vanished: files that were listed, and gone when they were read.

    proven: states that carried a checksum of the database to compare with.
    """

    state: PageState = field(default_factory=PageState)
    problems: list[Problem] = field(default_factory=list)
    vanished: set[FileName] = field(default_factory=set)
    proven: set[int] = field(default_factory=set)

    def take(self, info: FileInfo, read: Read) -> None:
        """Bring the state forward by one file, or compare it, or note what is wrong with it."""
        if isinstance(read, NotFoundError):
            self.vanished.add(info.name)
        elif isinstance(read, DamagedFileError):
            self._blame(info.name, "truncated", read.cause)
        elif isinstance(read, LtxFormatError):
            self._blame(info.name, read.reason, read.detail)
        else:
            try:
                self._place(read)
            except LtxFormatError as error:
                self._blame(info.name, error.reason, error.detail)

    def _place(self, file: FilePages) -> None:
        if self.state.continues(file.name):
            self.state.apply(file)
        elif self.state.txid == file.name.max_txid:
            self.state.compare(file)
        else:
            return  # nothing leads up to it: what the listing shows
        if file.header.lsyn is not None or file.header.tracks_checksum:
            self.proven.add(int(file.name.max_txid))

    def _blame(self, name: FileName, reason: str, detail: str) -> None:
        self.problems.append(Problem(reason, detail, name, name.min_txid))


def replay_order(files: Sequence[FileInfo]) -> list[FileInfo]:
    """Return the files by their ends; of several with one end the finest increment first, bases last.

    So the finest chain makes the states, and coarser files and snapshots are compared with it.
    """
    return sorted(files, key=lambda info: (info.name.max_txid, is_base(info), info.name.level, info.name.min_txid))


def replay(
    client: ReplicaClient, files: Sequence[FileInfo], *, parallelism: int, advance: Callable[[int], None]
) -> Replay:
    """Read and place every file, in `replay_order`; `advance` is told the bytes as they come.

    Raises what the client raises, TransientNetworkError only after repeated attempts.
    """
    result = Replay()
    for info, read in _read_all(client, files, parallelism, advance):
        result.take(info, read)
    return result


def _read_all(
    client: ReplicaClient, files: Sequence[FileInfo], parallelism: int, advance: Callable[[int], None]
) -> Iterator[tuple[FileInfo, Read]]:
    """Yield each file as it was read. A fetcher cannot go on behind a file that failed: the rest gets a new one."""
    at = 0
    while at < len(files):
        with Fetcher(client, files[at:], parallelism=parallelism) as fetcher:
            for info, chunks in fetcher:
                at += 1
                read = _read(info, chunks, advance)
                yield info, read
                if not isinstance(read, FilePages):
                    break


def _read(info: FileInfo, chunks: Iterator[bytes], advance: Callable[[int], None]) -> Read:
    decoder = Decoder(expect=info.name)
    sums = array("Q")
    try:
        for chunk in chunks:
            for pages in decoder.batches(chunk):
                sums.extend([page_checksum(pgno, page) for pgno, page in pages])
            advance(len(chunk))
        trailer = decoder.finish()
    except (LtxFormatError, DamagedFileError, NotFoundError) as error:
        return error
    header = decoder.header
    assert header is not None
    pgnos = np.frombuffer(decoder.pgnos, np.uintc) if decoder.pgnos else np.empty(0, np.uintc)
    return FilePages(info.name, header, trailer, pgnos.astype(np.uint32, copy=False), np.array(sums, np.uint64))
