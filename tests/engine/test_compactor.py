"""Compaction: the merged file stands for its inputs, byte for byte; a damaged or foreign input stops it unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import lz4.block
import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.clients.factory import open_client
from litestream_py.clients.memory import MemoryClient, Stored
from litestream_py.core.ports import FileInfo
from litestream_py.engine.compactor import Compacted, DamagedInputError, compact
from litestream_py.engine.fetch import list_replica
from litestream_py.errors import (
    ChainGapError,
    CorruptError,
    DatabaseBusyError,
    LsyncError,
    NotFoundError,
    PreconditionError,
    TransientNetworkError,
)
from litestream_py.local.meta import MetaDir
from litestream_py.ltx.decoder import LtxFile, decode
from litestream_py.ltx.encoder import encode
from litestream_py.ltx.ids import TXID, FileName
from litestream_py.ltx.records import Header
from tests.support.chains import History, sample
from tests.support.ltx_parts import Frame, Parts
from tests.support.ltx_strategies import unhurried

ROOT = Path(__file__).resolve().parents[2]
Case = tuple[History, list[tuple[int, int]]]
"""A history, and the ranges of TXIDs of the files to merge."""


def name(level: int, low: int, high: int) -> FileName:
    return FileName(level, TXID(low), TXID(high))


def stored(client: MemoryClient, names: Sequence[FileName]) -> list[FileInfo]:
    """Return these files as a listing shows them."""
    return [FileInfo(name, len(client.files[name].body), client.files[name].timestamp_ms) for name in names]


def replica(history: History, cuts: Sequence[tuple[int, int]], level: int = 0) -> tuple[MemoryClient, list[FileInfo]]:
    """Return a replica with a file for each of these ranges of TXIDs, and the files."""
    client = MemoryClient()
    names = [history.put(client, level, low, high) for low, high in cuts]
    return client, stored(client, names)


@pytest.fixture
def meta(tmp_path: Path) -> MetaDir:
    """A local state without any file."""
    return empty(tmp_path)


def empty(folder: Path) -> MetaDir:
    meta = MetaDir(folder / "meta")
    meta.l0.mkdir(parents=True)
    return meta


def merged(client: MemoryClient, meta: MetaDir, inputs: Sequence[FileInfo]) -> tuple[Compacted, LtxFile]:
    """Compact into the next level; returns what was said, and the file."""
    first, last = inputs[0].name, inputs[-1].name
    output = name(first.level + 1, first.min_txid, last.max_txid)
    done = compact(client, meta, inputs, output)
    assert done.name == output
    body = client.files[output].body
    assert done.size == len(body)
    return done, decode(body, expect=output)


# --- what comes out ---------------------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw the history of a database that grows and shrinks, and adjoining ranges of its TXIDs behind the first."""
    history = History()
    history.commit(set(), draw(st.integers(1, 12)))
    for _ in range(draw(st.integers(1, 9))):
        history.commit(draw(st.sets(st.integers(1, 14), max_size=6)) | {1}, draw(st.integers(1, 14)))
    inner = st.integers(2, history.newest + 1)
    cuts = sorted(draw(st.sets(inner, min_size=2, max_size=history.newest)) if history.newest > 2 else {2, 3})
    return history, [(low, high - 1) for low, high in pairwise(cuts)]


@unhurried
@given(case=cases())
def test_it_stands_for_its_inputs(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    """On the state before them, the output gives what its inputs give; it holds the pages they changed, no other."""
    history, cuts = case
    client, inputs = replica(history, cuts, level=1)
    before = dict(client.files)
    done, file = merged(client, empty(tmp_path_factory.mktemp("case")), inputs)
    low, high = cuts[0][0], cuts[-1][1]
    state, pages = history.states[high], dict(file.pages)
    assert {pgno: page for pgno, page in (history.states[low - 1] | pages).items() if pgno in state} == state
    changed = {pgno for txid in range(low, high + 1) for pgno in history.touched[txid]}
    assert set(pages) == changed & set(state)
    header = file.header
    assert (header.min_txid, header.max_txid, header.commit) == (low, high, history.commits[high])
    assert header.timestamp_ms == done.timestamp_ms == client.files[done.name].timestamp_ms == 1_000 * high
    assert (header.wal_offset, header.wal_size, header.wal_salt1, header.wal_salt2) == (0, 0, 0, 0)
    assert header.lsyn is not None
    assert header.lsyn.before == history.checksum(low - 1)
    assert header.lsyn.after == history.checksum(high)
    assert {name: body for name, body in client.files.items() if name != done.name} == before
    assert done.pages == len(pages)


def test_pages_above_the_final_commit_are_dropped(meta: MetaDir) -> None:
    """A page that a later input has cut off is not in the output, though an earlier one holds it."""
    history = sample()
    client, inputs = replica(history, [(2, 2), (3, 3), (4, 4)])
    assert {pgno for pgno in history.touched[3] if pgno > history.commits[4]}
    _, file = merged(client, meta, inputs)
    assert [pgno for pgno, _ in file.pages] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("first", "last"), [(False, True), (True, False), (False, False)])
