"""Durable files and the local state directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from litestream_py import failpoints
from litestream_py.errors import DiskFullError, LocalIOError, OwnedElsewhereError, StateUnknownError
from litestream_py.local import files
from litestream_py.local.files import replace_file, write_durable
from litestream_py.local.meta import MetaDir, default_meta_path
from litestream_py.ltx.ids import TXID, FileName


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """No failpoint stays armed."""
    yield
    failpoints.disarm()


def test_a_file_is_there_whole(tmp_path: Path) -> None:
    """What was written is what is there, with the time it was given."""
    path = tmp_path / "a.ltx"
    assert write_durable(path, [b"one", b"", b"two"], mtime_ms=1_700_000_000_123) == 6
    assert path.read_bytes() == b"onetwo"
    assert path.stat().st_mtime_ns == 1_700_000_000_123_000_000
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ltx"]


def test_a_write_that_takes_a_part_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system may take less than it was given."""
    real = os.write
    data = bytes(range(256)) * 9
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda fd, data: real(fd, data[: max(1, len(data) // 3)]))
        write_durable(tmp_path / "a", [data], mtime_ms=0)
        replace_file(tmp_path / "b", data)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == data


@pytest.mark.parametrize("name", [files.BEFORE_WRITE, files.BEFORE_FSYNC, files.BEFORE_RENAME])
def test_a_failure_before_the_rename_leaves_nothing(tmp_path: Path, name: str) -> None:
    """Until the rename no file is there, and in the end no temporary one."""
    failpoints.arm(name, "error")
    with pytest.raises(LocalIOError):
        write_durable(tmp_path / "a", [b"x"], mtime_ms=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [files.AFTER_RENAME, files.AFTER_DIR_FSYNC])
def test_a_failure_behind_the_rename_is_an_unknown_outcome(tmp_path: Path, name: str) -> None:
    """Whether the name has become durable cannot be said: the caller must look at the disk again."""
    failpoints.arm(name, "error")
    with pytest.raises(StateUnknownError):
        write_durable(tmp_path / "a", [b"x"], mtime_ms=0)
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_full_disk_has_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC is told apart from other failures, with a hint; what was there stays."""

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    replace_file(tmp_path / "position.json", b"old")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFullError) as raised:
        replace_file(tmp_path / "position.json", b"new")
    assert raised.value.hint is not None
    assert (tmp_path / "position.json").read_bytes() == b"old"


def test_an_error_of_the_source_passes_through(tmp_path: Path) -> None:
    """What the chunks raise is raised, and nothing is published."""

    def chunks() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_durable(tmp_path / "a", chunks(), mtime_ms=0)
    assert list(tmp_path.iterdir()) == []


def test_one_process_owns_a_state_directory(tmp_path: Path) -> None:
    """A second opening is refused while the first lasts, and leaves it alone."""
    path = default_meta_path(tmp_path / "app.db")
    assert path.name == ".app.db-lsync"
    first, second = MetaDir(path), MetaDir(path)
    first.open()
    with pytest.raises(OwnedElsewhereError):
        second.open()
    first.close()
    first.close()
    second.open()
    second.close()


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    """Temporary files go at the next start, L0 files and everything else stay; foreign names are no L0."""
    meta = MetaDir(tmp_path / "meta")
    meta.open()
    meta.write_l0(TXID(2), [b"two"], timestamp_ms=1)
    meta.write_l0(TXID(1), [b"one"], timestamp_ms=1)
    for name in ("ltx/0/x.ltx.tmp", "pages.crc.tmp", "ltx/0/notes.txt", "ltx/0/0000000000000009-0000000000000001.ltx"):
        (tmp_path / "meta" / name).write_bytes(b"")
    meta.close()
    meta.open()
    assert list((tmp_path / "meta").rglob("*.tmp")) == []
    assert meta.list_l0() == [(FileName(0, TXID(1), TXID(1)), 3), (FileName(0, TXID(2), TXID(2)), 3)]
    meta.remove_l0([FileName(0, TXID(1), TXID(1)), FileName(0, TXID(5), TXID(5))])
    assert [name.max_txid for name, _ in meta.list_l0()] == [TXID(2)]
    meta.reset()
    assert meta.list_l0() == []
    assert (tmp_path / "meta/ltx/0/notes.txt").exists()
    meta.close()
