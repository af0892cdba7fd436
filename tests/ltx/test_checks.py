"""Rules about pages and checksums that need more than one frame."""

from __future__ import annotations

from dataclasses import replace

import pytest

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checks import (
    check_checksums,
    check_complete,
    check_growth,
    check_name,
    check_page_number,
    check_post_apply,
)
from litestream_py.ltx.checksum import CHECKSUM_FLAG
from litestream_py.ltx.ids import TXID, FileName, lock_pgno
from litestream_py.ltx.records import Header, Trailer

INCREMENT = Header(65536, 20_000, TXID(2), TXID(3), 0)
SNAPSHOT = replace(INCREMENT, min_txid=TXID(1))
LOCK = lock_pgno(65536)


@pytest.mark.parametrize(
    ("previous", "pgno", "reason"),
    [
        (0, 0, "page-number-zero"),
        (5, 5, "page-out-of-order"),
        (5, 4, "page-out-of-order"),
        (5, 20_001, "page-above-commit"),
        (5, LOCK, "lock-page"),
        (5, 6, None),
        (0, 20_000, None),
    ],
)
def test_page_number(previous: int, pgno: int, reason: str | None) -> None:
    """A page number is refused by the rule it breaks, and any greater one up to commit is right."""
    if reason is None:
        check_page_number(INCREMENT, previous, pgno)
    else:
        with pytest.raises(LtxFormatError) as refused:
            check_page_number(INCREMENT, previous, pgno, 7)
        assert (refused.value.reason, refused.value.offset) == (reason, 7)


def test_snapshot_is_complete_without_the_lock_page() -> None:
    """A snapshot beyond 1 GiB holds one page less than commit; below, all; an increment may hold any number."""
    check_complete(SNAPSHOT, 19_999)
    check_complete(replace(SNAPSHOT, commit=LOCK), LOCK - 1)
    check_complete(replace(SNAPSHOT, commit=LOCK - 1), LOCK - 1)
    check_complete(INCREMENT, 0)
    for commit, count in ((20_000, 20_000), (20_000, 19_998), (LOCK - 1, LOCK - 2), (1, 0)):
        with pytest.raises(LtxFormatError, match="snapshot-page-missing"):
            check_complete(replace(SNAPSHOT, commit=commit), count)


@pytest.mark.parametrize(
    ("prev_commit", "commit", "pgnos", "whole"),
    [
        (4, 6, [1, 5, 6], True),
        (4, 6, [1, 6], False),
        (4, 6, [1, 2, 3, 5], False),
        (4, 4, [], True),
        (6, 4, [1], True),
        (0, 2, [1, 2], True),
        (LOCK - 1, LOCK + 1, [LOCK + 1], True),
        (LOCK - 2, LOCK + 1, [LOCK - 1, LOCK + 1], True),
        (LOCK - 2, LOCK + 1, [LOCK + 1], False),
        (LOCK, LOCK + 1, [LOCK + 1], True),
    ],
)
def test_growth(prev_commit: int, commit: int, pgnos: list[int], whole: bool) -> None:
    """Every page between the commits, but the lock page, must be there; no other need be."""
    header = replace(INCREMENT, commit=commit)
    if whole:
        check_growth(header, pgnos, prev_commit)
    else:
        with pytest.raises(LtxFormatError, match="growth-page-missing"):
            check_growth(header, pgnos, prev_commit)


def test_name_must_be_the_headers() -> None:
    """A file under the name of other TXIDs is refused; its level is not in the header."""
    check_name(INCREMENT, FileName(3, TXID(2), TXID(3)))
    for low, high in ((1, 3), (2, 4), (3, 3)):
        with pytest.raises(LtxFormatError, match="txid-not-of-its-name"):
            check_name(INCREMENT, FileName(0, TXID(low), TXID(high)))


@pytest.mark.parametrize(
    ("flags", "value", "reason"),
    [
        (2, 0, None),
        (2, CHECKSUM_FLAG, "post-apply-with-no-checksum-flag"),
        (0, CHECKSUM_FLAG, None),
        (0, 0, "post-apply-missing"),
        (0, 1, "post-apply-without-flag-bit"),
    ],
)
def test_post_apply_checksum_follows_the_flag(flags: int, value: int, reason: str | None) -> None:
    """With flag 0x2 there is none, without it one with its top bit set."""
    header = replace(INCREMENT, flags=flags)
    if reason is None:
        check_post_apply(header, value)
    else:
        with pytest.raises(LtxFormatError, match=reason):
            check_post_apply(header, value)


def test_each_carried_checksum_is_compared_with_the_database() -> None:
    """Each of the four checksums that is carried and known must be the database's; the others are not compared."""
    one, two = CHECKSUM_FLAG | 1, CHECKSUM_FLAG | 2
    header = replace(INCREMENT, flags=0, pre_apply_checksum=one)
    check_checksums(header.with_lsyn(one, two), Trailer(two, 0), before=one, after=two)
    check_checksums(header.with_lsyn(two, one), Trailer(one, 0))
    check_checksums(replace(INCREMENT, min_txid=TXID(1)).with_lsyn(0, two), Trailer(0, 0), before=one, after=two)
    for wrong, trailer, reason in (
        (replace(header, pre_apply_checksum=two), Trailer(two, 0), "pre-apply-wrong"),
        (header, Trailer(one, 0), "post-apply-wrong"),
        (header.with_lsyn(two, two), Trailer(two, 0), "lsyn-before-wrong"),
        (header.with_lsyn(one, one), Trailer(two, 0), "lsyn-after-wrong"),
    ):
        with pytest.raises(LtxFormatError, match=reason):
            check_checksums(wrong, trailer, before=one, after=two)
