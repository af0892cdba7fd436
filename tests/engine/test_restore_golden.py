"""Every replica that Litestream wrote restores to what Litestream restored from it, or is refused by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from litestream_py.clients.factory import open_client
from litestream_py.clients.memory import MemoryClient
from litestream_py.core.ports import ReplicaClient
from litestream_py.core.restore import DamagedFileError
from litestream_py.engine.restorer import Integrity, RestoreOptions, RestoreResult, restore_txid
from litestream_py.errors import ChainGapError, LsyncError, TargetError
from litestream_py.ltx.ids import TXID
from tests.support import golden_replicas as golden


def restored(client: ReplicaClient, to: Path, txid: str | None) -> tuple[str, RestoreResult]:
    """Restore to a new file; return its SHA-256 and the result, and see that nothing else appeared beside it."""
    to.mkdir(exist_ok=True)
    path = to / "out.db"
    result = restore_txid(client, path, None if txid is None else TXID.parse(txid))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert [entry.name for entry in to.iterdir()] == ["out.db"]
    path.unlink()
    return digest, result


def expect_everything(client: ReplicaClient, case: str, to: Path) -> None:
    expected = golden.expect(case)
    targets = [*expected["restore_txid"].items(), (None, expected["restore_latest"])]
    for txid, out in targets:
        if "error" in out:
            with pytest.raises(TargetError):
                restored(client, to, txid)
            continue
        digest, result = restored(client, to, txid)
        assert (digest, result.size_bytes) == (out["sha256"], out["size"]), f"TXID {txid}"
        assert str(result.txid) == (txid or out["txid"])
        assert result.integrity == (Integrity.FULL if result.checksum is None else Integrity.NONE)


@pytest.mark.parametrize("case", golden.SOUND)
def test_every_txid_restores_to_litestreams_bytes(case: str, tmp_path: Path) -> None:
    """From each sound golden replica every listed TXID, and the newest, restores to the listed SHA-256."""
    client = open_client(f"file://{golden.place(case, tmp_path)}")
    expect_everything(client, case, tmp_path / "out")


def test_the_s3_layout_restores_to_litestreams_bytes(tmp_path: Path) -> None:
    """The objects that Litestream put on MinIO restore to the listed SHA-256 at every listed TXID."""
    client = MemoryClient()
    for name, body, timestamp_ms in golden.s3_objects():
        client.put(name, body, timestamp_ms=timestamp_ms)
    expect_everything(client, "s3-layout", tmp_path / "out")


def test_the_chain_of_checksums_is_proven(tmp_path: Path) -> None:
    """A chain that carries database checksums is proven with them, and the proof is the one of `ltx checksum`."""
    client = open_client(f"file://{golden.place('lsyn-reserved', tmp_path)}")
    for txid, out in golden.expect("lsyn-reserved")["restore_txid"].items():
        if "error" not in out:
            _, result = restored(client, tmp_path / "out", txid)
            assert result.checksum == int(out["ltx_checksum"], 16)


# Where Litestream restores and we refuse, we are stricter on purpose:
# - damaged-wrong-name: the last file claims TXIDs 8-9 and holds 8-8. Litestream restores it and calls it TXID 9, which
#   never existed. A name that lies about its content may hide a file that is missing.
STRICTER = {("damaged-wrong-name", "0000000000000009"), ("damaged-wrong-name", None)}
REASONS: dict[str, type[LsyncError]] = {
    "damaged-gap": ChainGapError,
    "damaged-no-snapshot": ChainGapError,
    "damaged-truncated-file": DamagedFileError,
    "damaged-bit-flip": DamagedFileError,
    "damaged-empty-newest": DamagedFileError,
    "damaged-wrong-name": DamagedFileError,
}


@pytest.mark.parametrize("case", sorted(REASONS))
def test_damage_is_refused_by_name_and_leaves_nothing(case: str, tmp_path: Path) -> None:
    """A damaged replica restores what Litestream restores before the damage; from there on it is exit 6 and no file."""
    client = open_client(f"file://{golden.place(case, tmp_path)}")
    expected = golden.expect(case)
    newest = max(name for file in expected["files"] if (name := file["path"].rsplit("-", 1)[1].removesuffix(".ltx")))
    out_dir = tmp_path / "out"
    for txid, out in [*expected["restore_txid"].items(), (None, expected["restore_latest"])]:
        if "error" not in out and (case, txid) not in STRICTER:
            digest, _ = restored(client, out_dir, txid)
            assert digest == out["sha256"], f"TXID {txid}"
            continue
        beyond = txid is not None and txid > newest
        merged = case == "damaged-wrong-name" and txid == "0000000000000008"
        with pytest.raises(TargetError if beyond or merged else REASONS[case]) as caught:
            restored(client, out_dir, txid)
        assert caught.value.exit_code == (1 if beyond or merged else 6)
        assert list(out_dir.iterdir()) == []


def test_the_damaged_file_is_named(tmp_path: Path) -> None:
    """The error tells the file, the rule that it breaks, and which TXID is the last before it."""
    client = open_client(f"file://{golden.place('damaged-bit-flip', tmp_path)}")
    with pytest.raises(DamagedFileError, match=r"0/0000000000000006-0000000000000006\.ltx is damaged: .*\[") as caught:
        restore_txid(client, tmp_path / "out.db", None)
    assert caught.value.hint == "--txid 0000000000000005 restores the last state before it"


def test_another_level_stands_in_for_a_damaged_file(tmp_path: Path) -> None:
    """Where a bit flips in a file whose TXIDs another level holds too, the restore goes around it and says so."""
    case = "multi-level"
    root = golden.place(case, tmp_path)
    client = open_client(f"file://{root}")
    _, before = restored(client, tmp_path / "out", None)
    first = min((root / "ltx" / "9").iterdir())
    last = max((root / "ltx" / "9").iterdir())
    for path in {first, last}:
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 1
        path.write_bytes(body)
    digest, result = restored(client, tmp_path / "out", None)
    assert digest == golden.expect(case)["restore_latest"]["sha256"]
    assert (before.avoided, result.txid) == ((), before.txid)
    assert str(last.name) in {info.name.name for info in result.avoided}


def test_check_none_and_quick_are_obeyed(tmp_path: Path) -> None:
    """The check that is asked for is the one that runs."""
    client = open_client(f"file://{golden.place('simple-4096', tmp_path)}")
    for integrity in (Integrity.NONE, Integrity.QUICK, Integrity.FULL):
        result = restore_txid(client, tmp_path / f"{integrity}.db", None, RestoreOptions(integrity=integrity))
        assert result.integrity == integrity
