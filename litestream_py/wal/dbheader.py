"""The header of a database file: is this a database, and in which mode?

The first 100 bytes, numbers big-endian; only what is used here:

| offset | size | field |
|---|---|---|
| 0 | 16 | ``SQLite format 3`` and a zero byte |
| 16 | 2 | page size in bytes, 1 meaning 65536 |
| 18 | 1 | write version: 1 rollback journal, 2 WAL |
| 19 | 1 | read version: the same |
| 20 | 1 | bytes reserved at the end of each page |
| 21 | 3 | payload fractions: 64, 32, 32 |
| 24 | 4 | change counter (in WAL mode not moved by transactions) |
| 28 | 4 | size of the database in pages (trusted only if bytes 24 to 27 equal 92 to 95) |
| 44 | 4 | schema format: 0 to 4 |
| 92 | 4 | change counter for which bytes 28 to 31 hold |

A header is refused if, in this order:
1. it has fewer than 100 bytes (header-short; an empty file is the caller's business),
2. it does not begin with the magic (not-a-database),
3. the page size is impossible (page-size),
4. a version is greater than 2 (journal-version); SQLite takes 0 for 1, and so do we,
5. the payload fractions are others (payload-fractions),
6. fewer than 480 bytes of a page remain usable (reserved-bytes),
7. the schema format is greater than 4 (schema-format),
8. the file is shorter than its first page (first-page-cut).

SQLite refuses for the same reasons, but for two. It opens a file with a greater *write* version read-only, and there
``BEGIN IMMEDIATE`` takes no write lock: we could not hold off a writer that knows that version. And it opens a file
cut inside its first page as long as no schema is in the missing part; no SQLite leaves such a file, except for the
instant in which page 1 of a new database is being written: read again before giving up.

Not refused, because SQLite opens it: any text encoding, a size that is no multiple of the page size (the rest is
ignored), a file shorter than bytes 28 to 31 say (in WAL mode the missing pages may be in the WAL).

Source: https://sqlite.org/fileformat2.html section 1.3; SQLite's behaviour tried with 3.54.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from litestream_py.errors import FormatError
from litestream_py.wal.records import is_page_size

DB_HEADER_SIZE: Final = 100

_MAGIC: Final = b"SQLite format 3\0"
_VERSION_MAX: Final = 2
_WAL_VERSION: Final = 2
_PAYLOAD_FRACTIONS: Final = (64, 32, 32)
_USABLE_MIN: Final = 480
_SCHEMA_FORMAT_MAX: Final = 4
_FIELDS = struct.Struct(">16sH6B2I12xI44xI")


class DbHeaderError(FormatError):
    """A file whose header is not that of a database we can replicate."""

    what = "database header"


@dataclass(frozen=True, slots=True)
class DbHeader:
    """The header of a database file, as the file holds it; a newer page 1 may be in the WAL.

    page_size, reserved: bytes. page_count: size in pages as the header says, or by the file's size where the header is
    not to be trusted.
    """

    page_size: int
    write_version: int
    read_version: int
    reserved: int
    change_counter: int
    page_count: int
    schema_format: int

    @property
    def is_wal(self) -> bool:
        """Whether the database is in WAL mode."""
        return self.read_version == _WAL_VERSION

    @classmethod
    def parse(cls, head: bytes, file_size: int) -> DbHeader:
        """Return the header that the first 100 bytes of a file hold; file_size: of the whole file, in bytes.

        Raises DbHeaderError, its reason the first rule of the module's list that is broken.
        """
        if len(head) < DB_HEADER_SIZE:
            raise DbHeaderError("header-short", f"{len(head)} bytes, a database has at least {DB_HEADER_SIZE}")
        magic, size, write, read, reserved, *fractions, change, pages, schema, valid_for = _FIELDS.unpack_from(head)
        if magic != _MAGIC:
            raise DbHeaderError("not-a-database", "the file does not begin as an SQLite database does", offset=0)
        page_size = 65536 if size == 1 else size
        if not is_page_size(page_size):
            raise DbHeaderError("page-size", f"page size {page_size} is impossible", offset=16)
        if max(write, read) > _VERSION_MAX:
            raise DbHeaderError("journal-version", f"versions {write} and {read}, known are 1 and 2", offset=18)
        if tuple(fractions) != _PAYLOAD_FRACTIONS:
            raise DbHeaderError("payload-fractions", f"payload fractions {fractions}, not 64, 32, 32", offset=21)
        if page_size - reserved < _USABLE_MIN:
            raise DbHeaderError("reserved-bytes", f"{reserved} of {page_size} bytes a page are reserved", offset=20)
        if schema > _SCHEMA_FORMAT_MAX:
            raise DbHeaderError("schema-format", f"schema format {schema}, known are 0 to 4", offset=44)
        if file_size < page_size:
            raise DbHeaderError("first-page-cut", f"the file ends inside page 1 of {page_size} bytes", offset=file_size)
        trusted = pages > 0 and change == valid_for
        return cls(
            page_size=page_size,
            write_version=write,
            read_version=read,
            reserved=reserved,
            change_counter=change,
            page_count=pages if trusted else -(-file_size // page_size),
            schema_format=schema,
        )
