"""Derive the local chain from disk: newest L0, `pages.crc` rolled forward to it, `position.json` where it agrees.

The L0 directory is the truth. A crash between publishing an L0 and bringing the page checksums up to it is rolled
forward here; whatever does not prove itself (a damaged L0, page checksums whose XOR is not the `LSYN` after of their
TXID) means that the local state is lost: then the chain is rebuilt from the replica, or begun anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from litestream_py.core.continuity import LocalChain
from litestream_py.core.oserrors import os_errors
from litestream_py.core.position import PositionRecord, WalPosition
from litestream_py.errors import CorruptError, LtxFormatError
from litestream_py.local.meta import MetaDir
from litestream_py.local.pagesums import PageSums
from litestream_py.ltx.checksum import page_checksum
from litestream_py.ltx.decoder import Decoder
from litestream_py.ltx.ids import FileName
from litestream_py.ltx.records import HEADER_SIZE, Header
from litestream_py.wal.records import WAL_HEADER_SIZE

_CHUNK_BYTES = 1 << 20


def load_chain(meta: MetaDir) -> tuple[LocalChain, PageSums] | None:
    """Return the local chain and its page checksums, or None where there is none that proves itself."""
    sums = PageSums.open(meta.pages_crc)
    if sums is not None:
        found = _prove(meta, sums)
        if found is not None:
            return found
    sums = _rebuild(meta)
    return None if sums is None else _prove(meta, sums)


def _prove(meta: MetaDir, sums: PageSums) -> tuple[LocalChain, PageSums] | None:
    """Return the chain that the page checksums, rolled forward, are those of; else close them."""
    try:
        chain = _newest(meta, sums)
        same = chain is not None and (sums.txid, sums.commit, sums.page_size) == (
            chain.txid,
            chain.commit,
            chain.page_size,
        )
        if chain is not None and same and sums.checksum() == chain.database_checksum:
            return chain, sums
    except BaseException:
        sums.close()
        raise
    sums.close()
    return None


def _rebuild(meta: MetaDir) -> PageSums | None:
    """Compute the page checksums anew from the local log, where it begins with the first snapshot.

    So a chain that no replica has seen yet survives the loss of `pages.crc` in a power failure.
    """
    files = [name for name, _ in meta.list_l0()]
    if not files or files[0].min_txid != 1:
        return None
    sums = PageSums.create(meta.pages_crc.with_name("pages.crc.tmp"), 0)
    try:
        for name in files:
            sums.page_size = apply_file(sums, name, read_file(meta.l0_path(name))).page_size
        sums.stamp(files[-1].max_txid, sums.commit)
        sums.replace_into(meta.pages_crc)
    except LtxFormatError:
        sums.discard()
        return None
    except BaseException:
        sums.discard()
        raise
    return sums


def _newest(meta: MetaDir, sums: PageSums) -> LocalChain | None:
    record = meta.read_position()
    files = [name for name, _ in meta.list_l0()]
    if not files:
        # A replica taken over without any difference has no local L0 yet; position.json stands for it.
        return None if record is None else _from_record(record, timestamp_ms=0)
    newest = files[-1]
    try:
        with os_errors("read", meta.l0_path(newest)), meta.l0_path(newest).open("rb") as file:
            header = Header.unpack(file.read(HEADER_SIZE))
        _roll_forward(meta, sums, files)
    except LtxFormatError:
        return None
    if header.lsyn is None:
        return None
    if record is not None and record.txid == newest.max_txid and record.database_checksum == header.lsyn.after:
        return _from_record(record, timestamp_ms=header.timestamp_ms)
    from_wal = header.wal_size > 0 and header.wal_offset >= WAL_HEADER_SIZE
    position = WalPosition(
        (header.wal_salt1, header.wal_salt2), header.wal_offset + header.wal_size, (0, 0)
    )
    return LocalChain(
        txid=newest.max_txid,
        database_checksum=header.lsyn.after,
        page_size=header.page_size,
        commit=header.commit,
        wal=position if from_wal else None,
        # Recorded before this L0, and so before the file could have been written to unseen.
        file=record.file if record is not None else None,
        file_complete=False,
        timestamp_ms=header.timestamp_ms,
        checksum_known=False,
    )


def _from_record(record: PositionRecord, *, timestamp_ms: int) -> LocalChain:
    return LocalChain(
        txid=record.txid,
        database_checksum=record.database_checksum,
        page_size=record.page_size,
        commit=record.commit,
        wal=record.wal,
        file=record.file,
        file_complete=record.file_complete,
        timestamp_ms=timestamp_ms,
    )


def _roll_forward(meta: MetaDir, sums: PageSums, files: list[FileName]) -> None:
    """Apply every L0 newer than the page checksums; idempotent. Stops at a gap, which the XOR then shows."""
    for name in files:
        if name.max_txid > sums.txid and name.min_txid <= sums.txid + 1:
            apply_file(sums, name, read_file(meta.l0_path(name)))


def read_file(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes in chunks of at most 1 MiB."""
    with os_errors("read", path), path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def apply_file(sums: PageSums, name: FileName, chunks: Iterable[bytes]) -> Header:
    """Bring the page checksums up to one LTX file, given as its bytes; returns its header. Raises LtxFormatError."""
    decoder = Decoder(expect=name)
    for chunk in chunks:
        for pages in decoder.batches(chunk):
            pgnos = np.array([pgno for pgno, _ in pages], np.uint32)
            sums.write(pgnos, np.array([page_checksum(pgno, page) for pgno, page in pages], np.uint64))
    decoder.finish()
    header = decoder.header
    if header is None:
        raise CorruptError("read", name, "the file ends inside its header")
    sums.stamp(name.max_txid, header.commit)
    return header
