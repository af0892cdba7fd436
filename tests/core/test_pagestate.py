"""The database as page checksums: equal to a recomputation at every TXID, and every kind of contradiction noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from litestream_py.core.pagestate import FilePages, PageState
from litestream_py.errors import LtxFormatError
from litestream_py.ltx.checksum import page_checksum
from litestream_py.ltx.decoder import decode
from tests.support.chains import History, sample


def pages_of(history: History, level: int, low: int, high: int, *, lsyn: bool = True, drop: int = 0) -> FilePages:
    """Return the file of TXIDs low to high as a replay sees it."""
    name, body = history.file(level, low, high, lsyn=lsyn, drop=drop)
    found = decode(body, expect=name)
    return FilePages(
        name,
        found.header,
        found.trailer,
        np.array([pgno for pgno, _ in found.pages], np.uint32),
        np.array([page_checksum(*item) for item in found.pages], np.uint64),
    )


def at(history: History, txid: int, *, lsyn: bool = True) -> PageState:
    """Return the state at a TXID, every file of level 0 applied."""
    state = PageState()
    for number in range(1, txid + 1):
        state.apply(pages_of(history, 0, number, number, lsyn=lsyn))
    return state


def refused(state: PageState, file: FilePages, *, compare: bool = False) -> str:
    """Return the reason that a file is refused for, and see that the state is as it was."""
    before = (state.txid, state.commit, state.checksum, state.page_sums(0, state.commit + 1).tobytes())
    with pytest.raises(LtxFormatError) as caught:
        (state.compare if compare else state.apply)(file)
    assert before == (state.txid, state.commit, state.checksum, state.page_sums(0, state.commit + 1).tobytes())
    return caught.value.reason


@pytest.mark.parametrize("lsyn", [True, False])
def test_every_state_has_the_checksum_of_its_pages(lsyn: bool) -> None:
    """Through growth, changes and shrinking, by single files and merged ones, the checksum is that of the database."""
    history = sample()
    state = PageState()
    for txid in range(1, 8):
        state.apply(pages_of(history, 0, txid, txid, lsyn=lsyn))
        assert (state.txid, state.commit, state.checksum) == (txid, history.commits[txid], history.checksum(txid))
        expected = [page_checksum(p, history.states[txid][p]) for p in range(1, state.commit + 1)]
        assert state.page_sums(1, state.commit).tolist() == expected
    state = at(history, 2, lsyn=lsyn)
    for low, high in ((2, 4), (4, 7)):  # overlapping what is there already
        state.apply(pages_of(history, 1, low, high, lsyn=lsyn))
        assert (state.txid, state.checksum) == (high, history.checksum(high))
    assert set(state.checksums) == {1, 2, 4, 7}


def test_a_base_replaces_what_was_there() -> None:
    """A snapshot behind a gap starts over, smaller or larger than the state before it."""
    history = sample()
    for before, base in ((3, 4), (4, 6)):
        state = at(history, before)
        state.apply(pages_of(history, 9, 1, base))
        assert (state.txid, state.commit, state.checksum) == (base, history.commits[base], history.checksum(base))


def test_only_what_joins_can_be_applied() -> None:
    """A file that leaves a gap or ends at or before the state does not continue it; any base behind it does."""
    history = sample()
    state = at(history, 3)
    continues = {
        (low, high): state.continues(pages_of(history, 1, low, high).name)
        for low, high in ((4, 4), (2, 5), (1, 4), (5, 5), (2, 3), (1, 3))
    }
    assert [pair for pair, yes in continues.items() if yes] == [(4, 4), (2, 5), (1, 4)]


def test_files_that_end_where_the_state_is_are_compared() -> None:
    """Merged files and snapshots that agree pass, with and without checksums of their own."""
    history = sample()
    for txid in range(2, 8):
        state = at(history, txid)
        for low in range(1, txid):
            for lsyn in (True, False):
                state.compare(pages_of(history, 1, low, txid, lsyn=lsyn))


def test_a_wrong_page_is_noticed_by_its_checksum_and_by_other_levels() -> None:
    """One byte of one page: the chain's own checksum shows it when applied, the state when compared."""
    history, other = sample(), sample()
    other.states[5][2] = other.page(2, 99)
    wrong = replace(pages_of(other, 0, 5, 5), header=pages_of(history, 0, 5, 5).header)
    assert refused(at(history, 4), wrong) == "lsyn-after-wrong"
    assert refused(at(history, 5), pages_of(other, 1, 4, 5, lsyn=False), compare=True) == "page-differs"
    assert refused(at(history, 5), pages_of(other, 9, 1, 5), compare=True) == "page-differs"


def test_a_chain_of_two_writers_is_noticed_where_it_forks() -> None:
    """A file that begins with another state than the one before it is refused by what it says of that state."""
    history, other = sample(), sample()
    other.states[4][1] = other.page(1, 99)
    other.states[5] = {pgno: other.states[4].get(pgno, page) for pgno, page in other.states[5].items()}
    assert refused(at(history, 4), pages_of(other, 0, 5, 5)) == "lsyn-before-wrong"


def test_what_is_left_out_is_noticed() -> None:
    """A merged file without a page that changed within it, and one that grew without all pages."""
    history = sample()
    assert refused(at(history, 5), pages_of(history, 1, 4, 5, lsyn=False, drop=4), compare=True) == "page-left-out"
    assert refused(at(history, 2), pages_of(history, 0, 3, 3, lsyn=False, drop=11)) == "growth-page-missing"


def test_growth_counts_from_the_smallest_size_within() -> None:
    """A file that overlaps a shrink must bring back every page that the shrink dropped."""
    history = sample()
    state = at(history, 4)
    file = pages_of(history, 1, 3, 6, lsyn=False, drop=9)
    assert refused(state, file) == "growth-page-missing"
    state.apply(pages_of(history, 1, 3, 6, lsyn=False))


def test_other_sizes_are_noticed() -> None:
    """Another page size, or another number of pages at the same TXID."""
    history = sample()
    assert refused(at(history, 3), pages_of(sample(1024), 0, 4, 4)) == "page-size-differs"
    file = pages_of(history, 9, 1, 4, lsyn=False)
    longer = replace(file, header=replace(file.header, commit=6))
    assert refused(at(history, 4), longer, compare=True) == "commit-differs"
