"""Rules about the pages that a file holds and about its checksums, shared by reader, writer and those who know more.

Rules 17, 46 to 50 need more than the file: its name, the commit of the file before it, the database checksum before or
after it. Whoever knows these calls `check_name`, `check_growth` and `check_checksums`.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checksum import CHECKSUM_FLAG
from litestream_py.ltx.ids import lock_pgno

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestream_py.ltx.ids import FileName
    from litestream_py.ltx.records import Header, Trailer


def check_page_number(header: Header, previous: int, pgno: int, offset: int | None = None) -> None:
    """Raise LtxFormatError if `pgno` cannot follow page `previous` (0: none) in a file (rules 19 to 22)."""
    if pgno == 0:
        raise LtxFormatError("page-number-zero", "page number 0", offset=offset)
    if pgno <= previous:
        raise LtxFormatError("page-out-of-order", f"page {pgno} after page {previous}", offset=offset)
    if pgno > header.commit:
        raise LtxFormatError("page-above-commit", f"page {pgno} in a database of {header.commit} pages", offset=offset)
    if pgno == lock_pgno(header.page_size):
        raise LtxFormatError("lock-page", f"page {pgno} is the lock page", offset=offset)


def check_complete(header: Header, page_count: int) -> None:
    """Raise LtxFormatError if a snapshot of `page_count` (ascending, valid) pages lacks one; others may (rule 23)."""
    due = _data_pages(header, 0)
    if header.is_snapshot and page_count != due:
        raise LtxFormatError("snapshot-page-missing", f"a snapshot of {due} pages holds {page_count}")


def check_post_apply(header: Header, post_apply_checksum: int) -> None:
    """Raise LtxFormatError if a file of this header cannot have this post-apply checksum (rules 42 to 44)."""
    if not header.tracks_checksum:
        if post_apply_checksum:
            raise LtxFormatError("post-apply-with-no-checksum-flag", "a post-apply checksum despite header flag 0x2")
    elif post_apply_checksum == 0:
        raise LtxFormatError("post-apply-missing", "neither header flag 0x2 nor a post-apply checksum")
    elif not post_apply_checksum & CHECKSUM_FLAG:
        raise LtxFormatError("post-apply-without-flag-bit", "the post-apply checksum lacks its top bit")


def check_file_checksum(stated: int) -> None:
    """Raise LtxFormatError if this cannot be the file checksum of any file: every one has it, with its top bit."""
    if stated == 0:
        raise LtxFormatError("file-checksum-missing", "the file checksum is 0")
    if not stated & CHECKSUM_FLAG:
        raise LtxFormatError("file-checksum-without-flag-bit", "the file checksum lacks its top bit")


def check_name(header: Header, name: FileName) -> None:
    """Raise LtxFormatError "txid-not-of-its-name" if the header's TXIDs are not those of the file's name."""
    if (header.min_txid, header.max_txid) != (name.min_txid, name.max_txid):
        raise LtxFormatError("txid-not-of-its-name", f"{name} holds TXIDs {header.min_txid}-{header.max_txid}")


def check_growth(header: Header, pgnos: Sequence[int], prev_commit: int) -> None:
    """Raise LtxFormatError "growth-page-missing" if a page that the database grew over is not in the file.

    `pgnos` are the file's page numbers as decoded (ascending, valid); `prev_commit` is the commit of the file before it
    in the chain, in pages. Without this rule a restore would leave holes of zeros.
    """
    first = bisect_right(pgnos, prev_commit)
    held, due = len(pgnos) - first, _data_pages(header, prev_commit)
    if held != due:
        raise LtxFormatError(
            "growth-page-missing",
            f"the database grows from {prev_commit} to {header.commit} pages: {due - held} of {due} are missing",
        )


def check_checksums(header: Header, trailer: Trailer, *, before: int | None = None, after: int | None = None) -> None:
    """Compare the checksums that a file carries with those of the database before and after it (None: not known).

    A checksum that the file does not carry is not compared. Raises LtxFormatError "pre-apply-wrong",
    "post-apply-wrong", "lsyn-before-wrong" or "lsyn-after-wrong".
    """
    lsyn = header.lsyn
    for reason, carried, known in (
        ("pre-apply-wrong", header.pre_apply_checksum, before),
        ("post-apply-wrong", trailer.post_apply_checksum, after),
        ("lsyn-before-wrong", lsyn.before if lsyn else 0, before),
        ("lsyn-after-wrong", lsyn.after if lsyn else 0, after),
    ):
        if carried and known is not None and carried != known:
            raise LtxFormatError(reason, f"the file says {carried:016x}, the database is {known:016x}")


def _data_pages(header: Header, above: int) -> int:
    """Count the pages above page `above` that the database has and a file can hold."""
    if header.commit <= above:
        return 0
    return header.commit - above - (above < lock_pgno(header.page_size) <= header.commit)
