"""The batched checksum is the plain one, whatever the frames."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.wal.checksum import checksum, expected_checksums
from litestream_py.wal.scan import Stop, scan_frames
from tests.support.walbuild import Frame, build_frames

U32 = st.integers(0, 2**32 - 1)
PAIRS = st.tuples(U32, U32)
PAGE_SIZES = st.sampled_from([512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])


def test_plain_checksum_by_hand() -> None:
    """Two pairs of words in either byte order give the sums that the recurrence gives by hand."""
    # little-endian words 1 2 3 4: s0=1 s1=3; s0=1+3+3=7 s1=3+4+7=14
    data = b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0"
    assert checksum(data, big_endian=False) == (7, 14)
    assert checksum(data, big_endian=True) == (7 << 24, 14 << 24)
    assert checksum(data[8:], big_endian=False, seed=(1, 3)) == (7, 14)
    assert checksum(b"\xff" * 8, big_endian=False) == (0xFFFFFFFF, 0xFFFFFFFE)


@given(page_size=PAGE_SIZES, big_endian=st.booleans(), count=st.integers(0, 5), seed=PAIRS, source=st.integers(0))
def test_batched_is_plain(page_size: int, big_endian: bool, count: int, seed: tuple[int, int], source: int) -> None:
    """For frames of random bytes the batched checksum equals the plain one of each frame."""
    rng = random.Random(source)
    data = rng.randbytes(count * (24 + page_size))
    before = [seed] + [(rng.getrandbits(32), rng.getrandbits(32)) for _ in range(count)]
    frames = np.frombuffer(data, dtype=">u4" if big_endian else "<u4").reshape(count, 6 + page_size // 4)
    seeds = np.array(before[:count], dtype=np.uint32).reshape(count, 2)
    expected = [
        checksum(frame[:8] + frame[24:], big_endian=big_endian, seed=before[i])
        for i, frame in enumerate(data[i : i + 24 + page_size] for i in range(0, len(data), 24 + page_size))
    ]
    assert [tuple(row) for row in expected_checksums(frames, seeds, page_size=page_size).tolist()] == expected


@st.composite
def wals(draw: st.DrawFn) -> tuple[int, bool, tuple[int, int], tuple[int, int], list[Frame]]:
    page_size = draw(st.sampled_from([512, 1024, 4096]))
    rng = random.Random(draw(st.integers(0)))
    frames = draw(st.lists(st.tuples(st.integers(1, 2**32 - 1), U32), max_size=8))
    return (
        page_size,
        draw(st.booleans()),
        draw(PAIRS),
        draw(PAIRS),
        [Frame(pgno, commit, rng.randbytes(page_size)) for pgno, commit in frames],
    )


@given(wal=wals(), shift=st.integers(0, 3), cut=st.integers(0, 600))
def test_scan_returns_what_was_built(
    wal: tuple[int, bool, tuple[int, int], tuple[int, int], list[Frame]], shift: int, cut: int
) -> None:
    """A built chain of frames scans to its frames, at any alignment and cut anywhere in its last frame."""
    page_size, big_endian, salts, seed, frames = wal
    data = build_frames(frames, salts=salts, big_endian=big_endian, seed=seed)
    data = data[: max(0, len(data) - cut)]
    whole = len(data) // (24 + page_size)
    buffer = memoryview(b"\0" * shift + data)[shift:]
    batch = scan_frames(buffer, page_size=page_size, salts=salts, big_endian=big_endian, seed=seed)
    assert batch.valid == whole
    assert batch.pgnos.tolist() == [frame.pgno for frame in frames[:whole]]
    assert batch.commits.tolist() == [frame.commit for frame in frames[:whole]]
    assert batch.last_commit == max((i + 1 for i in range(whole) if frames[i].commit), default=0)
    assert batch.stop is (Stop.SHORT_FRAME if len(data) % (24 + page_size) else Stop.END)
    for i in range(whole):
        head = data[i * (24 + page_size) :][: 24 + page_size]
        seed = checksum(head[:8] + head[24:], big_endian=big_endian, seed=seed)
        assert tuple(batch.checksums[i].tolist()) == seed


@given(source=st.integers(0), big_endian=st.booleans(), at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_ends_the_valid_frames_at_its_frame(source: int, big_endian: bool, at: float, bit: int) -> None:
    """One flipped bit anywhere in a chain of frames makes its frame, and nothing before it, invalid."""
    rng = random.Random(source)
    frames = [Frame(i + 1, i % 2, rng.randbytes(512)) for i in range(6)]
    data = bytearray(build_frames(frames, salts=(8, 9), big_endian=big_endian, seed=(3, 4)))
    position = int(at * len(data))
    data[position] ^= 1 << bit
    batch = scan_frames(bytes(data), page_size=512, salts=(8, 9), big_endian=big_endian, seed=(3, 4))
    assert batch.valid == position // 536
    in_frame = position % 536
    if 8 <= in_frame < 16:
        assert batch.stop is Stop.SALT
    elif in_frame >= 4:
        assert batch.stop is Stop.CHECKSUM
    else:
        assert batch.stop in {Stop.CHECKSUM, Stop.PAGE_NUMBER}


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("broken", [None, 0, 976, 977, 1953, 2400])
def test_many_blocks(big_endian: bool, broken: int | None) -> None:
    """A chain of several blocks is verified to its end, or to the frame that is broken."""
    page = random.Random(1).randbytes(512)
    data = bytearray(
        build_frames((Frame(i + 1, 0, page) for i in range(2500)), salts=(1, 2), big_endian=big_endian, seed=(5, 6))
    )
    if broken is not None:
        data[broken * 536 + 100] ^= 1
    batch = scan_frames(data, page_size=512, salts=(1, 2), big_endian=big_endian, seed=(5, 6))
    assert batch.valid == (2500 if broken is None else broken)
    assert batch.stop is (Stop.END if broken is None else Stop.CHECKSUM)


def test_batch_outlives_its_buffer() -> None:
    """The arrays of a batch are copies: the buffer can be reused for the next read."""
    buffer = bytearray(build_frames([Frame(7, 9, b"x" * 512)], salts=(1, 2), big_endian=False, seed=(0, 0)))
    batch = scan_frames(buffer, page_size=512, salts=(1, 2), big_endian=False, seed=(0, 0))
    kept = (batch.pgnos.tolist(), batch.commits.tolist(), batch.checksums.tolist())
    buffer[:] = b"\xff" * len(buffer)
    assert kept == (batch.pgnos.tolist(), batch.commits.tolist(), batch.checksums.tolist())
    assert kept[0] == [7]
