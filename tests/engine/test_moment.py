"""Points in time: what Litestream chose, read from headers, around damage and never in front of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from litestream_py.clients.factory import open_client
from litestream_py.clients.memory import MemoryClient
from litestream_py.core.ports import ReplicaClient
from litestream_py.core.restore import DamagedFileError
from litestream_py.core.when import parse_when
from litestream_py.engine.moment import RELIST_MAX, Moment, resolve, timestamps
from litestream_py.engine.restorer import Integrity, RestoreOptions, restore_txid
from litestream_py.errors import ChainGapError, NotFoundError, TargetError, TransientNetworkError
from litestream_py.ltx.ids import TXID
from tests.support import golden_replicas as golden
from tests.support.chains import sample

NO_CHECK = RestoreOptions(integrity=Integrity.NONE)
LATER_MS = 1 << 60


def choices(case: str) -> list[tuple[int, str | None]]:
    """Return the case's points in time with the TXID that Litestream chose, None where it refused."""
    found = golden.expect(case)["restore_timestamp"]
    return [(parse_when(item["timestamp"], LATER_MS), item.get("txid")) for item in found]


def check_choices(client: ReplicaClient, case: str) -> None:
    expected = golden.expect(case)
    newest = expected["restore_latest"]["txid"]
    bases = [file for file in expected["files"] if Path(file["path"]).name.startswith(f"{1:016x}")]
    oldest_ms = min(file["mtime_ms"] for file in bases)
    for at_ms, txid in choices(case):
        if txid is None and at_ms <= oldest_ms:
            with pytest.raises(TargetError, match="nothing is as old as"):
                resolve(client, Moment(at_ms))
            continue
        # Named by its URL, Litestream refuses every time after the newest file: not copied, the newest state is meant.
        assert str(resolve(client, Moment(at_ms)).txid) == (txid or newest), f"at {at_ms}"


@pytest.mark.parametrize("case", golden.SOUND)
def test_litestreams_choices_are_ours(case: str, tmp_path: Path) -> None:
    """In every sound golden replica each listed time means the TXID that Litestream chose, or is refused as there."""
    client = open_client(f"file://{golden.place(case, tmp_path)}")
    check_choices(client, case)
    at_ms, txid = next(item for item in reversed(choices(case)) if item[1] is not None)
    path = tmp_path / "out.db"
    result = restore_txid(client, path, Moment(at_ms), NO_CHECK)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == golden.expect(case)["restore_txid"][txid]["sha256"]
    assert (str(result.txid), result.timestamp_ms < at_ms) == (txid, True)


def test_the_s3_layout_is_read_by_its_metadata() -> None:
    """Objects whose listing shows the upload are told apart by their timestamps."""
    client = MemoryClient()
    for name, body, timestamp_ms in golden.s3_objects():
        client.put(name, body, timestamp_ms=timestamp_ms)
    for at_ms, txid in choices("s3-layout"):
        if txid is not None:
            assert str(resolve(client, Moment(at_ms)).txid) == txid


def test_a_copied_folder_keeps_its_times(tmp_path: Path) -> None:
    """A copy that lost every mtime answers as the original: the time is that of the header."""
    root = golden.place("multi-level", tmp_path)
    for path in root.rglob("*.ltx"):
        os.utime(path, (0, 0))
    check_choices(open_client(f"file://{root}"), "multi-level")


# Where Litestream gives an older state for a time behind the damage, we give none: that is data loss without a word.
@pytest.mark.parametrize(
    ("case", "last_good", "error"),
    [
        ("damaged-gap", 3, ChainGapError),
        ("damaged-no-snapshot", 0, ChainGapError),
        ("damaged-truncated-file", 4, DamagedFileError),
        ("damaged-bit-flip", 5, DamagedFileError),
    ],
)
def test_a_time_behind_damage_is_an_error_and_no_older_state(
    case: str, last_good: int, error: type[Exception], tmp_path: Path
) -> None:
    """Up to the damage the states are Litestream's; behind it there is an error with exit code 6, and no file."""
    client = open_client(f"file://{golden.place(case, tmp_path)}")
    ends = {int(f["path"].rsplit("-", 1)[1][:16], 16): f["mtime_ms"] for f in golden.expect(case)["files"]}
    path = tmp_path / "out.db"
    for txid, at_ms in sorted(ends.items()):
        if txid <= last_good:
            assert restore_txid(client, path, Moment(at_ms + 1), RestoreOptions(force=True)).txid == txid
            path.unlink()
        else:
            with pytest.raises(error):
                restore_txid(client, path, Moment(at_ms + 1))
    assert not path.exists()


