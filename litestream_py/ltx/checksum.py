"""Checksums of LTX: CRC-64/ISO, of pages and of whole databases (specification: `litestream_py.ltx`, "Checksums")."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from fastcrc.crc64 import go_iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["CHECKSUM_FLAG", "Buffer", "crc64", "go_iso", "page_checksum", "page_checksums", "row_checksums"]

Buffer: TypeAlias = bytes | bytearray | memoryview

CHECKSUM_FLAG: Final = 1 << 63
"""Top bit of every checksum that is present; alone it is the database checksum of an empty database."""

_pack_pgno = Struct(">I").pack


def crc64(data: Buffer, crc: int = 0) -> int:
    """Return the CRC-64/ISO of `data`; `crc` is that of what came before, so that pieces chain.

    Loops that call it for each page use `go_iso`, the same function with one call less.
    """
    return go_iso(data, crc)


def page_checksum(pgno: int, data: Buffer) -> int:
    """Return the checksum of one uncompressed page, flag bit set."""
    return go_iso(data, go_iso(_pack_pgno(pgno))) | CHECKSUM_FLAG


def page_checksums(pgnos: Sequence[int] | NDArray[np.uint32], pages: Buffer, page_size: int) -> NDArray[np.uint64]:
    """Return the checksums of many pages that lie one behind the other in `pages`, flag bits set.

    `pages` is ``len(pgnos) * page_size`` bytes long (ValueError otherwise). See `row_checksums`.
    """
    if len(pages) != len(pgnos) * page_size:
        raise ValueError(f"{len(pgnos)} pages of {page_size} bytes are not {len(pages)} bytes")
    return row_checksums(pgnos, np.frombuffer(pages, dtype=np.uint8).reshape(-1, page_size), page_size)


def row_checksums(
    pgnos: Sequence[int] | NDArray[np.uint32], rows: NDArray[np.uint8] | Iterable[NDArray[np.uint8]], page_size: int
) -> NDArray[np.uint64]:
    """Return the checksums of many pages, each a row of `page_size` bytes, wherever they lie; flag bits set.

    Twice as fast as `page_checksum` in a loop on 4 KiB pages, because the CRC is linear: that of pgno + page is that of
    the page XOR a value that depends on the number alone, which numpy looks up for all of them at once.
    """
    views: Any = rows  # a contiguous row of a numpy array is bytes-like, without a copy
    found = np.array(list(map(go_iso, views)), dtype=np.uint64)
    table = _pgno_table(page_size)
    numbers = np.asarray(pgnos, dtype=np.uint32)
    for shift in range(4):
        found ^= table[shift][(numbers >> np.uint32(8 * shift)) & np.uint32(0xFF)]
    return found | np.uint64(CHECKSUM_FLAG)


@lru_cache(maxsize=8)
def _pgno_table(page_size: int) -> NDArray[np.uint64]:
    """Return, for each byte of a page number (least first), what it adds to the CRC of the page behind it.

    crc(pgno + page) = shifted(crc(pgno)) ^ crc(page), and a page of zeros shows the first term. It is affine in the
    bits of pgno: the term of pgno 0 is counted once, with the least byte.
    """
    zeros = bytes(page_size)
    nothing = go_iso(zeros)

    def term(pgno: int) -> int:
        return go_iso(zeros, go_iso(_pack_pgno(pgno))) ^ nothing

    table = np.array([[term(byte << 8 * shift) for byte in range(256)] for shift in range(4)], dtype=np.uint64)
    table[1:] ^= np.uint64(term(0))
    return table
