"""Verdicts as values: which outcome and exit code, what a listing has lost, and what does not count as a loss."""

from __future__ import annotations

import json

import pytest

from litestream_py.core.verdict import Depth, Outcome, Problem, Span, Verdict, assess, short_files
from litestream_py.errors import AccessDeniedError, ExitCode, LsyncError, NothingToRestoreError, TransientNetworkError
from litestream_py.ltx.ids import TXID
from tests.support.listings import file, files, name

BAD = Problem("truncated", "cut", name("0:5"), TXID(5))
DENIED = AccessDeniedError("list", "s3://b/x", "no")


@pytest.mark.parametrize(
    ("problems", "lost", "prevented", "outcome", "code"),
    [
        ((), 0, None, Outcome.OK, ExitCode.OK),
        ((BAD,), 0, None, Outcome.FAILED, ExitCode.CORRUPT),
        ((), 2, None, Outcome.FAILED, ExitCode.CORRUPT),
        ((BAD,), 0, DENIED, Outcome.FAILED, ExitCode.CORRUPT),
        ((), 0, DENIED, Outcome.INCONCLUSIVE, ExitCode.ACCESS_DENIED),
        ((), 0, NothingToRestoreError("verify", "x", "empty"), Outcome.INCONCLUSIVE, ExitCode.NOTHING_TO_RESTORE),
        ((), 0, TransientNetworkError("list", "x", "down"), Outcome.INCONCLUSIVE, ExitCode.UNREACHABLE),
    ],
)
def test_the_outcome_follows_from_what_was_found(
    problems: tuple[Problem, ...], lost: int, prevented: LsyncError | None, outcome: Outcome, code: ExitCode
) -> None:
    """Anything wrong or lost is a failure, whether or not the rest could be seen; nothing seen is never ok."""
    verdict = Verdict(url="x", depth=Depth.DEEP, problems=problems, lost=Span(lost), prevented=prevented)
    assert (verdict.outcome, verdict.exit_code) == (outcome, code)


def test_the_first_bad_file_is_named_before_what_has_no_file() -> None:
    """A gap or a comparison without a file to blame comes second."""
    other = Problem("live-differs", "page 1", None, TXID(1))
    assert Verdict(url="x", depth=Depth.FULL, problems=(other, BAD)).first_bad == BAD
    assert Verdict(url="x", depth=Depth.FULL, problems=(other,)).first_bad == other
    assert Verdict(url="x", depth=Depth.FULL).first_bad is None
    assert str(BAD) == f"{BAD.name}: cut [truncated]"


def test_json_has_every_field() -> None:
    """TXIDs are 16 hex digits, what is not known is null, and the checksum says where it comes from."""
    verdict = Verdict(
        url="x", depth=Depth.DEEP, problems=(BAD,), newest=TXID(9), restorable=Span.of([TXID(1), TXID(4)]),
        lost=Span.of([TXID(5)]), files=3, read_bytes=7, states=2, proven=2, checksum=1 << 63, duration_s=0.25,
    )  # fmt: skip
    assert json.loads(json.dumps(verdict.to_json())) == {
        "replica": "x", "verdict": "failed", "depth": "deep", "newest_txid": "0000000000000009",
        "problems": [
            {"reason": "truncated", "detail": "cut", "file": str(BAD.name), "txid": "0000000000000005"},
        ],
        "prevented": None,
        "restorable": {"count": 2, "first": "0000000000000001", "last": "0000000000000004"},
        "lost": {"count": 1, "first": "0000000000000005", "last": "0000000000000005"},
        "unused_files": 0, "files": 3, "read_bytes": 7, "states": 2, "proven_states": 2,
        "checksum": "verified (8000000000000000)", "integrity_check": None, "live": None, "duration_ms": 250,
    }  # fmt: skip
    assert Verdict(url="x", depth=Depth.QUICK).proof == "not rebuilt"
    assert Verdict(url="x", depth=Depth.DEEP, states=1).proof == "not carried by this chain"


@pytest.mark.parametrize(
    ("listing", "damaged", "gaps", "restorable", "lost", "unused"),
    [
        ("0:1 0:2 0:3", "", [], 3, 0, 0),
        ("0:1 0:2 0:4 0:5", "", [3], 2, 2, 0),
        ("0:2 0:3", "", [1], 0, 2, 0),
        ("0:1 0:3 0:5 9:1-3", "", [4], 2, 1, 0),
        ("0:1 0:2 0:3 0:4", "0:3", [], 2, 2, 0),  # what comes behind damage is lost, and no gap
        ("0:1 0:2 0:3 1:2-3", "0:2", [], 2, 1, 0),
        ("0:1 0:2 0:3 1:2-3 9:1-2", "0:2", [], 3, 0, 0),
        ("9:1-20 1:2-10 1:11-20 1:21-30 0:29 0:30", "", [], 2, 0, 2),  # L0 thinned within a step of L1
        ("9:1-20 1:21-30 0:32 0:33", "", [31], 2, 2, 0),
        ("9:1-20 9:1-40 0:30 0:41", "", [21], 3, 1, 0),  # nothing leads over 30
        ("9:1-20 1:21-30 0:30", "", [], 2, 0, 0),  # thinned: the end can be had otherwise
        ("9:1-5 9:1-20 0:21", "", [], 3, 0, 0),  # snapshots that are always kept
        ("9:1-20 0:4 0:9", "", [], 1, 0, 2),  # an interrupted retention
    ],
)
def test_what_a_listing_can_restore(
    listing: str, damaged: str, gaps: list[int], restorable: int, lost: int, unused: int
) -> None:
    """Missing TXIDs are named once; what lies before the oldest base, and what can be had otherwise, is no loss."""
    found = assess(files(listing), [name(short) for short in damaged.split()])
    assert [problem.txid for problem in found.gaps] == gaps
    assert (found.restorable.count, found.lost.count, found.unused) == (restorable, lost, unused)


def test_a_gap_tells_what_is_missing() -> None:
    """One TXID or a range, and the file that stands behind it."""
    (one,) = assess(files("0:1 0:3"), []).gaps
    assert str(one).startswith(f"{name('0:3')}: TXID 0000000000000002 is missing, no file leads up to this one")
    (several,) = assess(files("0:1 0:2 0:9"), []).gaps
    assert several.detail.startswith("TXIDs 0000000000000003 to 0000000000000008 are missing")


def test_short_files_are_seen_in_the_listing() -> None:
    """Fewer bytes than the shortest LTX file is a problem without a look inside."""
    (problem,) = short_files([file("0:1"), file("0:2", size=0), file("0:3", size=131)])
    assert (problem.name, problem.reason, problem.txid) == (name("0:2"), "truncated", TXID(2))


def test_spans_in_words() -> None:
    """None, one, several."""
    assert [str(Span.of([TXID(n) for n in range(1, end)])) for end in (1, 2, 4)] == [
        "no TXID", "TXID 0000000000000001", "3 TXIDs from 0000000000000001 to 0000000000000003",
    ]  # fmt: skip
