"""Fuzz target of the LTX decoder: a seeded, endless supply of damaged files.

    python -m tests.fuzz.fuzz_ltx --count 1000000 --seed 1

Laws, for every damaged file however it is cut into pieces:

1. the decoder accepts it or raises LtxFormatError; so does reading one page through the index; nothing else escapes;
2. what it accepts can be written again and reads the same, and each page read through the index is the page decoded;
3. a page read through the index never reads outside the file;
4. memory stays below the bound that the decoder states (measured on 100 files of every 1600).

Half of the damaged files get a right file checksum (and half of these a right index) afterwards, so that the damage
reaches the code behind those checks.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy

import lz4.block

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.decoder import MEMORY_MAX, Decoder, LtxFile
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.index import read_page
from tests.support.golden_ltx import GOOD, good
from tests.support.ltx_parts import Frame, Parts

SIZE_MAX = 5200
"""Larger files would only be slower: the small ones hold every kind of part."""
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
HEADER_FIELDS = (
    *((at, 4) for at in (0, 4, 8, 12, 64, 68, 96)),
    *((at, 8) for at in (16, 24, 32, 40, 48, 56, 72, 80, 88)),
)
"""Offset and size of every field, the parts of LSYN among them."""


class Mutator:
    """Makes damaged files of good ones; the same seed makes the same files."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bases = [good(name) for name, case in GOOD.items() if case["size"] <= SIZE_MAX]
        self.parts = [Parts.split(data) for data in self.bases]
        self._damages: tuple[Callable[[Parts], None], ...] = (
            self._header,
            self._frame_head,
            self._body,
            self._frame_list,
            self._index,
            self._rest,
        )

    def next(self) -> bytes:
        """Return a damaged file."""
        rng = self.random
        if rng.random() < 0.3:
            return self._raw(bytearray(rng.choice(self.bases)))
        parts = deepcopy(rng.choice(self.parts))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            rng.choice(self._damages)(parts)
        if rng.random() < 0.5:
            if rng.random() < 0.5:
                parts.index_again()
            if rng.random() < 0.9:
                parts.sum_again()
        return parts.join()

    def _raw(self, data: bytearray) -> bytes:
        rng = self.random
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(5):
                case 0:
                    data[at : at + 1] = bytes(b ^ 1 << rng.randrange(8) for b in data[at : at + 1])
                case 1:
                    data[at : at + 1] = rng.randbytes(1)
                case 2:
                    del data[at:]
                case 3:
                    data[at:at] = rng.randbytes(rng.choice((1, 6, 16, 40)))
                case _:
                    del data[at : at + rng.choice((1, 4, 10, 60))]
        return bytes(data)

    def _number(self, old: bytes) -> bytes:
        """Return an integer of the same size: a bit flipped, a neighbour, an edge or anything."""
        rng, size = self.random, len(old)
        value = int.from_bytes(old)
        match rng.randrange(4):
            case 0:
                value ^= 1 << rng.randrange(8 * size)
            case 1:
                value += rng.choice((-2, -1, 1, 2))
            case 2:
                value = rng.choice(INTERESTING)
            case _:
                value = rng.getrandbits(rng.randrange(1, 8 * size + 1))
        return (value % (1 << 8 * size)).to_bytes(size)

    def _header(self, parts: Parts) -> None:
        at, size = self.random.choice(HEADER_FIELDS)
        value = self._number(parts.header[at : at + size])
        if at == 8 and self.random.random() < 0.5:
            value = (1 << self.random.randrange(9, 17)).to_bytes(4)
        if at == 96 and self.random.random() < 0.5:
            value = b"LSYN"
        parts.header = parts.header[:at] + value + parts.header[at + size :]

    def _frame_head(self, parts: Parts) -> None:
        if parts.frames:
            frame = self.random.choice(parts.frames)
            at, size = self.random.choice(((0, 4), (4, 2), (6, 4)))
            if at < len(frame.head):
                frame.head = frame.head[:at] + self._number(frame.head[at : at + size]) + frame.head[at + size :]

    def _body(self, parts: Parts) -> None:
        if parts.frames:
            frame = self.random.choice(parts.frames)
            if self.random.random() < 0.2:
                frame.page = self.random.randbytes(self.random.choice((0, 1, 256, 512, 513, 1024, 4096, 65536)))
                frame.body = lz4.block.compress(frame.page, store_size=False)
            else:
                frame.body = self._raw(bytearray(frame.body))
            if len(frame.head) == 10:
                if self.random.random() < 0.9:
                    frame.head = frame.head[:6] + len(frame.body).to_bytes(4)
                with suppress(lz4.block.LZ4BlockError):
                    frame.page = lz4.block.decompress(frame.body, uncompressed_size=1 << 16)

    def _frame_list(self, parts: Parts) -> None:
        rng, frames = self.random, parts.frames
        at = rng.randrange(len(frames) + 1)
        match rng.randrange(4):
            case 0:
                del frames[at : at + 1]
            case 1:
                frames[at:at] = deepcopy(frames[:1])
            case 2:
                rng.shuffle(frames)
            case _:
                page_size = int.from_bytes(parts.header[8:12])
                page = bytes(page_size) if 0 < page_size <= 1 << 16 else b""
                frames.append(Frame.of(rng.choice((1, 4, 5, 6, 2097153, 16385)), page))

    def _index(self, parts: Parts) -> None:
        parts.index = self._raw(bytearray(parts.index))
        if self.random.random() < 0.5:
            parts.index_size = len(parts.index).to_bytes(8)

    def _rest(self, parts: Parts) -> None:
        match self.random.randrange(4):
            case 0:
                parts.marker = self._raw(bytearray(parts.marker))
            case 1:
                parts.index_size = self._number(parts.index_size)
            case 2:
                parts.post_apply = self._number(parts.post_apply)
            case _:
                parts.checksum = self._number(parts.checksum)


