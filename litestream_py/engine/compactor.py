"""Merge LTX files into one, newest page wins: a compaction, streamed to the replica.

Two passes, so that memory does not depend on the size of database or chain. The first decodes every input whole, which
verifies each of its checksums, and keeps for each frame its page number and place (12 bytes). The second reads the
winning frames in page order and copies their LZ4 blocks as they are; pages are only decompressed for the checksum.
Inputs that this machine still has are read here; others are fetched into a temporary file first. The output is decoded
again while it is being stored, and becomes visible only if it holds exactly the pages it must.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from litestream_py.core.oserrors import os_errors
from litestream_py.core.ports import FileInfo, ReplicaClient
from litestream_py.core.restore import DamagedFileError
from litestream_py.engine.fetch import fetch
from litestream_py.errors import ChainGapError, CorruptError, LtxFormatError, NotFoundError
from litestream_py.failpoints import declare, hit
from litestream_py.local.meta import MetaDir
from litestream_py.ltx.decoder import Decoder
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import FileName
from litestream_py.ltx.index import IndexEntry, decode_frame
from litestream_py.ltx.records import FRAME_HEAD_SIZE, HEADER_SIZE, PAGE_FLAG_SIZE, Header, RawFrame

BEFORE_PUT = declare("compact.before_put")
AFTER_PUT = declare("compact.after_put")

_READ_BYTES: Final = 256 << 10


class DamagedInputError(CorruptError):
    """An input that does not decode: `name` tells a new plan what to go around."""

    def __init__(self, name: FileName, source: str, cause: str) -> None:
        self.name = name
        super().__init__("compact", f"{source}: {name}", cause)


@dataclass(frozen=True, slots=True)
class Source:
    """One verified input: its header, and for each frame page number and size; `fd` reads the file."""

    name: FileName
    fd: int
    header: Header
    pgnos: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What a compaction stored. fetched_bytes: what had to be read from the replica."""

    name: FileName
    size: int
    pages: int
    timestamp_ms: int
    fetched_bytes: int


def compact(
    client: ReplicaClient,
    meta: MetaDir,
    inputs: Sequence[FileInfo],
    output: FileName,
    *,
    go_on: Callable[[], None] = lambda: None,
) -> Compacted:
    """Merge `inputs` (contiguous, oldest first) into `output` on the replica.

    go_on: called now and then; raises to end the work.

    A local copy that is damaged is passed over for the replica's. Raises DamagedInputError for an input that is damaged
    there, ChainGapError where two neighbours do not join, CorruptError where their page sizes differ, PreconditionError
    if the output exists, LsyncError; nothing becomes visible then. A crash leaves nothing but, on the store, parts of
    an upload that was never completed.
    """
    fetched = 0
    with ExitStack() as stack:
        sources = []
        for info in inputs:
            go_on()
            source = _local(client, meta, info, stack)
            if source is None:
                source = _verify(client, info, _spooled(client, meta, info, stack))
                fetched += info.size
            sources.append(source)
        header = _header(client, sources, output)
        winners = _winners(sources, header.commit)
        hit(BEFORE_PUT)
        encoded = encode(header, _frames(sources, winners, header.page_size))
        chunks = _checked(encoded, output, winners.pgnos, go_on)
        size = client.put_stream(output, chunks, timestamp_ms=header.timestamp_ms)
        hit(AFTER_PUT)
    return Compacted(
        name=output, size=size, pages=len(winners.pgnos), timestamp_ms=header.timestamp_ms, fetched_bytes=fetched
    )


