"""Every file of the real tools decodes to what they say, and every faulty one is refused for its own reason."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checks import check_checksums, check_growth
from litestream_py.ltx.checksum import page_checksum
from litestream_py.ltx.decoder import Decoder, decode
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import FileName
from litestream_py.ltx.index import PageIndex, read_page
from litestream_py.ltx.records import Header
from tests.support.golden_ltx import BAD, GOOD, bad, bad_file_name, file_name, good

SEEN_IN_ONE_FILE = {
    "flip-header-magic": "magic",
    "flip-header-flags-known-bit": "pre-apply-missing",
    "flip-header-flags-unknown-bit": "header-flags-unknown",
    "flip-header-page-size": "page-size",
    "flip-header-commit": "page-above-commit",
    "flip-header-min-txid": "txids-reversed",
    "flip-header-max-txid": "txid-not-of-its-name",
    "flip-header-timestamp": "file-checksum-wrong",
    "flip-header-pre-apply": "pre-apply-with-no-checksum-flag",
    "flip-header-wal-offset": "file-checksum-wrong",
    "flip-header-wal-size": "file-checksum-wrong",
    "flip-header-salt1": "file-checksum-wrong",
    "flip-header-salt2": "file-checksum-wrong",
    "flip-header-node-id": "file-checksum-wrong",
    "flip-header-reserved-first": "file-checksum-wrong",
    "flip-header-reserved-last": "file-checksum-wrong",
    "flip-page-number": "page-number-zero",
    "flip-page-number-high-bit": "page-above-commit",
    "flip-page-flags-known-bit": "legacy-frame-damaged",
    "flip-page-flags-unknown-bit": "page-flags-unknown",
    "flip-size-field-low": "block-damaged",
    "flip-size-field-high": "block-size-out-of-bounds",
    "flip-end-marker": "page-out-of-order",
    "flip-end-marker-flags": "page-number-zero",
    "flip-index-pgno": "index-entry-extra",
    "flip-index-offset": "index-offset-wrong",
    "flip-index-terminator": "index-out-of-order",
    "flip-index-size": "index-size-field-wrong",
    "flip-post-apply": "file-checksum-wrong",
    "flip-file-checksum": "file-checksum-wrong",
    "flip-file-checksum-flag-bit": "file-checksum-without-flag-bit",
    "flip-page-data-literal": "file-checksum-wrong",
    "flip-page-data-token": "block-damaged",
    "flip-page-data-short": "block-short",
    "header-magic-LTX2": "magic",
    "header-magic-zero": "magic",
    "header-flags-unknown-01": "header-flags-unknown",
    "header-flags-unknown-04": "header-flags-unknown",
    "header-flags-unknown-high": "header-flags-unknown",
    "header-page-size-zero": "page-size",
    "header-page-size-256": "page-size",
    "header-page-size-1000": "page-size",
    "header-page-size-131072": "page-size",
    "header-page-size-1": "page-size",
    "header-page-size-max": "page-size",
    "header-min-txid-zero": "min-txid-zero",
    "header-max-txid-zero": "max-txid-zero",
    "header-txids-reversed": "txids-reversed",
    "header-wal-offset-negative": "wal-offset-negative",
    "header-wal-size-negative": "wal-size-negative",
    "header-salt-without-wal-offset": "wal-salt-without-offset",
    "header-wal-size-without-offset": "wal-size-without-offset",
    "header-pre-apply-with-no-checksum-flag": "pre-apply-with-no-checksum-flag",
    "header-pre-apply-missing": "pre-apply-missing",
    "header-pre-apply-without-flag-bit": "pre-apply-without-flag-bit",
    "header-post-apply-with-no-checksum-flag": "post-apply-with-no-checksum-flag",
    "header-post-apply-missing": "post-apply-missing",
    "header-post-apply-without-flag-bit": "post-apply-without-flag-bit",
    "header-commit-zero-with-pages": "page-above-commit",
    "header-commit-too-small": "page-above-commit",
    "header-txid-not-of-its-name": "txid-not-of-its-name",
    "header-txid-range-not-of-its-name": "txid-not-of-its-name",
    "header-snapshot-with-pre-apply": "pre-apply-in-snapshot",
    "header-snapshot-with-pre-apply-checksummed": "pre-apply-in-snapshot",
    "header-snapshot-post-apply-wrong": "post-apply-wrong",
    "format-version-2": "page-flags-unknown",
    "pages-out-of-order": "page-out-of-order",
    "pages-duplicate": "page-out-of-order",
    "pages-duplicate-different": "page-out-of-order",
    "page-number-zero": "page-number-zero",
    "page-number-above-commit": "page-above-commit",
    "page-number-max": "page-above-commit",
    "snapshot-page-missing-middle": "snapshot-page-missing",
    "snapshot-page-missing-first": "snapshot-page-missing",
    "snapshot-page-missing-last": "snapshot-page-missing",
    "snapshot-no-pages": "snapshot-page-missing",
    "snapshot-page-above-commit": "page-above-commit",
    "snapshot-pages-out-of-order": "page-out-of-order",
    "page-flags-unknown": "page-flags-unknown",
    "lz4-garbage": "block-damaged",
    "lz4-empty-block": "block-size-out-of-bounds",
    "lz4-decodes-short": "block-short",
    "lz4-decodes-short-zero-tail": "block-short",
    "lz4-decodes-long": "block-damaged",
    "lz4-bomb": "block-size-out-of-bounds",
    "lz4-trailing-byte": "block-damaged",
    "lz4-frame-in-block": "block-damaged",
    "size-field-huge": "block-size-out-of-bounds",
    "size-field-one-less": "block-damaged",
    "size-field-one-more": "block-damaged",
    "legacy-frame-cut": "legacy-frame-damaged",
    "end-marker-missing": "page-flags-unknown",
    "index-empty": "index-entry-missing",
    "index-entry-missing": "index-entry-missing",
    "index-entry-extra": "index-entry-extra",
    "index-offset-outside": "index-offset-wrong",
    "index-offset-in-header": "index-offset-wrong",
    "index-offset-off-by-one": "index-offset-wrong",
    "index-size-wrong-entry": "index-size-wrong",
    "index-size-huge-entry": "index-size-wrong",
    "index-entries-swapped": "index-offset-wrong",
    "index-descending": "index-entry-missing",
    "index-duplicate-entry": "index-out-of-order",
    "index-page-number-over-32-bit": "index-page-number-over-32-bit",
    "index-size-field-zero": "index-size-field-wrong",
    "index-size-field-one-more": "index-size-field-wrong",
    "index-size-field-counts-itself": "index-size-field-wrong",
    "index-size-field-huge": "index-size-field-wrong",
    "index-varint-too-long": "index-varint-too-long",
    "index-terminator-missing": "truncated",
    "index-varint-not-minimal": "index-varint-not-minimal",
    "trailer-checksum-zero": "file-checksum-missing",
    "trailer-checksum-without-flag-bit": "file-checksum-without-flag-bit",
    "trailer-checksum-other-polynomial": "file-checksum-wrong",
    "trailer-checksum-over-stored-bytes": "file-checksum-wrong",
    "trailing-byte": "trailing-data",
    "trailing-16-bytes": "trailing-data",
    "trailing-second-file": "trailing-data",
    "all-zero": "magic",
    "zero-tail": "index-entry-missing",
    "leading-byte": "magic",
    "sqlite-database": "magic",
    "lock-page-included-65536": "lock-page",
    "lock-page-included-512": "lock-page",
}
"""The reason for each faulty file; those named truncated-at-* are all "truncated"."""

NEEDS_MORE = {"header-pre-apply-wrong", "header-post-apply-wrong", "increment-page-missing-for-growth"}
"""Faults that only the database or the file before shows."""


def manifest_header(case: dict[str, Any]) -> Header:
    """Return the header that the manifest describes."""
    described = case["header"]
    name = file_name(case)
    return Header(
        described["page_size"],
        described["commit"],
        name.min_txid,
        name.max_txid,
        described["timestamp_ms"],
        flags=described["flags"],
        pre_apply_checksum=int(described["pre_apply_checksum"], 16),
        wal_offset=described["wal_offset"],
        wal_size=described["wal_size"],
        wal_salt1=int(described["wal_salt1"], 16),
        wal_salt2=int(described["wal_salt2"], 16),
        node_id=described["node_id"],
        reserved=bytes.fromhex(described["reserved"]),
    )


def feed_bytes(data: bytes, expect: FileName | None) -> list[tuple[int, bytes]]:
    """Return the pages of a file that is fed byte by byte."""
    decoder = Decoder(expect=expect)
    pages = [page for at in range(len(data)) for page in decoder.feed(data[at : at + 1])]
    decoder.finish()
    return pages


@pytest.mark.parametrize("name", GOOD)
def test_good_file_decodes_to_the_listed_content(name: str) -> None:
    """Header, pages, page checksums and trailer are those that the real tools found."""
    case = GOOD[name]
    file = decode(good(name), expect=file_name(case))
    assert file.header == manifest_header(case)
    assert feed_bytes(good(name), file_name(case)) == file.pages
    assert [
        (pgno, hashlib.sha256(page).hexdigest(), f"{page_checksum(pgno, page):016x}") for pgno, page in file.pages
    ] == [(page["pgno"], page["sha256"], page["checksum"]) for page in case["pages"]]
    assert f"{file.trailer.file_checksum:016x}" == case["trailer"]["file_checksum"]
    assert f"{file.trailer.post_apply_checksum:016x}" == case["trailer"]["post_apply_checksum"]


@pytest.mark.parametrize("name", GOOD)
def test_good_file_has_the_listed_index(name: str) -> None:
    """The index gives the listed offset and size of every frame, and each page can be read alone through it."""
    case, data = GOOD[name], good(name)
    index_start = len(data) - 24 - case["index_size"]
    index = PageIndex.parse(
        data[index_start : index_start + case["index_size"]], manifest_header(case), frames_end=index_start - 6
    )
    listed = [(page["pgno"], page["offset"], page["size"]) for page in case["pages"]]
    assert list(zip(index.pgnos, index.offsets, index.sizes, strict=True)) == listed
    for page in case["pages"]:
        alone = read_page(lambda offset, size: data[offset : offset + size], len(data), page["pgno"])
        assert alone is not None
        assert hashlib.sha256(alone).hexdigest() == page["sha256"]


@pytest.mark.parametrize("name", GOOD)
def test_good_file_encodes_to_one_that_decodes_to_the_same(name: str) -> None:
    """What was decoded can be written again, compressed anew or with its blocks as they are, and reads the same."""
    data = good(name)
    file = decode(data)
    post_apply = file.trailer.post_apply_checksum
    again = decode(b"".join(encode(file.header, file.pages, post_apply_checksum=post_apply)))
    assert (again.header, again.pages) == (file.header, file.pages)

    frames = [frame for batch in Decoder().frame_batches(data) for frame in batch]
    copied = b"".join(encode(file.header, frames, post_apply_checksum=post_apply))
    assert decode(copied).pages == file.pages
    if all(page["flags"] == 1 for page in GOOD[name]["pages"]):
        assert copied == data, "blocks copied as they are make the same file, byte for byte"


@pytest.mark.parametrize("name", sorted(set(BAD) - NEEDS_MORE))
def test_faulty_file_is_refused_for_its_own_reason(name: str) -> None:
    """A faulty file is refused, whole and byte by byte, with the name of the rule it breaks."""
    due = "truncated" if name.startswith("truncated-at-") else SEEN_IN_ONE_FILE[name]
    data, expect = bad(name), bad_file_name(BAD[name])
    with pytest.raises(LtxFormatError) as whole:
        decode(data, expect=expect)
    assert whole.value.reason == due

    with pytest.raises(LtxFormatError) as piecewise:
        feed_bytes(data, expect)
    assert piecewise.value.reason == due


def test_every_faulty_file_has_its_reason() -> None:
    """The table of reasons and the manifest name the same files."""
    assert {name for name in BAD if not name.startswith("truncated-at-")} == SEEN_IN_ONE_FILE.keys() | NEEDS_MORE


@pytest.mark.parametrize("name", ["header-pre-apply-wrong", "header-post-apply-wrong"])
def test_wrong_database_checksum_shows_beside_the_database(name: str) -> None:
    """A wrong pre- or post-apply checksum decodes, and is refused once the checksums of the database are known."""
    right, wrong = decode(good("checksummed-increment-512")), decode(bad(name))
    before, after = right.header.pre_apply_checksum, right.trailer.post_apply_checksum
    check_checksums(right.header, right.trailer, before=before, after=after)
    with pytest.raises(LtxFormatError) as refused:
        check_checksums(wrong.header, wrong.trailer, before=before, after=after)
    assert refused.value.reason == name.removeprefix("header-")
    check_checksums(wrong.header, wrong.trailer)


def test_page_missing_for_growth_shows_beside_the_file_before() -> None:
    """An increment that lacks a page the database grew over decodes, and is refused after its predecessor."""
    before = decode(good("tiny-snapshot-512")).header.commit
    for name, reason in (("tiny-increment-512", None), ("increment-page-missing-for-growth", "growth-page-missing")):
        file = decode(good(name) if reason is None else bad(name))
        pgnos = [pgno for pgno, _ in file.pages]
        if reason is None:
            check_growth(file.header, pgnos, before)
        else:
            with pytest.raises(LtxFormatError) as refused:
                check_growth(file.header, pgnos, before)
            assert refused.value.reason == reason
            check_growth(file.header, pgnos, file.header.commit)


@pytest.mark.parametrize("name", ["lsyn-snapshot-512", "lsyn-increment-512"])
def test_lsyn_files_carry_the_checksums_of_the_databases(name: str) -> None:
    """The reserved bytes of the vectors read as database checksums, and are written as they were."""
    file = decode(good(name))
    reserved = bytes.fromhex(GOOD[name]["header"]["reserved"])
    assert file.header.lsyn is not None
    assert file.header.lsyn == (int.from_bytes(reserved[:8]), int.from_bytes(reserved[8:16]))
    assert replace(file.header, reserved=bytes(20)).with_lsyn(*file.header.lsyn) == file.header
    checksummed = decode(good("checksummed-increment-512"))
    known = {"before": 0, "after": checksummed.header.pre_apply_checksum}
    if not file.header.is_snapshot:
        known = {"before": known["after"], "after": checksummed.trailer.post_apply_checksum}
    check_checksums(file.header, file.trailer, before=known["before"], after=known["after"])
    with pytest.raises(LtxFormatError, match="lsyn-after-wrong"):
        check_checksums(file.header, file.trailer, after=known["after"] ^ 1)
