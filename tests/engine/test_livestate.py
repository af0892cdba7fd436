"""The comparison with the database on this machine: by lsync's own state, never by opening the database."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from litestream_py.core.pagestate import PageState
from litestream_py.core.position import FileFacts, PositionRecord, WalPosition
from litestream_py.core.verdict import Depth, Outcome
from litestream_py.engine.livestate import EQUAL, compare_live
from litestream_py.engine.replay import replay, replay_order
from litestream_py.engine.verifier import VerifyOptions, verify
from litestream_py.local.meta import MetaDir
from litestream_py.local.pagesums import PageSums
from litestream_py.ltx.checksum import page_checksum
from litestream_py.ltx.ids import TXID
from tests.support.chains import sample


def local_state(folder: Path, txid: int = 7, *, position: int | None = None, wrong_page: int = 0) -> MetaDir:
    """Write the state that a daemon leaves at a TXID; `wrong_page`: another content, with all checksums to match."""
    history = sample()
    if wrong_page:
        history.states[txid][wrong_page] = history.page(wrong_page, 99)
    folder.mkdir()
    meta = MetaDir(folder)
    sums = PageSums.create(meta.pages_crc, history.page_size)
    commit = history.commits[txid]
    sums.write_range(1, np.array([page_checksum(p, history.states[txid][p]) for p in range(1, commit + 1)], np.uint64))
    sums.stamp(TXID(txid), commit)
    sums.close()
    record = PositionRecord(
        TXID(position or txid), history.checksum(txid), history.page_size, commit, WalPosition((1, 2), 32, (3, 4)),
        sealed=True, file=FileFacts(1, 2, 3, 4, 5), file_complete=True,
    )  # fmt: skip
    meta.write_position(record)
    return meta


def state_of_the_replica() -> PageState:
    client = sample().replica()
    return replay(client, replay_order(client.list_level(0)), parallelism=2, advance=lambda _: None).state


def test_the_same_pages_are_equal(tmp_path: Path) -> None:
    """At one TXID with the same checksum of every page."""
    assert compare_live(local_state(tmp_path / "meta").path, state_of_the_replica()) == (EQUAL, None)


def test_the_first_page_that_differs_is_named(tmp_path: Path) -> None:
    """A state that proves itself and is another one than the replica's."""
    words, problem = compare_live(local_state(tmp_path / "meta", wrong_page=6).path, state_of_the_replica())
    assert words == "differs"
    assert problem is not None
    assert (problem.reason, problem.txid) == ("live-differs", 7)
    assert "page 6 is not what the replica has" in problem.detail


def test_another_size_differs(tmp_path: Path) -> None:
    """The same TXID with another number of pages."""
    meta = local_state(tmp_path / "meta", 5)
    sums = PageSums.open(meta.pages_crc)
    assert sums is not None
    sums.stamp(TXID(7), sums.commit)
    sums.close()
    other = local_state(tmp_path / "other")
    meta.position_json.write_bytes(other.position_json.read_bytes())
    words, problem = compare_live(meta.path, state_of_the_replica())
    assert (words, problem is not None) == ("differs", True)


@pytest.mark.parametrize(
    ("txid", "position", "words"),
    [
        (5, None, "the database is at TXID 0000000000000005, the replica at 0000000000000007"),
        (7, 8, "the database is at TXID 0000000000000008, the replica at 0000000000000007, a running daemon is ahead"),
        (5, 7, "the database is at TXID 0000000000000007, the replica at 0000000000000007"),
    ],
)
def test_other_txids_are_not_compared(txid: int, position: int | None, words: str, tmp_path: Path) -> None:
    """A daemon that goes on meanwhile, or a replica that is behind, is no difference."""
    told, problem = compare_live(local_state(tmp_path / "meta", txid, position=position).path, state_of_the_replica())
    assert (told, problem) == (f"not compared: {words}", None)


def test_a_state_that_is_not_whole_is_not_compared(tmp_path: Path) -> None:
    """No folder, a missing or damaged file, page checksums in the middle of a change: not compared, and no problem."""
    state = state_of_the_replica()
    assert compare_live(tmp_path / "none", state) == (f"not compared: no local state in {tmp_path}/none", None)
    meta = local_state(tmp_path / "meta")
    sums = PageSums.open(meta.pages_crc)
    assert sums is not None
    sums.write_range(3, np.array([1 << 63 | 5], np.uint64))
    sums.close()
    before = meta.pages_crc.read_bytes()
    assert compare_live(meta.path, state) == ("not compared: the local state is being changed, or not whole", None)
    assert meta.pages_crc.read_bytes() == before
    meta.position_json.unlink()
    assert compare_live(meta.path, state)[0].startswith("not compared: no local state")


def test_a_full_verification_tells_of_it(tmp_path: Path) -> None:
    """Only --full compares; a difference is a failure."""
    client = sample().replica()
    for depth, words in ((Depth.DEEP, None), (Depth.FULL, "differs")):
        live = tmp_path / f"{depth}"
        local_state(live, wrong_page=2)
        verdict = verify(client, VerifyOptions(depth, live=live))
        assert (verdict.live, "live-differs" in {p.reason for p in verdict.problems}) == (words, words is not None)
    assert verdict.outcome is Outcome.FAILED
