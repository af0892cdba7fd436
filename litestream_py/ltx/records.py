"""Header, trailer and page frames of an LTX file as values (offset tables and rules 2 to 16: `litestream_py.ltx`)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checksum import CHECKSUM_FLAG
from litestream_py.ltx.ids import TXID, TXID_MAX

if TYPE_CHECKING:
    from litestream_py.ltx.checksum import Buffer

MAGIC: Final = b"LTX1"
NO_CHECKSUM: Final = 0x2
"""Header flag: the file keeps no pre- and post-apply checksum. Every file of Litestream 0.5 and of lsync has it."""
PAGE_FLAG_SIZE: Final = 0x1
"""Page flag: a size and an LZ4 block follow; without it a legacy LZ4 frame."""

HEADER_SIZE: Final = 100
FRAME_HEAD_SIZE: Final = 10
"""Bytes of page number, page flags and block size."""
END_MARKER: Final = bytes(6)
TRAILER_SIZE: Final = 16
PAGE_SIZES: Final = frozenset(1 << bits for bits in range(9, 17))

_HEADER = Struct(">4sIIIQQqQqqIIQ20s")
_LSYN = Struct(">QQ4s")
_LSYN_MARK: Final = b"LSYN"
_TRAILER = Struct(">QQ")


class Lsyn(NamedTuple):
    """Checksums of the whole database that lsync carries in the header's reserved bytes; before is 0 for a snapshot."""

    before: int
    after: int


