"""`position.json`: where in the WAL the newest local L0 ends, and what the database file looked like then.

One JSON object, one line. Every integer that is a checksum, salt or TXID is written in hex. Field `checksum` is the
CRC-64/ISO of the object without it (keys sorted, no spaces). `file_complete` tells that the database file alone,
without any WAL, was the state at `txid`: only then may an absent WAL be taken for "nothing happened".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from litestream_py.ltx.checksum import crc64
from litestream_py.ltx.ids import TXID

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What identifies the database file and tells whether somebody wrote to it.

    device, inode: of the file. size: bytes. mtime_ns: Unix nanoseconds. change_counter: header bytes 24 to 27.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    change_counter: int

    def same_file(self, other: FileFacts) -> bool:
        """Tell whether both describe the same inode."""
        return (self.device, self.inode) == (other.device, other.inode)


@dataclass(frozen=True, slots=True)
class WalPosition:
    """A place between two frames of one WAL generation.

    salts: the generation's (salt-1, salt-2). offset: byte offset in the WAL of the next frame to read, at least 32.
    frame_checksum: running checksum up to there (of the header at offset 32).
    """

    salts: tuple[int, int]
    offset: int
    frame_checksum: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PositionRecord:
    """The content of `position.json`."""

    txid: TXID
    database_checksum: int
    page_size: int
    commit: int
    wal: WalPosition
    sealed: bool
    file: FileFacts
    file_complete: bool

    def encode(self) -> bytes:
        """Return the JSON line with its checksum."""
        fields = {
            "version": VERSION,
            "txid": str(self.txid),
            "database_checksum": f"{self.database_checksum:016x}",
            "page_size": self.page_size,
            "commit": self.commit,
            "salts": [f"{salt:08x}" for salt in self.wal.salts],
            "offset": self.wal.offset,
            "frame_checksum": [f"{part:08x}" for part in self.wal.frame_checksum],
            "sealed": self.sealed,
            "device": self.file.device,
            "inode": self.file.inode,
            "size": self.file.size,
            "mtime_ns": self.file.mtime_ns,
            "change_counter": self.file.change_counter,
            "file_complete": self.file_complete,
        }
        fields["checksum"] = f"{crc64(_canonical(fields)):016x}"
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> PositionRecord | None:
        """Return the record, or None for anything that is damaged, of another version or incomplete."""
        try:
            fields: dict[str, Any] = json.loads(data)
            checksum = fields.pop("checksum")
            if fields["version"] != VERSION or int(checksum, 16) != crc64(_canonical(fields)):
                return None
            salt1, salt2 = (int(salt, 16) for salt in fields["salts"])
            sum1, sum2 = (int(part, 16) for part in fields["frame_checksum"])
            return cls(
                txid=TXID.parse(fields["txid"]),
                database_checksum=int(fields["database_checksum"], 16),
                page_size=fields["page_size"],
                commit=fields["commit"],
                wal=WalPosition((salt1, salt2), fields["offset"], (sum1, sum2)),
                sealed=fields["sealed"],
                file=FileFacts(
                    fields["device"], fields["inode"], fields["size"], fields["mtime_ns"], fields["change_counter"]
                ),
                file_complete=fields["file_complete"],
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
