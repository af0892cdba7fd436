"""Putting a database together from the files of a chain, newest first, so that each page is written once.

What is checked, file by file, before anything is believed:

1. Every file decodes completely, also where all its pages are overridden: checksum, page index, the TXIDs of its name.
2. All files have one page size.
3. Growth: where a file's commit is larger than the commit before it, the file holds every page in between. Without
   this rule a page that a shrink dropped and that came back could be filled from before the shrink. The first file of
   the chain grows from nothing, so it must hold all pages.
4. Neighbours that carry database checksums (``LSYN``, design section 6) agree: after of the older, before of the newer.
5. The newest file's checksum after, where it carries one, is the XOR of the page checksums of what was written.
6. Every page from 1 to the newest commit was written, but for the lock page.

Memory: one byte per page of the database, the decoder's for one file, and the page numbers of the file before. A commit
field that lies cannot raise it: a database of n pages cannot come from fewer than FRAME_BYTES_MIN * n bytes of files,
and such a commit is refused before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from litestream_py.core.ports import FileInfo
from litestream_py.core.restore import DamagedFileError
from litestream_py.errors import CorruptError, FormatError
from litestream_py.ltx.checks import check_growth
from litestream_py.ltx.checksum import CHECKSUM_FLAG, page_checksum
from litestream_py.ltx.decoder import Decoder
from litestream_py.ltx.ids import FileName, lock_pgno
from litestream_py.ltx.records import Header

FRAME_BYTES_MIN: Final = 16
"""A page frame is 10 bytes of header and a block; no block of 512 bytes or more is shorter than 6."""


class Sink(Protocol):
    """Where the pages go."""

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        """Write the buffers one after the other, from byte `offset`."""


class Assembly:
    """Writes the newest version of every page to `sink`; feed it the files of a plan from the newest to the oldest.

    source: the replica's name in errors. chain_bytes: size of all files of the plan.
    """

    def __init__(self, sink: Sink, *, source: str, chain_bytes: int) -> None:
        self.page_size = 0
        self.commit = 0
        self.timestamp_ms = 0
        self.checksum: int | None = None
        """The database checksum that the newest file carries, if any; proven once `finish` has returned."""
        self._sink = sink
        self._source = source
        self._chain_bytes = chain_bytes
        self._lock_pgno = 0
        self._written = bytearray()
        self._pages_written = 0
        self._sum = 0
        self._newer: _Decoded | None = None

    def add(self, info: FileInfo, chunks: Iterable[bytes]) -> None:
        """Decode one file completely and write those of its pages that no newer file has.

        Raises DamagedFileError naming the file to blame, CorruptError where two files contradict each other.
        """
        try:
            file = self._decode(info, chunks)
        except FormatError as error:
            raise self._damaged(info.name, error) from error
        if self._newer is not None:
            self._check_growth(self._newer, file.header.commit)
            self._check_neighbours(self._newer, file)
        self._newer = file

    def finish(self) -> None:
        """Check that the pages written are the whole database, by their number and by its checksum.

        Raises DamagedFileError if the oldest file lacks pages, CorruptError if the database does not come together.
        """
        if self._newer is None:
            raise CorruptError("restore", self._source, "no file was read")
        self._check_growth(self._newer, 0)
        wanted = self.commit - (1 if self._lock_pgno <= self.commit else 0)
        if self._pages_written != wanted:
            cause = f"{wanted - self._pages_written} pages of {wanted} are in none of the files"
            raise CorruptError("restore", self._source, cause)
        if self.checksum is not None and (self._sum | CHECKSUM_FLAG) != self.checksum:
            cause = f"the database's checksum is {self._sum | CHECKSUM_FLAG:016x}, the chain says {self.checksum:016x}"
            raise CorruptError("restore", self._source, cause, hint="restore an earlier --txid, and report this")

    def _decode(self, info: FileInfo, chunks: Iterable[bytes]) -> _Decoded:
        decoder = Decoder(expect=info.name)
        begun = False
        for chunk in chunks:
            for pages in decoder.batches(chunk):
                if not begun and decoder.header is not None:
                    self._begin(info, decoder.header)
                    begun = True
                self._take(pages)
        decoder.finish()
        assert decoder.header is not None
        if not begun:  # a file without pages
            self._begin(info, decoder.header)
        return _Decoded(info.name, decoder.header, decoder.pgnos)

    def _begin(self, info: FileInfo, header: Header) -> None:
        if self._newer is not None:
            if header.page_size != self.page_size:
                cause = f"page size {header.page_size} in {info.name}, {self.page_size} in {self._newer.name}"
                raise CorruptError("restore", self._source, cause)
            return
        if header.commit * FRAME_BYTES_MIN > self._chain_bytes + FRAME_BYTES_MIN:
            cause = f"commit {header.commit} is more pages than {self._chain_bytes} bytes of files can hold"
            raise DamagedFileError(info.name, self._source, f"{cause} [commit-beyond-chain]")
        self.page_size = header.page_size
        self.commit = header.commit
        self.timestamp_ms = header.timestamp_ms
        self.checksum = header.lsyn.after if header.lsyn is not None else None
        self._lock_pgno = lock_pgno(header.page_size)
        self._written = bytearray(header.commit + 1)

    def _take(self, pages: Sequence[tuple[int, bytes]]) -> None:
        """Write those pages that are not written yet, runs of neighbours with one call."""
        written, commit, page_size = self._written, self.commit, self.page_size
        run: list[bytes] = []
        start = end = 0
        taken = total = 0
        proving = self.checksum is not None
        for pgno, page in pages:
            if pgno > commit or written[pgno]:
                continue
            written[pgno] = 1
            taken += 1
            if proving:
                total ^= page_checksum(pgno, page)
            if pgno != end:
                if run:
                    self._sink.write((start - 1) * page_size, run)
                run = []
                start = pgno
            run.append(page)
            end = pgno + 1
        if run:
            self._sink.write((start - 1) * page_size, run)
        self._pages_written += taken
        self._sum ^= total

    def _check_growth(self, newer: _Decoded, commit_before: int) -> None:
        try:
            check_growth(newer.header, newer.pgnos, commit_before)
        except FormatError as error:
            raise self._damaged(newer.name, error) from error

    def _damaged(self, name: FileName, error: FormatError) -> DamagedFileError:
        return DamagedFileError(name, self._source, f"{error.detail} [{error.reason}]")

    def _check_neighbours(self, newer: _Decoded, older: _Decoded) -> None:
        ours, theirs = older.header.lsyn, newer.header.lsyn
        if ours is None or theirs is None or older.name.max_txid + 1 != newer.name.min_txid:
            return
        if ours.after != theirs.before:
            cause = f"{older.name} ends with database checksum {ours.after:016x}, "
            cause += f"{newer.name} begins with {theirs.before:016x}"
            hint = "two writers may have used this replica; restore a --txid up to the first of the two"
            raise CorruptError("restore", self._source, cause, hint=hint)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A file that decoded well; the next one, older, tells from which commit it grew."""

    name: FileName
    header: Header
    pgnos: Sequence[int]