def test_checksums_that_an_input_lacks(meta: MetaDir, first: bool, last: bool) -> None:
    """Beside a file that Litestream wrote there is no checksum to carry: none is made up."""
    history, client = sample(), MemoryClient()
    names = [history.put(client, 0, 2, 2, lsyn=first), history.put(client, 0, 3, 3, lsyn=last)]
    _, file = merged(client, meta, stored(client, names))
    assert file.header.lsyn is None


def literal(body: bytes) -> bytes:
    """Return a file whose blocks are not compressed at all: LZ4 literals, as no encoder of ours makes them."""
    parts = Parts.split(body)
    for frame in parts.frames:
        size = len(frame.page) - 15
        frame.body = b"\xf0" + b"\xff" * (size // 255) + bytes([size % 255]) + frame.page
        frame.head = frame.head[:6] + len(frame.body).to_bytes(4)
    parts.index_again()
    parts.sum_again()
    return parts.join()


def legacy(body: bytes) -> bytes:
    """Return a file whose pages are LZ4 frames without flag 1, as older writers made them."""
    parts = Parts.split(body)
    parts.frames = [
        Frame(frame.head[:4] + bytes(2), lz4.frame.compress(frame.page), frame.page) for frame in parts.frames
    ]
    parts.index_again()
    parts.sum_again()
    return parts.join()


def rewritten(client: MemoryClient, inputs: list[FileInfo], change: Callable[[bytes], bytes]) -> list[FileInfo]:
    """Change the bodies of files; returns their new listing."""
    for info in inputs:
        client.files[info.name] = replace(client.files[info.name], body=change(client.files[info.name].body))
    return stored(client, [info.name for info in inputs])


def test_blocks_are_copied_as_they_are(meta: MetaDir) -> None:
    """Each frame of the output is, byte for byte, the frame of the newest input that holds its page."""
    client, inputs = replica(sample(), [(2, 2), (3, 3), (4, 4), (5, 5)])
    inputs = rewritten(client, inputs, literal)
    newest: dict[int, bytes] = {}
    for info in inputs:
        newest |= {frame.pgno: frame.head + frame.body for frame in Parts.split(client.files[info.name].body).frames}
    done, _ = merged(client, meta, inputs)
    frames = Parts.split(client.files[done.name].body).frames
    assert [frame.head + frame.body for frame in frames] == [newest[frame.pgno] for frame in frames]
    assert len(frames[0].body) > len(frames[0].page)


def test_legacy_frames_come_out_as_blocks(meta: MetaDir) -> None:
    """Pages that older writers stored as LZ4 frames are taken over, in the form that is written today."""
    history = sample()
    client, inputs = replica(history, [(2, 2), (3, 3)])
    inputs = rewritten(client, inputs[:1], legacy) + inputs[1:]
    done, file = merged(client, meta, inputs)
    assert dict(file.pages) == {pgno: history.states[3][pgno] for pgno in history.touched[2] | history.touched[3]}
    assert {len(frame.head) for frame in Parts.split(client.files[done.name].body).frames} == {10}


# --- where the inputs come from ---------------------------------------------------------------------------------------


def test_local_files_are_not_fetched(meta: MetaDir) -> None:
    """What this machine still has is read here; what is gone is fetched; the output is the same."""
    history = sample()
    client, inputs = replica(history, [(2, 2), (3, 3), (4, 4)])
    for info in inputs:
        meta.l0_path(info.name).write_bytes(client.files[info.name].body)
    done, _ = merged(client, meta, inputs)
    assert done.fetched_bytes == 0
    assert client.counts["stream"] == client.counts["read"] == 0
    local = client.files.pop(done.name)
    meta.l0_path(inputs[1].name).unlink()
    done, _ = merged(client, meta, inputs)
    assert done.fetched_bytes == inputs[1].size
    assert client.files[done.name] == local


@pytest.mark.parametrize("damage", [lambda body: body[:-1], lambda body: body[:-1] + bytes([body[-1] ^ 1])])
def test_a_damaged_local_file_is_fetched(meta: MetaDir, damage: Callable[[bytes], bytes]) -> None:
    """A local copy of another length, or damaged since, is passed over for the replica's."""
    client, inputs = replica(sample(), [(2, 2), (3, 3)])
    for info in inputs:
        meta.l0_path(info.name).write_bytes(client.files[info.name].body)
    path = meta.l0_path(inputs[0].name)
    path.write_bytes(damage(path.read_bytes()))
    done, _ = merged(client, meta, inputs)
    assert done.fetched_bytes == inputs[0].size


def test_only_level_0_is_here(meta: MetaDir) -> None:
    """An L0 file that this machine has is not taken for a file of the same TXIDs at a higher level."""
    history = sample()
    client, inputs = replica(history, [(2, 2), (3, 3)], level=1)
    for info in inputs:
        meta.l0_path(info.name).write_bytes(b"x" * info.size)
    done, _ = merged(client, meta, inputs)
    assert done.fetched_bytes == sum(info.size for info in inputs)


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(client: MemoryClient, meta: MetaDir, inputs: Sequence[FileInfo]) -> LsyncError:
    """Compact in vain; nothing becomes visible, nothing stays behind."""
    before = dict(client.files)
    with pytest.raises(LsyncError) as caught:
        merged(client, meta, inputs)
    assert client.files == before
    assert [path.name for path in meta.path.iterdir()] == ["ltx"]
    return caught.value


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda body: body[:-1],
    "cut in its header": lambda body: body[:50],
    "longer": lambda body: body + b"\0",
    "flipped in a page": lambda body: body[:120] + bytes([body[120] ^ 1]) + body[121:],
    "flipped in the trailer": lambda body: body[:-1] + bytes([body[-1] ^ 1]),
    "zeros": lambda body: bytes(len(body)),
    "another file": lambda _: sample().file(0, 6, 6)[1],
}


