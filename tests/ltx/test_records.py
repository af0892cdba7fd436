"""Header and trailer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checksum import CHECKSUM_FLAG
from litestream_py.ltx.ids import TXID
from litestream_py.ltx.records import Header, Lsyn, Trailer
from tests.support.ltx_strategies import headers, unhurried

PLAIN = Header(4096, 7, TXID(2), TXID(3), 1_700_000_000_000, wal_offset=32, wal_size=4120, wal_salt1=1, wal_salt2=2)


@unhurried
@given(headers())
def test_header_reads_as_it_was_written(header: Header) -> None:
    """A valid header survives packing, and has its 100 bytes."""
    packed = header.pack()
    assert len(packed) == 100
    assert Header.unpack(packed) == header
    assert Header.unpack(memoryview(packed + b"pages")) == header
    assert isinstance(Header.unpack(packed).min_txid, TXID)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("header-flags-unknown", {"flags": 3}),
        ("header-flags-unknown", {"flags": 1 << 31}),
        ("page-size", {"page_size": 256}),
        ("page-size", {"page_size": 131072}),
        ("page-size", {"page_size": 1}),
        ("min-txid-zero", {"min_txid": 0}),
        ("max-txid-zero", {"max_txid": 0}),
        ("txids-reversed", {"min_txid": 4}),
        ("wal-offset-negative", {"wal_offset": -1}),
        ("wal-size-negative", {"wal_size": -1}),
        ("wal-salt-without-offset", {"wal_offset": 0, "wal_size": 0, "wal_salt1": 0}),
        ("wal-size-without-offset", {"wal_offset": 0, "wal_salt1": 0, "wal_salt2": 0}),
        ("pre-apply-in-snapshot", {"min_txid": 1, "flags": 0, "pre_apply_checksum": CHECKSUM_FLAG}),
        ("pre-apply-with-no-checksum-flag", {"pre_apply_checksum": CHECKSUM_FLAG}),
        ("pre-apply-missing", {"flags": 0}),
        ("pre-apply-without-flag-bit", {"flags": 0, "pre_apply_checksum": 1}),
        ("lsyn-without-flag-bit", {"reserved": bytes(16) + b"LSYN"}),
        ("lsyn-without-flag-bit", {"reserved": bytes(7) + b"\1\x80" + bytes(7) + b"LSYN"}),
        ("header-field-out-of-range", {"commit": 1 << 32}),
        ("header-field-out-of-range", {"commit": -1}),
        ("header-field-out-of-range", {"max_txid": 1 << 64}),
        ("header-field-out-of-range", {"timestamp_ms": 1 << 63}),
        ("header-field-out-of-range", {"wal_salt2": 1 << 32}),
        ("header-field-out-of-range", {"reserved": bytes(19)}),
    ],
)
def test_header_that_breaks_a_rule_is_not_written(reason: str, changes: dict[str, Any]) -> None:
    """Packing refuses a header for the first rule that it breaks."""
    with pytest.raises(LtxFormatError) as refused:
        replace(PLAIN, **changes).pack()
    assert refused.value.reason == reason


def test_header_of_less_than_100_bytes_or_other_magic_is_refused() -> None:
    """A short header is truncated, one of another format has another magic."""
    for data, reason in ((PLAIN.pack()[:99], "truncated"), (b"", "truncated"), (b"LTX2" + PLAIN.pack()[4:], "magic")):
        with pytest.raises(LtxFormatError) as refused:
            Header.unpack(data)
        assert refused.value.reason == reason


def test_lsyn_lies_where_the_design_says() -> None:
    """Before is at byte 80, after at 88, the mark at 96; without the mark there is nothing to read."""
    before, after = CHECKSUM_FLAG | 0x11, CHECKSUM_FLAG | 0x22
    packed = PLAIN.with_lsyn(before, after).pack()
    assert packed[80:] == before.to_bytes(8) + after.to_bytes(8) + b"LSYN"
    assert Header.unpack(packed).lsyn == Lsyn(before, after)
    assert PLAIN.lsyn is None
    assert replace(PLAIN, reserved=packed[80:99] + b"M").lsyn is None
    assert PLAIN.with_lsyn(0, after).lsyn == (0, after)


def test_trailer_reads_as_it_was_written() -> None:
    """The trailer is post-apply checksum and file checksum."""
    assert Trailer(1, 2).pack() == bytes(7) + b"\1" + bytes(7) + b"\2"
    assert Trailer.unpack(Trailer(1, 1 << 63).pack()) == Trailer(1, 1 << 63)
