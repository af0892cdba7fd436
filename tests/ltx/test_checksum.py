"""CRC-64/ISO, of pieces, of pages and of many pages at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.ltx.checksum import CHECKSUM_FLAG, crc64, page_checksum, page_checksums
from tests.support.ltx_strategies import unhurried


def slow_crc64(data: bytes) -> int:
    """Return CRC-64/ISO by its definition: reflected polynomial, all ones before and after."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xD800000000000000 if crc & 1 else 0)
    return crc ^ ((1 << 64) - 1)


def test_check_value() -> None:
    """The checksum of the usual check string is the published one."""
    assert crc64(b"123456789") == 0xB90956C775A41001


@unhurried
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksum_follows_its_definition_and_chains(left: bytes, right: bytes) -> None:
    """The library computes the CRC of the definition, and pieces chain to the whole."""
    assert crc64(right, crc64(left)) == crc64(left + right) == slow_crc64(left + right)


@unhurried
@given(st.lists(st.integers(1, (1 << 32) - 1), max_size=20), st.sampled_from((512, 1024, 65536)))
def test_many_pages_at_once_are_the_pages_one_by_one(pgnos: list[int], page_size: int) -> None:
    """The batched form gives what page_checksum gives, for any page numbers, sequences and arrays alike."""
    data = np.random.default_rng(len(pgnos)).bytes(len(pgnos) * page_size)
    one_by_one = [page_checksum(pgno, data[at * page_size : (at + 1) * page_size]) for at, pgno in enumerate(pgnos)]
    assert page_checksums(pgnos, data, page_size).tolist() == one_by_one
    assert page_checksums(np.array(pgnos, dtype=np.uint32), memoryview(data), page_size).tolist() == one_by_one
    assert all(checksum & CHECKSUM_FLAG for checksum in one_by_one)


def test_pages_must_fill_the_buffer() -> None:
    """A buffer that is not as long as its pages is an error, not a short answer."""
    with pytest.raises(ValueError, match="2 pages of 512 bytes are not 1000 bytes"):
        page_checksums([1, 2], bytes(1000), 512)