@pytest.mark.parametrize(
    ("what", "listed"),
    # What is behind the size of an old listing is not read.
    [
        (what, listed)
        for what in DAMAGE
        for listed in ("as it is", "as it was")
        if (what, listed) != ("longer", "as it was")
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_damaged_input(meta: MetaDir, what: str, at: int, listed: str) -> None:
    """A damaged input is named by the error, and nothing becomes visible."""
    client, inputs = replica(sample(), [(2, 2), (3, 3), (4, 4)])
    found = rewritten(client, [inputs[at]], DAMAGE[what])
    if listed == "as it is":
        inputs[at : at + 1] = found
    error = refused(client, meta, inputs)
    assert isinstance(error, DamagedInputError)
    assert error.name == inputs[at].name
    assert str(inputs[at].name) in str(error)


def test_every_flipped_bit_of_an_input(meta: MetaDir) -> None:
    """Whatever byte of an input is wrong, the compaction is refused, unless all its pages still decode to the same."""
    history = sample()
    client, inputs = replica(history, [(2, 2), (3, 3)])
    body = client.files[inputs[0].name].body
    same = 0
    for at in range(len(body)):
        damaged = body[:at] + bytes([body[at] ^ (1 << at % 8)]) + body[at + 1 :]
        client.files[inputs[0].name] = Stored(damaged, 2_000)
        try:
            done, file = merged(client, meta, inputs)
        except DamagedInputError:
            assert len(client.files) == 2
        else:
            assert dict(file.pages) == {p: history.states[3][p] for p in history.touched[2] | history.touched[3]}
            del client.files[done.name]
            same += 1
    assert same < len(body) / 20


def test_a_missing_input(meta: MetaDir) -> None:
    """An input that vanished is an error that says so."""
    client, inputs = replica(sample(), [(2, 2), (3, 3)])
    del client.files[inputs[1].name]
    assert isinstance(refused(client, meta, inputs), NotFoundError)


def test_neighbours_that_do_not_join(meta: MetaDir) -> None:
    """A gap, an overlap, another page size, or another history by its checksums is refused by name."""
    history = sample()
    client, inputs = replica(history, [(2, 2), (4, 4)])
    gap = refused(client, meta, inputs)
    assert isinstance(gap, ChainGapError)
    assert str(inputs[1].name) in str(gap)
    client, inputs = replica(history, [(2, 4), (4, 5)])
    assert isinstance(refused(client, meta, inputs), ChainGapError)

    other = History()
    other.commit(set(), 9)
    other.commit({2}, 9)
    other.commit({3}, 9)
    client, inputs = replica(history, [(2, 2)])
    foreign = stored(client, [other.put(client, 0, 3, 3)])
    diverged = refused(client, meta, inputs + foreign)
    assert isinstance(diverged, ChainGapError)
    assert "does not continue the database" in str(diverged)

    client, inputs = replica(history, [(2, 2)])
    foreign = stored(client, [sample(1024).put(client, 0, 3, 3)])
    error = refused(client, meta, inputs + foreign)
    assert isinstance(error, CorruptError)
    assert "page size changes from 512 to 1024" in str(error)


@pytest.mark.parametrize("fault", ["503", "timeout", "auth", "refused", "cut"])
def test_the_store_refuses_the_output(meta: MetaDir, fault: str) -> None:
    """An error of the store comes out, and the next attempt succeeds."""
    client, inputs = replica(sample(), [(2, 2), (3, 3)])
    client.rewrite(f"put_stream:{fault}")
    refused(client, meta, inputs)
    merged(client, meta, inputs)


def test_an_answer_that_was_lost(meta: MetaDir) -> None:
    """An output that is there already is an error, and stays as it is: the next listing shows it."""
    client, inputs = replica(sample(), [(2, 2), (3, 3)])
    client.rewrite("put_stream:timeout-after")
    with pytest.raises(TransientNetworkError):
        merged(client, meta, inputs)
    assert isinstance(refused(client, meta, inputs), PreconditionError)


def test_ended_from_outside(meta: MetaDir) -> None:
    """At whatever look it is told to stop, nothing becomes visible."""
    client, inputs = replica(sample(), [(2, 2), (3, 3), (4, 4)])
    looks, allowed = 0, 0

    def go_on() -> None:
        nonlocal looks
        looks += 1
        if looks > allowed:
            raise DatabaseBusyError("compact", "it", "enough")

    while name(1, 2, 4) not in client.files:
        before = dict(client.files)
        looks = 0
        try:
            compact(client, meta, inputs, name(1, 2, 4), go_on=go_on)
        except DatabaseBusyError:
            assert client.files == before
        allowed += 1
    assert allowed > len(inputs)


# --- as a process -----------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from litestream_py.clients.factory import open_client
from litestream_py.engine.compactor import compact
from litestream_py.engine.fetch import list_replica
from litestream_py.local.meta import MetaDir
from litestream_py.ltx.ids import TXID, FileName
client = open_client(sys.argv[1])
inputs = [info for info in list_replica(client) if info.name.level == 0]
done = compact(client, MetaDir(Path(sys.argv[2])), inputs, FileName(1, TXID(2), TXID(int(sys.argv[3]))))
# Not ru_maxrss: that of a child begins with what the process had that it was forked from.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak) // 1024, done.pages, done.fetched_bytes)
"""


def run(url: str, meta: MetaDir, top: int, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    """Compact L0 of a replica up to a TXID in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, url, str(meta.path), str(top)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "LSYNC_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.fault
@pytest.mark.parametrize(("failpoint", "there"), [("compact.before_put", False), ("compact.after_put", True)])
def test_killed_there(tmp_path: Path, meta: MetaDir, failpoint: str, there: bool) -> None:
    """A kill leaves the whole output or none of it, and nothing else."""
    url, history = f"file://{tmp_path}/replica", sample()
    client = open_client(url)
    for txid in (2, 3, 4):
        client.put(*history.file(0, txid, txid), timestamp_ms=1_000 * txid)
    assert run(url, meta, 4, failpoint).returncode == -9
    assert (name(1, 2, 4) in [info.name for info in list_replica(client)]) == there
    if not there:
        assert run(url, meta, 4).returncode == 0
    found = client.read(name(1, 2, 4), size=1 << 20)
    pages = dict(decode(found, expect=name(1, 2, 4)).pages)
    assert pages == {pgno: history.states[4][pgno] for pgno in range(1, 6)}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in files) == [".ltx"] * 4


def peak_mib(folder: Path, mib: int) -> int:
    """Compact four L0 files of so many MiB together, fetched; returns the peak memory of the process in MiB."""
    folder.mkdir()
    url, count = f"file://{folder}/replica", mib * 256 // 4
    client = open_client(url)
    for txid in range(2, 6):
        header = Header(4096, 4 * count, TXID(txid), TXID(txid), 1_000 * txid)
        first = 1 + (txid - 2) * count
        pages = ((pgno, os.urandom(512) * 8) for pgno in range(first, first + count))
        client.put_stream(name(0, txid, txid), encode(header, pages), timestamp_ms=1_000 * txid)
    done = run(url, empty(folder), 5)
    assert done.returncode == 0, done.stderr
    peak, found, fetched = map(int, done.stdout.split())
    assert found == 4 * count
    assert fetched == sum(info.size for info in list_replica(client) if info.name.level == 0)
    return peak


def test_memory_does_not_depend_on_the_size(tmp_path: Path) -> None:
    """Compacting 64 MiB takes no more than a few MiB above what 8 MiB take, and less than 90 MiB in all."""
    small, large = peak_mib(tmp_path / "small", 8), peak_mib(tmp_path / "large", 64)
    assert large - small < 8
    assert large < 90