def test_a_file_without_a_header_does_not_hide_what_is_before_it(tmp_path: Path) -> None:
    """An empty newest file (its time is not known) leaves every earlier time to be restored."""
    client = open_client(f"file://{golden.place('damaged-empty-newest', tmp_path)}")
    for at_ms, txid in choices("damaged-empty-newest"):
        if txid is not None and int(txid, 16) <= 6:
            assert str(resolve(client, Moment(at_ms)).txid) == txid


def test_a_damaged_header_is_gone_around(tmp_path: Path) -> None:
    """Where another level tells the time too, a file with a broken header is left out and named."""
    history = sample()
    client = open_client(history.folder(tmp_path / "replica"))
    for txid in range(1, 8):
        name, body = history.file(9, 1, txid)
        client.put(name, body, timestamp_ms=0)
    bad = tmp_path / "replica/ltx/0/0000000000000004-0000000000000004.ltx"
    bad.write_bytes(b"X" * bad.stat().st_size)
    found = resolve(client, Moment(4_001))
    assert (found.txid, [str(name) for name in found.damaged]) == (TXID(4), [f"0/{bad.name}"])
    result = restore_txid(client, tmp_path / "out.db", Moment(4_001))
    assert (result.txid, (tmp_path / "out.db").read_bytes()) == (4, history.image(4))


def test_every_time_means_the_last_state_strictly_before_it(tmp_path: Path) -> None:
    """A state stamped with the very millisecond is not included, a millisecond later it is; its bytes are exact."""
    history = sample()
    client = history.replica()
    for txid in range(1, 8):
        for at_ms, wanted in ((1_000 * txid, txid - 1), (1_000 * txid + 1, txid)):
            if wanted:
                path = tmp_path / f"{at_ms}.db"
                result = restore_txid(client, path, Moment(at_ms))
                assert (result.txid, result.timestamp_ms, path.read_bytes()) == (
                    wanted, 1_000 * wanted, history.image(wanted),
                )  # fmt: skip
    window = r"can be restored: 1970-01-01T00:00:01\.000Z .*: every transaction"
    with pytest.raises(TargetError, match=window) as caught:
        restore_txid(client, tmp_path / "none.db", Moment(1_000))
    assert (caught.value.exit_code, caught.value.hint) == (1, "give a time after 1970-01-01T00:00:01.000Z")


def test_lookups_are_few_and_repeated_after_a_fault() -> None:
    """A time among 500 files takes some nine lookups; a transient fault is tried again, and at last told."""
    history = sample()
    for _ in range(500):
        history.commit({1}, 10)
    client = history.replica("timestamp:503*2")
    assert resolve(client, Moment(250_001)).txid == 250
    assert client.counts["timestamp"] <= 2 + 10
    with pytest.raises(TransientNetworkError):
        resolve(history.replica("timestamp:timeout*"), Moment(250_001))


def test_a_vanished_file_is_a_reason_to_list_again() -> None:
    """When retention removes what is being asked, the next listing decides; one that never settles is told."""
    history = sample()
    client = history.replica("timestamp:notfound*2")
    assert resolve(client, Moment(4_500)).txid == 4
    assert client.counts["list"] == 3 * 10
    client.rewrite("timestamp:notfound*")
    with pytest.raises(NotFoundError):
        resolve(client, Moment(4_500))
    assert client.counts["timestamp"] >= RELIST_MAX


def test_each_file_is_asked_once() -> None:
    """The lookup remembers: two questions about one file are one request."""
    client = sample().replica()
    lookup = timestamps(client)
    info = client.list_level(0)[2]
    assert (lookup(info), lookup(info)) == (3_000, 3_000)
    assert client.counts["timestamp"] == 1
