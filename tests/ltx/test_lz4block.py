"""Blocks and legacy frames of one page."""

from __future__ import annotations

import os

import lz4.block
import lz4.frame
import pytest

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.lz4block import (
    LegacyWalk,
    block_size_max,
    compress_block,
    decompress_block,
    decompress_legacy,
    legacy_size_max,
)


def reason(call: object, *args: object) -> str:
    """Return the reason for which `call` refuses its arguments."""
    assert callable(call)
    with pytest.raises(LtxFormatError) as refused:
        call(*args)
    return refused.value.reason


def walk(frame: bytes, page_size: int) -> int | None:
    """Return the length that the walk finds in the frame."""
    return LegacyWalk(page_size, 0).measure(memoryview(frame))


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_block_never_exceeds_the_worst_case(page_size: int) -> None:
    """Even random bytes make a block below the bound, and every block decodes to its page."""
    for page in (os.urandom(page_size), bytes(page_size)):
        block = compress_block(page)
        assert len(block) <= block_size_max(page_size)
        assert decompress_block(block, page_size, 0) == page


def test_block_of_another_length_is_refused() -> None:
    """A block that holds less or more than a page, or does not decode, is refused; only "less" can be told apart."""
    page = bytes(range(256)) * 2
    assert reason(decompress_block, compress_block(page[:-1]), 512, 0) == "block-short"
    assert reason(decompress_block, compress_block(page + b"x"), 512, 0) == "block-damaged"
    assert reason(decompress_block, compress_block(page)[:-1], 512, 0) == "block-damaged"
    assert reason(decompress_block, b"", 512, 0) == "block-damaged"


FORMS = {
    "plain": {},
    "content checksum": {"content_checksum": True},
    "block checksums": {"block_checksum": True},
    "content size": {"store_size": True},
    "linked blocks of 4 MiB": {"block_size": lz4.frame.BLOCKSIZE_MAX4MB, "block_linked": True},
    "all": {"content_checksum": True, "block_checksum": True, "store_size": True, "block_linked": False},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("page", [bytes(512), os.urandom(512), os.urandom(65536)], ids=["zeros", "noise", "large"])
def test_legacy_frame_of_every_form(form: str, page: bytes) -> None:
    """The walk finds the end of every form of an LZ4 frame, whole or byte by byte, and the page comes out."""
    options = {"store_size": False} | FORMS[form]
    frame = lz4.frame.compress(page, **options)
    assert walk(frame + b"what follows", len(page)) == len(frame)
    step = LegacyWalk(len(page), 0)
    lengths = [step.measure(memoryview(frame[:end])) for end in range(len(frame) + 1)] if len(page) == 512 else [None]
    assert lengths[:-1] == [None] * (len(lengths) - 1)
    assert lengths[-1] in {len(frame), None}
    assert decompress_legacy(frame, len(page), 0) == page


def test_walk_never_asks_for_what_it_does_not_need() -> None:
    """The walk asks for no byte behind the frame, however slowly it arrives."""
    frame = lz4.frame.compress(bytes(512), store_size=False, content_checksum=True)
    step, end = LegacyWalk(512, 0), 0
    while step.measure(memoryview(frame[:end])) is None:
        assert end < step.need <= len(frame)
        end = step.need
    assert end == len(frame)


def test_legacy_frame_of_another_length_is_refused() -> None:
    """A legacy frame that holds less or more than a page, is cut, or is followed by something, is refused."""
    frame = lz4.frame.compress(bytes(512), store_size=False)
    assert reason(decompress_legacy, lz4.frame.compress(bytes(511)), 512, 0) == "legacy-frame-not-one-page"
    assert reason(decompress_legacy, lz4.frame.compress(bytes(513)), 512, 0) == "legacy-frame-not-one-page"
    assert reason(decompress_legacy, lz4.frame.compress(bytes(1 << 20)), 512, 0) == "legacy-frame-not-one-page"
    assert reason(decompress_legacy, frame[:-1], 512, 0) == "legacy-frame-not-one-page"
    assert reason(decompress_legacy, frame + b"x", 512, 0) == "legacy-frame-not-one-page"
    assert reason(decompress_legacy, frame[:6] + b"\xff" + frame[7:], 512, 0) == "legacy-frame-damaged"


def test_lying_legacy_frame_is_refused_before_it_is_there() -> None:
    """A block length beyond the worst case, or an endless row of empty blocks, is refused from its lengths alone."""
    head = lz4.frame.compress(bytes(512), store_size=False)[:7]
    assert reason(walk, head + b"\xff\xff\xff\x7f", 512) == "legacy-frame-too-long"
    assert reason(walk, head + (b"\x01\0\0\0\0" * 400), 512) == "legacy-frame-too-long"
    assert walk(head + (legacy_size_max(512) - 15).to_bytes(4, "little"), 512) is None
    assert reason(walk, head + (legacy_size_max(512) - 14).to_bytes(4, "little"), 512) == "legacy-frame-too-long"


@pytest.mark.parametrize("byte", [0x00, 0xC0, 0x41, 0x42])
def test_legacy_frame_of_another_version_or_with_a_dictionary_is_refused(byte: int) -> None:
    """Only version 1 without reserved bits and without a dictionary is an LZ4 frame of a page."""
    frame = lz4.frame.compress(bytes(512), store_size=False)
    assert reason(walk, frame[:4] + bytes([byte]) + frame[5:], 512) == "legacy-frame-damaged"
    assert reason(walk, b"\x05" + frame[1:], 512) == "legacy-frame-damaged"