def pieces(data: bytes, rng: random.Random) -> list[bytes]:
    """Cut a file: mostly not at all or in a few places, sometimes into single bytes."""
    chance = rng.random()
    if chance < 0.6:
        return [data]
    if chance < 0.62:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 6)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def decode_pieces(parts: list[bytes]) -> LtxFile:
    """Decode a file that arrives in pieces."""
    decoder = Decoder()
    pages = [page for part in parts for page in decoder.feed(part)]
    trailer = decoder.finish()
    assert decoder.header is not None
    return LtxFile(decoder.header, pages, trailer)


def check(data: bytes, rng: random.Random) -> str:
    """Hold one file against the laws; return the reason why it was refused, or "accepted".

    Memory is measured if tracemalloc is running, which slows everything down.
    """
    parts = pieces(data, rng)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        file = decode_pieces(parts)
        outcome = "accepted"
    except LtxFormatError as error:
        outcome = error.reason
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= MEMORY_MAX, f"{peak} bytes of memory for a file of {len(data)}"
    if outcome == "accepted":
        check_written_again(file)
        check_index(data, dict(file.pages), rng)
    elif rng.random() < 1 / 16:
        check_index(data, None, rng)
    return outcome


def check_written_again(file: LtxFile) -> None:
    """Hold the writer against an accepted file."""
    if file.header.commit == 0 and not file.header.tracks_checksum:
        return  # readable, but never to be written (rule 55)
    again = decode_pieces(list(encode(file.header, file.pages, post_apply_checksum=file.trailer.post_apply_checksum)))
    assert (again.header, again.pages) == (file.header, file.pages)


def check_index(data: bytes, pages: dict[int, bytes] | None, rng: random.Random) -> None:
    """Hold `read_page` against a file, and against its pages if the decoder accepted it."""

    def read_at(offset: int, size: int) -> bytes:
        assert offset >= 0 < size, "a read that no storage could answer"
        assert offset + size <= len(data), "a read outside the file"
        return data[offset : offset + size]

    for pgno in rng.sample(range(8), 2) if pages is None else range(8):
        try:
            page = read_page(read_at, len(data), pgno)
        except LtxFormatError:
            assert pages is None, "the index of an accepted file is refused"
        else:
            assert pages is None or page == pages.get(pgno)


def run(count: int, seed: int, *, progress: bool = False) -> Counter[str]:
    """Hold `count` damaged files against the laws; return how often each reason was given."""
    mutator, rng = Mutator(seed), random.Random(-seed)
    outcomes: Counter[str] = Counter()
    started = time.monotonic()
    for number in range(count):
        data = mutator.next()
        if number % 1600 == 0:
            tracemalloc.start()
        elif number % 1600 == 100:
            tracemalloc.stop()
        try:
            outcomes[check(data, rng)] += 1
        except BaseException as error:
            error.add_note(f"file {number} of seed {seed}: {data.hex()}")
            raise
        if progress and number % 100_000 == 99_999:
            print(f"{number + 1} files, {time.monotonic() - started:.0f} s", flush=True)
    tracemalloc.stop()
    return outcomes


def main() -> None:
    """Run from the command line and print how often each reason was given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for outcome, times in run(arguments.count, arguments.seed, progress=True).most_common():
        print(f"{times:9}  {outcome}")
    print(f"peak resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
