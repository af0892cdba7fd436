"""What a replica holds, as `history` tells it: ranges, levels, snapshots, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from litestream_py.clients.factory import open_client
from litestream_py.clients.memory import MemoryClient
from litestream_py.core.levels import LEVELS_DEFAULT
from litestream_py.engine.history import read_history
from litestream_py.errors import ChainGapError, NothingToRestoreError
from tests.support import golden_replicas as golden
from tests.support.chains import sample
from tests.support.listings import name


def test_ranges_levels_and_snapshots() -> None:
    """Each is told with its times from the headers, its TXIDs and its bytes; a snapshot once, of its highest level."""
    history = sample()
    client = history.replica()
    for level, low, high in ((1, 2, 5), (9, 1, 1), (9, 1, 4)):
        history.put(client, level, low, high)
    for txid in (2, 3, 5):
        del client.files[name(f"0:{txid}")]
    found = read_history(client)
    assert [(r.level, r.oldest, r.newest, r.points, r.oldest_ms, r.newest_ms) for r in found.ranges] == [
        (1, 1, 5, 3, 1_000, 5_000), (0, 6, 7, 2, 6_000, 7_000),
    ]  # fmt: skip
    assert [(lvl.level, lvl.files, lvl.min_txid, lvl.max_txid) for lvl in found.levels] == [
        (0, 4, 1, 7), (1, 1, 2, 5), (9, 2, 1, 4),
    ]  # fmt: skip
    assert [(s.info.name, s.timestamp_ms) for s in found.snapshots] == [(name("9:1-1"), 1_000), (name("9:1-4"), 4_000)]
    assert (found.files, found.bytes) == (7, sum(len(stored.body) for stored in client.files.values()))
    assert found.problem is None
    told = json.loads(json.dumps(found.to_json(LEVELS_DEFAULT)))
    assert told["restorable"][0] == {
        "from": "1970-01-01T00:00:01.000Z", "to": "1970-01-01T00:00:05.000Z", "min_txid": "0000000000000001",
        "max_txid": "0000000000000005", "level": 1, "steps": "steps of level 1, made every 30 s", "points": 3,
    }  # fmt: skip
    assert told["snapshots"][1]["txid"] == "0000000000000004"
    assert told["problem"] is None


def test_it_takes_a_listing_and_a_few_timestamps() -> None:
    """Whatever the number of files, only the ends of ranges and the snapshots are asked for."""
    history = sample()
    for _ in range(300):
        history.commit({1}, 10)
    client = history.replica()
    read_history(client)
    assert (client.counts["list"], client.counts["stream"], client.counts["read"]) == (10, 0, 0)
    assert client.counts["timestamp"] <= 3


@pytest.mark.parametrize("case", golden.SOUND)
def test_litestreams_replicas_have_a_history(case: str, tmp_path: Path) -> None:
    """The points of the ranges are the TXIDs that Litestream restored."""
    found = read_history(open_client(f"file://{golden.place(case, tmp_path)}"))
    points = [txid for txid, out in golden.expect(case)["restore_txid"].items() if "sha256" in out]
    assert sum(part.points for part in found.ranges) == len(points)
    assert (str(found.ranges[0].oldest), str(found.ranges[-1].newest)) == (points[0], points[-1])


def test_a_replica_that_is_broken_at_its_end_shows_what_is_left() -> None:
    """The ranges stop in front of the damage, and the problem is told; without any range the problem is the error."""
    client = sample().replica()
    del client.files[name("0:5")]
    found = read_history(client)
    assert found.ranges[-1].newest == 4
    assert isinstance(found.problem, ChainGapError)
    del client.files[name("0:1")]
    with pytest.raises(ChainGapError):
        read_history(client)
    with pytest.raises(NothingToRestoreError):
        read_history(MemoryClient())


def test_a_file_without_a_header_is_left_out(tmp_path: Path) -> None:
    """A snapshot whose header is broken is no snapshot, and the rest is told."""
    client = open_client(sample().folder(tmp_path / "replica"))
    junk = tmp_path / "replica/ltx/9/0000000000000001-0000000000000003.ltx"
    junk.parent.mkdir()
    junk.write_bytes(b"X" * 400)
    found = read_history(client)
    assert [int(s.info.name.max_txid) for s in found.snapshots] == [1]
    assert sum(part.points for part in found.ranges) == 7
    assert found.levels[1].files == 1, "sizes count every file"


def test_what_vanishes_meanwhile_is_listed_again() -> None:
    """Retention may remove a file between the listing and the question for its time."""
    client = sample().replica("timestamp:notfound")
    assert read_history(client).ranges[-1].newest == 7
    assert client.counts["list"] == 20
