"""Unsigned LEB128 varints: seven bits a byte, least first, top bit set on all bytes but the last; 64 bits at most.

One at a time for messages and small indexes, many at once (numpy) for large ones. `litestream_py.ltx`, rules 30, 31.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from litestream_py.errors import LtxFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from litestream_py.ltx.checksum import Buffer

UVARINT_SIZE_MAX: Final = 10
"""Bytes of the longest varint of 64 bits."""

_LONGER_FROM: Final = np.array([1 << 7 * count for count in range(1, UVARINT_SIZE_MAX)], dtype=np.uint64)


def append_uvarint(out: bytearray, value: int) -> None:
    """Append `value` (0 to 2^64 - 1) to `out`."""
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def read_uvarint(data: Buffer, pos: int) -> tuple[int, int] | None:
    """Return the value at `pos` and the position behind it, or None if `data` ends before it does.

    Raises LtxFormatError "index-varint-too-long" or "index-varint-not-minimal".
    """
    value = 0
    for count, byte in enumerate(data[pos : pos + UVARINT_SIZE_MAX]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value >> 64:
                raise _too_long()
            if byte == 0 and count:
                raise _not_minimal()
            return value, pos + count + 1
    if len(data) - pos >= UVARINT_SIZE_MAX:
        raise _too_long()
    return None


def encode_uvarints(values: NDArray[np.uint64]) -> bytes:
    """Return all `values` as varints, one behind the other."""
    sizes = np.searchsorted(_LONGER_FROM, values, side="right") + 1
    starts = np.cumsum(sizes) - sizes
    out = np.empty(int(sizes.sum()), dtype=np.uint8)
    for count in range(int(sizes.max(initial=0))):
        chosen = np.flatnonzero(sizes > count)
        more = (sizes[chosen] > count + 1).astype(np.uint8) << 7
        septets = (values[chosen] >> np.uint64(7 * count)).astype(np.uint8) & np.uint8(0x7F)
        out[starts[chosen] + count] = septets | more
    return out.tobytes()


def decode_uvarints(data: NDArray[np.uint8], ends: NDArray[np.intp]) -> NDArray[np.uint64]:
    """Return the values of the varints in `data`, whose last bytes are at the positions `ends`.

    Raises LtxFormatError "index-varint-too-long" or "index-varint-not-minimal".
    """
    starts = np.concatenate((np.zeros(1, dtype=np.intp), ends[:-1] + 1))[: len(ends)]
    sizes = ends - starts + 1
    longest = int(sizes.max(initial=0))
    if longest > UVARINT_SIZE_MAX or np.any((sizes == UVARINT_SIZE_MAX) & (data[ends] > 1)):
        raise _too_long()
    if np.any((sizes > 1) & (data[ends] == 0)):
        raise _not_minimal()
    values = np.zeros(len(ends), dtype=np.uint64)
    for count in range(longest):
        chosen = np.flatnonzero(sizes > count)
        septets = (data[starts[chosen] + count] & np.uint8(0x7F)).astype(np.uint64)
        values[chosen] |= septets << np.uint64(7 * count)
    return values


def _too_long() -> LtxFormatError:
    return LtxFormatError("index-varint-too-long", "a varint of the page index has more than 64 bits")


def _not_minimal() -> LtxFormatError:
    return LtxFormatError("index-varint-not-minimal", "a varint of the page index has a superfluous byte")