class RawFrame(NamedTuple):
    """A page with the LZ4 block it came as, so that compaction copies it and need not compress again.

    Whoever makes one vouches that `block` decodes to `data`; `Decoder.frame_batches` does.
    """

    pgno: int
    data: bytes
    block: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """The first 100 bytes: which TXIDs the file holds, what the database is after it, and where in the WAL it ends.

    Units: page_size, wal_offset and wal_size in bytes, commit in pages, timestamp_ms in Unix milliseconds.
    Building one checks nothing; `pack` and `unpack` call `validate`.
    """

    page_size: int
    commit: int
    min_txid: TXID
    max_txid: TXID
    timestamp_ms: int
    _: KW_ONLY
    flags: int = NO_CHECKSUM
    pre_apply_checksum: int = 0
    wal_offset: int = 0
    wal_size: int = 0
    wal_salt1: int = 0
    wal_salt2: int = 0
    node_id: int = 0
    reserved: bytes = field(default=bytes(20), repr=False)

    @property
    def is_snapshot(self) -> bool:
        """Whether the file must hold every page; one with a larger TXID may do so too, but only its pages tell."""
        return self.min_txid == 1

    @property
    def tracks_checksum(self) -> bool:
        """Whether pre- and post-apply checksum are kept."""
        return not self.flags & NO_CHECKSUM

    @property
    def lsyn(self) -> Lsyn | None:
        """The database checksums in the reserved bytes, or None if lsync did not write them."""
        before, after, mark = _LSYN.unpack(self.reserved)
        return Lsyn(before, after) if mark == _LSYN_MARK else None

    def with_lsyn(self, before: int, after: int) -> Header:
        """Return this header with the database checksums (flag bit set; before 0: snapshot) in the reserved bytes."""
        return replace(self, reserved=_LSYN.pack(before, after, _LSYN_MARK))

    def pack(self) -> bytes:
        """Return the 100 bytes; raises LtxFormatError with the rule that a field breaks."""
        self._check_ranges()
        self.validate()
        return _HEADER.pack(
            MAGIC,
            self.flags,
            self.page_size,
            self.commit,
            self.min_txid,
            self.max_txid,
            self.timestamp_ms,
            self.pre_apply_checksum,
            self.wal_offset,
            self.wal_size,
            self.wal_salt1,
            self.wal_salt2,
            self.node_id,
            self.reserved,
        )

    @classmethod
    def unpack(cls, data: Buffer) -> Header:
        """Return the header that the first 100 bytes of `data` hold.

        Raises LtxFormatError: "truncated", "magic", or the rule of `validate` that is broken.
        """
        if len(data) < HEADER_SIZE:
            raise LtxFormatError("truncated", f"{len(data)} bytes are no header of {HEADER_SIZE}", offset=len(data))
        magic, flags, page_size, commit, low, high, timestamp_ms, pre_apply, *wal, node_id, reserved = (
            _HEADER.unpack_from(data)
        )
        if magic != MAGIC:
            raise LtxFormatError("magic", f"begins with {magic!r}, not with {MAGIC!r}", offset=0)
        header = cls(
            page_size,
            commit,
            TXID(low),
            TXID(high),
            timestamp_ms,
            flags=flags,
            pre_apply_checksum=pre_apply,
            wal_offset=wal[0],
            wal_size=wal[1],
            wal_salt1=wal[2],
            wal_salt2=wal[3],
            node_id=node_id,
            reserved=reserved,
        )
        header.validate()
        return header

    def validate(self) -> None:
        """Raise LtxFormatError with the reason of the first of rules 3 to 16 that is broken."""
        if self.flags & ~NO_CHECKSUM:
            raise LtxFormatError("header-flags-unknown", f"header flags {self.flags:#x}: only 0x2 is known", offset=4)
        if self.page_size not in PAGE_SIZES:
            raise LtxFormatError("page-size", f"{self.page_size} is no page size of SQLite", offset=8)
        if self.min_txid == 0:
            raise LtxFormatError("min-txid-zero", "the smallest TXID is 0", offset=16)
        if self.max_txid == 0:
            raise LtxFormatError("max-txid-zero", "the largest TXID is 0", offset=24)
        if self.min_txid > self.max_txid:
            raise LtxFormatError("txids-reversed", f"TXIDs {self.min_txid}-{self.max_txid} are reversed", offset=16)
        self._check_wal_position()
        self._check_pre_apply()
        lsyn = self.lsyn
        if lsyn and not (lsyn.after & CHECKSUM_FLAG and (lsyn.before == 0 or lsyn.before & CHECKSUM_FLAG)):
            raise LtxFormatError("lsyn-without-flag-bit", "a checksum before LSYN lacks its top bit", offset=80)

    def _check_wal_position(self) -> None:
        if self.wal_offset < 0:
            raise LtxFormatError("wal-offset-negative", f"WAL offset {self.wal_offset}", offset=48)
        if self.wal_size < 0:
            raise LtxFormatError("wal-size-negative", f"WAL size {self.wal_size}", offset=56)
        if self.wal_offset == 0 and (self.wal_salt1 or self.wal_salt2):
            raise LtxFormatError("wal-salt-without-offset", "a WAL salt, but no WAL offset", offset=64)
        if self.wal_offset == 0 and self.wal_size:
            raise LtxFormatError("wal-size-without-offset", "a WAL size, but no WAL offset", offset=56)

    def _check_pre_apply(self) -> None:
        value = self.pre_apply_checksum
        if value and self.is_snapshot:
            raise LtxFormatError("pre-apply-in-snapshot", "a snapshot with a pre-apply checksum", offset=40)
        if value and not self.tracks_checksum:
            raise LtxFormatError("pre-apply-with-no-checksum-flag", "a pre-apply checksum despite flag 0x2", offset=40)
        if self.is_snapshot or not self.tracks_checksum:
            return
        if value == 0:
            raise LtxFormatError("pre-apply-missing", "neither flag 0x2 nor a pre-apply checksum", offset=40)
        if not value & CHECKSUM_FLAG:
            raise LtxFormatError("pre-apply-without-flag-bit", "the pre-apply checksum lacks its top bit", offset=40)

    def _check_ranges(self) -> None:
        """Refuse what `struct` could not pack: only a writer can build such a header."""
        for name, low, high in (
            ("commit", 0, 0xFFFFFFFF),
            ("min_txid", 0, TXID_MAX),
            ("max_txid", 0, TXID_MAX),
            ("timestamp_ms", -(1 << 63), (1 << 63) - 1),
            ("pre_apply_checksum", 0, (1 << 64) - 1),
            ("wal_offset", -(1 << 63), (1 << 63) - 1),
            ("wal_size", -(1 << 63), (1 << 63) - 1),
            ("wal_salt1", 0, 0xFFFFFFFF),
            ("wal_salt2", 0, 0xFFFFFFFF),
            ("node_id", 0, (1 << 64) - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise LtxFormatError("header-field-out-of-range", f"cannot encode: {name} {value} does not fit")
        if len(self.reserved) != _LSYN.size:
            raise LtxFormatError("header-field-out-of-range", f"cannot encode: {len(self.reserved)} reserved bytes")


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last 16 bytes: checksum of the database after the file (0: not kept) and of the file."""

    post_apply_checksum: int
    file_checksum: int

    def pack(self) -> bytes:
        """Return the 16 bytes."""
        return _TRAILER.pack(self.post_apply_checksum, self.file_checksum)

    @classmethod
    def unpack(cls, data: Buffer) -> Trailer:
        """Return the trailer that `data`, 16 bytes, holds; whether it is right only the decoder can tell."""
        return cls(*_TRAILER.unpack(data))
