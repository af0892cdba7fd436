"""Varints, one by one and many at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.uvarint import append_uvarint, decode_uvarints, encode_uvarints, read_uvarint
from tests.support.ltx_strategies import U64, unhurried

VALUES = st.lists(st.one_of(U64, st.integers(0, 300), st.integers(0, 63).map(lambda bits: 1 << bits)), max_size=40)


def decode_all(data: bytes) -> list[int]:
    """Decode all varints of `data` at once."""
    octets = np.frombuffer(data, dtype=np.uint8)
    return [int(value) for value in decode_uvarints(octets, np.flatnonzero(octets < 0x80))]


@unhurried
@given(VALUES)
def test_both_ways_of_encoding_and_decoding_agree(values: list[int]) -> None:
    """One by one and all at once write the same bytes, and both read the values back."""
    one_by_one = bytearray()
    for value in values:
        append_uvarint(one_by_one, value)
    assert encode_uvarints(np.array(values, dtype=np.uint64)) == one_by_one
    assert decode_all(bytes(one_by_one)) == values
    pos, found = 0, []
    while pos < len(one_by_one):
        parsed = read_uvarint(one_by_one, pos)
        assert parsed is not None
        found.append(parsed[0])
        pos = parsed[1]
    assert found == values


@unhurried
@given(U64)
def test_a_cut_varint_is_not_there_yet(value: int) -> None:
    """A varint without its last byte is reported as incomplete, never as a smaller number."""
    data = bytearray()
    append_uvarint(data, value)
    assert all(read_uvarint(data[:end], 0) is None for end in range(len(data)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80\x00", "index-varint-not-minimal"),
        (b"\xff\x80\x00", "index-varint-not-minimal"),
        (b"\xff" * 9 + b"\x02", "index-varint-too-long"),
        (b"\xff" * 10 + b"\x01", "index-varint-too-long"),
        (b"\x80" * 11 + b"\x01", "index-varint-too-long"),
    ],
)
def test_superfluous_and_endless_varints_are_refused_in_both_ways(data: bytes, reason: str) -> None:
    """A varint that could be shorter, or has more than 64 bits, is refused for that."""
    for decode in (lambda: read_uvarint(data, 0), lambda: decode_all(data)):
        with pytest.raises(LtxFormatError) as refused:
            decode()
        assert refused.value.reason == reason
    assert decode_all(b"\xff" * 9 + b"\x01") == [(1 << 64) - 1]
