"""The WAL header's rules, one by one, and the places of frames."""

from __future__ import annotations

import pytest

from litestream_py.errors import WalFormatError
from litestream_py.wal.records import WAL_HEADER_SIZE, WalHeader, frame_count, frame_offset
from tests.support.walbuild import build_header


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
@pytest.mark.parametrize("big_endian", [False, True])
def test_every_page_size_in_both_byte_orders(page_size: int, big_endian: bool) -> None:
    """A header of any page size and byte order parses to what it was built from."""
    data = build_header(page_size=page_size, salts=(3, 4), big_endian=big_endian, checkpoint_seq=5)
    header = WalHeader.parse(data + b"frames")
    assert (header.page_size, header.big_endian, header.salts, header.checkpoint_seq) == (
        page_size,
        big_endian,
        (3, 4),
        5,
    )


@pytest.mark.parametrize("page_size", [0, 1, 256, 513, 4095, 131072, 2**31])
def test_impossible_page_size(page_size: int) -> None:
    """A page size SQLite does not have is refused though the checksum holds."""
    with pytest.raises(WalFormatError) as caught:
        WalHeader.parse(build_header(page_size=page_size, salts=(1, 1), big_endian=False))
    assert caught.value.reason == "wal-page-size"


def test_any_flipped_bit_of_the_header_is_noticed() -> None:
    """No single flipped bit of a header goes unnoticed, and the reason fits its place."""
    data = build_header(page_size=4096, salts=(1, 2), big_endian=False)
    for position in range(WAL_HEADER_SIZE * 8):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(WalFormatError) as caught:
            WalHeader.parse(bytes(damaged))
        field = position // 32
        allowed = {0: {"wal-magic", "wal-header-checksum"}, 2: {"wal-page-size"}}.get(field, {"wal-header-checksum"})
        assert caught.value.reason in allowed


def test_frame_places() -> None:
    """Frames are counted from 1 behind the 32-byte header, and only whole ones count."""
    assert frame_offset(1, 4096) == 32
    assert frame_offset(3, 512) == 32 + 2 * 536
    assert [frame_count(size, 512) for size in (0, 32, 567, 568, 569, 32 + 5 * 536)] == [0, 0, 0, 1, 1, 5]
