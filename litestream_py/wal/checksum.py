"""The checksum of the WAL and the wal-index, plain and batched.

It reads 32-bit words in pairs (x, y), their byte order being given by the WAL's magic (native in the wal-index), and
carries a pair of sums, all modulo 2**32::

    s0 += x + s1
    s1 += y + s0

One pair of words is thus the linear map s <- M s + (x, x + y) with M = ((1, 1), (1, 2)). For a frame of n pairs

    s <- M**n s + c,   c = sum over k of M**(n - 1 - k) (x_k, x_k + y_k)

so c is two dot products of the frame's words with weights that depend on the page size only. A batch of frames needs no
chain: if all frames before a frame are valid, the running checksum before it is the one stored in the frame before it,
so each frame is tested against its neighbour, and the first that fails ends the valid ones.

The sums catch torn and stale frames. They are not cryptographic, and not even a CRC: whoever wants to can forge them.

Source: https://sqlite.org/fileformat2.html section 4.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

U32Array = npt.NDArray[np.uint32]

_MASK: Final = 0xFFFFFFFF
_WORD_BYTES: Final = 4
_HEADER_WORDS: Final = 6
"""Words of a frame header: page number, commit size, two salts, two checksums; the sums cover only the first two."""


def checksum(data: bytes, *, big_endian: bool, seed: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return the running checksum behind `data`, whose length is a multiple of 8 bytes.

    Plain and slow (60 MB/s): for headers, and the reference that the batched form is tested against.
    """
    s0, s1 = seed
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // _WORD_BYTES}I", data)
    for x, y in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + x + s1) & _MASK
        s1 = (s1 + y + s0) & _MASK
    return s0, s1


@dataclass(frozen=True, slots=True)
class FrameWeights:
    """What the checksum of a frame depends on, for one page size.

    words: shape (2, words of a frame), the weight of each word in s0 and s1; 0 for the salts and the stored checksum,
    so that a frame can be taken as one row. carry: M**n, what becomes of the checksum before the frame.
    """

    words: U32Array
    carry: tuple[tuple[np.uint32, np.uint32], tuple[np.uint32, np.uint32]]


@lru_cache(maxsize=8)
def frame_weights(page_size: int) -> FrameWeights:
    """Return the weights of frames with pages of `page_size` bytes."""
    page_words = page_size // _WORD_BYTES
    weights = np.zeros((2, _HEADER_WORDS + page_words), dtype=np.uint32)
    columns = [0, *range(_HEADER_WORDS, _HEADER_WORDS + page_words, 2)]
    a, b, c, d = 1, 0, 0, 1
    for column in reversed(columns):
        weights[:, column] = (a + b) & _MASK, (c + d) & _MASK
        weights[:, column + 1] = b, d
        a, b, c, d = (a + b) & _MASK, (a + 2 * b) & _MASK, (c + d) & _MASK, (c + 2 * d) & _MASK
    weights.setflags(write=False)
    return FrameWeights(weights, ((np.uint32(a), np.uint32(b)), (np.uint32(c), np.uint32(d))))


def expected_checksums(frames: npt.NDArray[np.uint32], before: U32Array, *, page_size: int) -> U32Array:
    """Return the checksum each frame must store, given the checksum that was stored before it.

    frames: shape (n, 6 + page_size / 4), a frame a row, dtype '<u4' or '>u4' as the WAL's magic says.
    before: shape (n, 2), the running checksum before each frame. The result has its shape.
    """
    weights = frame_weights(page_size)
    # einsum over a foreign byte order goes through small buffers; one converted copy is three times as fast.
    native = frames if frames.dtype.isnative else frames.astype(np.uint32)
    sums: U32Array = np.einsum("ij,kj->ik", native, weights.words)
    (a, b), (c, d) = weights.carry
    s0, s1 = before[:, 0], before[:, 1]
    sums[:, 0] += a * s0 + b * s1
    sums[:, 1] += c * s0 + d * s1
    return sums
