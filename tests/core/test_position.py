"""`position.json`: whole, or nothing."""

from __future__ import annotations

import json

import pytest

from litestream_py.core.position import FileFacts, PositionRecord, WalPosition
from litestream_py.ltx.ids import TXID

RECORD = PositionRecord(
    txid=TXID(0xABC),
    database_checksum=1 << 63 | 77,
    page_size=65536,
    commit=123456,
    wal=WalPosition((0xFFFFFFFF, 1), 1 << 40, (2, 0xFFFFFFFE)),
    sealed=True,
    file=FileFacts(device=66, inode=1 << 60, size=1 << 45, mtime_ns=1_700_000_000_123_456_789, change_counter=5),
    file_complete=False,
)
DATA = RECORD.encode()


def test_a_record_survives_the_file() -> None:
    """What was encoded is decoded."""
    assert PositionRecord.decode(DATA) == RECORD
    assert DATA.count(b"\n") == 1
    assert json.loads(DATA)["txid"] == "0000000000000abc"


def test_every_truncation_is_nothing() -> None:
    """A record cut at any byte is taken for absent; only the line's end may be missing."""
    assert {PositionRecord.decode(DATA[:length]) for length in range(len(DATA) - 1)} == {None}


def test_every_flipped_byte_is_nothing_or_the_same() -> None:
    """No change of a byte makes another record of it."""
    for offset in range(len(DATA)):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            flipped = DATA[:offset] + bytes([DATA[offset] ^ mask]) + DATA[offset + 1 :]
            assert PositionRecord.decode(flipped) in {None, RECORD}


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"7", b"{}", b'{"checksum": 1}', b"[" * 100_000, b"\xff\xfe\x00"]
)
def test_anything_else_is_nothing(data: bytes) -> None:
    """Other JSON, and what is no JSON, is taken for absent."""
    assert PositionRecord.decode(data) is None


def test_another_version_is_nothing() -> None:
    """A record of a later version is not guessed at."""
    assert PositionRecord.decode(DATA.replace(b'"version": 1', b'"version": 2')) is None


def test_the_file_is_known_by_its_inode() -> None:
    """Size and times may change; device and inode say which file it is."""
    facts = RECORD.file
    assert facts.same_file(FileFacts(66, 1 << 60, 1, 2, 3))
    assert not facts.same_file(FileFacts(67, 1 << 60, facts.size, facts.mtime_ns, 5))
    assert not facts.same_file(FileFacts(66, 1, facts.size, facts.mtime_ns, 5))