def _local(client: ReplicaClient, meta: MetaDir, info: FileInfo, stack: ExitStack) -> Source | None:
    """Return an input that this machine still has, verified; None if it has to be fetched."""
    if info.name.level > 0:
        return None
    path = meta.l0_path(info.name)
    try:
        with os_errors("read", path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            if os.fstat(fd).st_size == info.size:
                return _verify(client, info, fd)
    except (NotFoundError, DamagedInputError):
        pass  # removed since it was replicated, or damaged since: the replica's copy may be sound
    return None


def _spooled(client: ReplicaClient, meta: MetaDir, info: FileInfo, stack: ExitStack) -> int:
    """Fetch an input into a temporary file without a name, and return its descriptor."""
    with os_errors("write", meta.path):
        spool = tempfile.TemporaryFile(dir=meta.path, prefix="compact-", suffix=".tmp")  # noqa: SIM115 - on the stack
        stack.enter_context(spool)
        try:
            for chunk in fetch(client, info):
                spool.write(chunk)
        except DamagedFileError as error:
            raise DamagedInputError(info.name, client.url, error.cause) from error
        spool.flush()
    return spool.fileno()


def _verify(client: ReplicaClient, info: FileInfo, fd: int) -> Source:
    """Decode a whole input; raises DamagedInputError."""
    decoder = Decoder(expect=info.name)
    try:
        for offset in range(0, info.size, _READ_BYTES):
            for _ in decoder.batches(os.pread(fd, min(_READ_BYTES, info.size - offset), offset)):
                pass
        decoder.finish()
    except LtxFormatError as error:
        raise DamagedInputError(info.name, client.url, f"{error.detail} [{error.reason}]") from error
    header = decoder.header
    if header is None:
        raise DamagedInputError(info.name, client.url, "the file ends inside its header")
    return Source(info.name, fd, header, _column(decoder.pgnos), _column(decoder.frame_sizes))


def _column(values: array[int]) -> npt.NDArray[np.uint32]:
    return np.array(values, dtype=np.uint32)


def _header(client: ReplicaClient, sources: Sequence[Source], output: FileName) -> Header:
    """Return the output's header; raises ChainGapError where two inputs do not join."""
    first, last = sources[0].header, sources[-1].header
    for before, after in pairwise(sources):
        one, two = before.header, after.header
        where = f"{client.url}: {after.name}"
        if two.min_txid != one.max_txid + 1:
            raise ChainGapError("compact", where, f"does not follow {before.name}")
        if two.page_size != one.page_size:
            raise CorruptError("compact", where, f"page size changes from {one.page_size} to {two.page_size}")
        if one.lsyn and two.lsyn and one.lsyn.after != two.lsyn.before:
            raise ChainGapError("compact", where, f"does not continue the database that {before.name} left")
    header = Header(
        page_size=last.page_size,
        commit=last.commit,
        min_txid=output.min_txid,
        max_txid=output.max_txid,
        timestamp_ms=last.timestamp_ms,
    )
    if first.lsyn and last.lsyn:
        header = header.with_lsyn(first.lsyn.before, last.lsyn.after)
    return header


@dataclass(frozen=True, slots=True)
class _Winners:
    """The newest frame of each page, ascending: page number, which source, offset and size there."""

    pgnos: npt.NDArray[np.uint32]
    sources: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.uint32]


def _winners(sources: Sequence[Source], commit: int) -> _Winners:
    pgnos = np.concatenate([source.pgnos for source in sources])
    sizes = np.concatenate([source.sizes for source in sources])
    origin = np.repeat(np.arange(len(sources), dtype=np.uint32), [len(source.pgnos) for source in sources])
    offsets = np.concatenate(
        [HEADER_SIZE + np.cumsum(source.sizes, dtype=np.int64) - source.sizes for source in sources]
    )
    unique, from_end = np.unique(pgnos[::-1], return_index=True)
    newest = (len(pgnos) - 1 - from_end)[unique <= commit]
    return _Winners(pgnos[newest], origin[newest], offsets[newest], sizes[newest])


def _frames(
    sources: Sequence[Source], winners: _Winners, page_size: int
) -> Iterator[tuple[int, bytes] | RawFrame]:
    fds = [source.fd for source in sources]
    columns = (winners.pgnos, winners.sources, winners.offsets, winners.sizes)
    for pgno, source, offset, size in zip(*(column.tolist() for column in columns), strict=True):
        frame = os.pread(fds[source], size, offset)
        page = decode_frame(frame, page_size, pgno, IndexEntry(offset, size))
        if int.from_bytes(frame[4:6], "big") == PAGE_FLAG_SIZE:
            yield RawFrame(pgno, page, frame[FRAME_HEAD_SIZE:])
        else:
            yield pgno, page  # a legacy frame: its block is made anew


def _checked(
    chunks: Iterator[bytes], output: FileName, pgnos: npt.NDArray[np.uint32], go_on: Callable[[], None]
) -> Iterator[bytes]:
    """Pass the output on, decoded once more; raises CorruptError before its end if it is not what it must be."""
    decoder = Decoder(expect=output)
    try:
        for chunk in chunks:
            go_on()
            for _ in decoder.batches(chunk):
                pass
            yield chunk
        decoder.finish()
    except LtxFormatError as error:
        raise CorruptError("compact", output, f"the output is wrong: {error.detail} [{error.reason}]") from error
    if not np.array_equal(_column(decoder.pgnos), pgnos):
        raise CorruptError("compact", output, "the output does not hold the pages of its inputs")
