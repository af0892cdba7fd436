"""The folder replica: what lies on the disk, what a crash leaves, and what each failure of the file system means."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from litestream_py import failpoints
from litestream_py.clients import file as file_module
from litestream_py.clients import file_io
from litestream_py.clients.file import FileClient
from litestream_py.clients.specs import FileReplica
from litestream_py.errors import (
    AccessDeniedError,
    CorruptError,
    DiskFullError,
    LocalIOError,
    LsyncError,
    NotFoundError,
    PreconditionError,
    TransientNetworkError,
)
from litestream_py.ltx.ids import TXID, FileName
from litestream_py.ltx.records import Header
from tests.support.replicas import TIMESTAMP_MS, name, other_file_system

BODY = b"content" * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "replica"


@pytest.fixture
def client(root: Path) -> FileClient:
    return FileClient(FileReplica(root))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    with ExitStack() as stack:
        yield other_file_system(tmp_path, stack)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def path_of(root: Path, file: FileName) -> Path:
    return root / "ltx" / str(file.level) / file.name


def source_in(folder: Path, body: bytes = BODY) -> Path:
    path = folder / "source.ltx"
    path.write_bytes(body)
    return path


def everything_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_layout_and_mtime_are_the_peers(client: FileClient, root: Path, tmp_path: Path) -> None:
    """A file lies at ltx/LEVEL/MIN-MAX.ltx with the level in decimal, and its mtime is the timestamp to the ms."""
    client.put(name(1, 10, level=9), source_in(tmp_path), timestamp_ms=TIMESTAMP_MS)
    path = root / "ltx" / "9" / "0000000000000001-000000000000000a.ltx"
    assert path.read_bytes() == BODY
    assert path.stat().st_mtime_ns == TIMESTAMP_MS * 1_000_000
    assert [info.created_ms for info in client.list_level(9)] == [TIMESTAMP_MS]


def test_a_source_on_the_same_file_system_is_linked(client: FileClient, root: Path, tmp_path: Path) -> None:
    """No byte is copied where a hard link does it."""
    source = source_in(tmp_path)
    client.put(name(1), source, timestamp_ms=TIMESTAMP_MS)
    assert path_of(root, name(1)).samefile(source)


def test_a_source_elsewhere_is_copied(client: FileClient, root: Path, elsewhere: Path) -> None:
    """From another file system the content is copied, with the mtime, and nothing else is left."""
    client.put(name(1), source_in(elsewhere), timestamp_ms=TIMESTAMP_MS)
    assert path_of(root, name(1)).read_bytes() == BODY
    assert path_of(root, name(1)).stat().st_mtime_ns == TIMESTAMP_MS * 1_000_000
    assert everything_in(root) == ["ltx/0/" + name(1).name]


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV])
def test_where_links_are_refused_the_file_is_still_never_overwritten(
    client: FileClient, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    """On a file system without hard links puts work all the same, and a taken name stays taken."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", refuse)
    client.put(name(1), source_in(tmp_path), timestamp_ms=TIMESTAMP_MS)
    with pytest.raises(PreconditionError):
        client.put(name(1), b"other", timestamp_ms=TIMESTAMP_MS)
    assert path_of(root, name(1)).read_bytes() == BODY
    assert everything_in(root) == ["ltx/0/" + name(1).name]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EACCES, AccessDeniedError),
        (errno.EPERM, AccessDeniedError),
        (errno.EROFS, AccessDeniedError),
        (errno.ENOENT, NotFoundError),
        (errno.EEXIST, PreconditionError),
        (errno.EIO, LocalIOError),
        (errno.ENOTDIR, LocalIOError),
        (errno.ESTALE, LocalIOError),
    ],
)
def test_what_an_errno_means(code: int, expected: type[LsyncError]) -> None:
    """Each errno becomes the error of its kind; full and denied come with something to do."""
    error = file_io.translate_os_error(OSError(code, os.strerror(code)), "write", Path("/replica/x"))
    assert type(error) is expected
    assert str(error).startswith("write /replica/x: ")
    assert (error.hint is not None) == (expected in {DiskFullError, AccessDeniedError})


def test_a_full_disk_leaves_nothing(client: FileClient, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When space ends in the middle of a copy, the put raises DiskFullError and no part of the file stays."""
    written = 0

    def write(fd: int, data: memoryview) -> int:
        nonlocal written
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = len(data) // 2
        return real_write(fd, data[:written])

    real_write = os.write
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(DiskFullError):
        client.put(name(1), BODY, timestamp_ms=TIMESTAMP_MS)
    assert written > 0
    assert everything_in(root) == []


def test_a_full_disk_ends_a_stream(client: FileClient, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When space ends in the middle of a stream, DiskFullError is raised, and no part of the file stays."""
    real_write = os.write
    calls = iter(range(10))

    def write(fd: int, data: memoryview) -> int:
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(DiskFullError):
        client.put_stream(name(1), iter([BODY] * 10), timestamp_ms=TIMESTAMP_MS)
    assert everything_in(root) == []


@pytest.mark.fault
@pytest.mark.parametrize("failpoint", [file_module.BEFORE_LINK, file_module.AFTER_LINK])
def test_a_stream_or_copy_that_fails_at_its_end(client: FileClient, root: Path, failpoint: str) -> None:
    """A failure between the last byte and durability leaves nothing new."""
    client.put(name(1), BODY, timestamp_ms=TIMESTAMP_MS)
    for action in (
        lambda: client.put_stream(name(2), iter([BODY]), timestamp_ms=TIMESTAMP_MS),
        lambda: client.copy(name(1), name(2)),
    ):
        failpoints.arm(failpoint, "error")
        with pytest.raises(LocalIOError):
            action()
        assert everything_in(root) == ["ltx/0/" + name(1).name]


def test_a_stream_has_its_mtime(client: FileClient, root: Path) -> None:
    """A stream's file carries the timestamp as its mtime when it appears."""
    client.put_stream(name(1), iter([BODY]), timestamp_ms=TIMESTAMP_MS)
    assert path_of(root, name(1)).stat().st_mtime_ns == TIMESTAMP_MS * 1_000_000


def test_a_copy_is_a_second_name(client: FileClient, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is a hard link; where those are refused, a file of its own with the same mtime, to the nanosecond."""
    client.put(name(1), BODY, timestamp_ms=TIMESTAMP_MS)
    source = path_of(root, name(1))
    client.copy(name(1), name(1, level=9))
    assert path_of(root, name(1, level=9)).samefile(source)
    os.utime(source, ns=(5, TIMESTAMP_MS * 1_000_000 + 123))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    client.copy(name(1), name(1, level=8))
    copy = path_of(root, name(1, level=8))
    assert not copy.samefile(source)
    assert (copy.read_bytes(), copy.stat().st_mtime_ns) == (BODY, source.stat().st_mtime_ns)
    with pytest.raises(PreconditionError):
        client.copy(name(1), name(1, level=8))


def test_a_timestamp_outlives_the_mtime(client: FileClient, root: Path) -> None:
    """In a folder that was copied without its mtimes, the header still tells the timestamp; what has none says so."""
    header = Header(512, 1, TXID(1), TXID(1), TIMESTAMP_MS, wal_offset=32).pack()
    client.put(name(1), header + BODY, timestamp_ms=TIMESTAMP_MS)
    os.utime(path_of(root, name(1)), (0, 0))
    (info,) = client.list_level(0)
    assert (info.created_ms, client.timestamp_of(info)) == (0, TIMESTAMP_MS)
    path_of(root, name(1)).write_bytes(header[:99])
    with pytest.raises(CorruptError, match=name(1).name):
        client.timestamp_of(info)


def test_a_file_that_cannot_be_deleted_is_named(client: FileClient, root: Path) -> None:
    """A name that cannot be removed does not stop the others; the error's `remaining` has it."""
    for n in (1, 3):
        client.put(name(n), BODY, timestamp_ms=TIMESTAMP_MS)
    path_of(root, name(2)).mkdir()
    with pytest.raises(LsyncError, match=name(2).name) as caught:
        client.delete([name(1), name(2), name(3)])
    assert caught.value.remaining == (name(2),)
    assert everything_in(root) == []


def test_a_delete_that_is_not_durable_is_named(
    client: FileClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the directory cannot be fsynced, its files may come back: `remaining` has them."""
    client.put(name(1), BODY, timestamp_ms=TIMESTAMP_MS)
    client.put(name(1, level=1), BODY, timestamp_ms=TIMESTAMP_MS)
    real = file_io.fsync_directory

    def fail(path: Path) -> None:
        if path.name == "1":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(path)

    monkeypatch.setattr(file_module, "fsync_directory", fail)
    with pytest.raises(LocalIOError) as caught:
        client.delete([name(1), name(1, level=1)])
    assert caught.value.remaining == (name(1, level=1),)


def test_a_replica_that_is_a_file_is_named(tmp_path: Path) -> None:
    """Where a component of the path is a file, the error says which path cannot be used."""
    (tmp_path / "replica").write_text("not a folder")
    client = FileClient(FileReplica(tmp_path / "replica"))
    with pytest.raises(LocalIOError, match="replica"):
        client.put(name(1), BODY, timestamp_ms=TIMESTAMP_MS)
    with pytest.raises(LocalIOError, match="replica"):
        client.list_level(0)


@pytest.mark.fault
@pytest.mark.parametrize("failpoint", [file_module.BEFORE_LINK, file_module.AFTER_LINK])
@pytest.mark.parametrize("form", ["link", "copy"])
def test_a_put_that_fails_can_be_repeated(
    client: FileClient, root: Path, tmp_path: Path, failpoint: str, form: str
) -> None:
    """A failure at any step leaves no file behind, so that the same put succeeds next time."""
    source: Path | bytes = source_in(tmp_path) if form == "link" else BODY
    failpoints.arm(failpoint, "error")
    with pytest.raises(LocalIOError):
        client.put(name(1), source, timestamp_ms=TIMESTAMP_MS)
    assert everything_in(root) == []
    client.put(name(1), source, timestamp_ms=TIMESTAMP_MS)
    assert path_of(root, name(1)).read_bytes() == BODY


@pytest.mark.fault
@pytest.mark.parametrize("failpoint", [file_module.BEFORE_SIDE_RENAME, file_module.AFTER_SIDE_RENAME])
def test_a_side_object_is_old_or_new_after_a_failure(client: FileClient, root: Path, failpoint: str) -> None:
    """A side object that could not be written for sure is the old one or the new one, whole, and nothing else stays."""
    client.write_side("owner.json", b"old", expected=None)
    failpoints.arm(failpoint, "error")
    with pytest.raises(LocalIOError):
        client.write_side("owner.json", b"new", expected=b"old")
    assert client.read_side("owner.json") == (b"old" if failpoint == file_module.BEFORE_SIDE_RENAME else b"new")
    assert everything_in(root) == ["lsync/owner.json"]


def _put_and_die(root: Path, failpoint: str) -> None:
    failpoints.arm(failpoint, "kill")
    FileClient(FileReplica(root)).put(name(1), BODY, timestamp_ms=TIMESTAMP_MS)


@pytest.mark.fault
@pytest.mark.parametrize("failpoint", [file_module.BEFORE_LINK, file_module.AFTER_LINK])
def test_what_a_killed_process_leaves_is_cleaned_up(client: FileClient, root: Path, failpoint: str) -> None:
    """After kill -9 in the middle of a copy the file is whole or absent, and the next put removes what is left."""
    process = multiprocessing.get_context("spawn").Process(target=_put_and_die, args=(root, failpoint))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    linked = failpoint == file_module.AFTER_LINK
    assert [info.name for info in client.list_level(0)] == ([name(1)] if linked else [])
    if linked:
        assert path_of(root, name(1)).read_bytes() == BODY
    else:
        assert len(everything_in(root)) == 1  # the temporary name
    client.put(name(2), BODY, timestamp_ms=TIMESTAMP_MS)
    expected = [name(1), name(2)] if linked else [name(2)]
    assert everything_in(root) == [f"ltx/0/{file.name}" for file in expected]


def test_a_copy_under_way_is_not_cleaned_up(client: FileClient, root: Path) -> None:
    """Another process that starts in the middle of a copy does not take its temporary file away."""
    directory = root / "ltx" / "0"
    directory.mkdir(parents=True)
    with file_module._staged(BODY, directory, None) as staged:
        client.put(name(2), BODY, timestamp_ms=TIMESTAMP_MS)
        assert staged.read_bytes() == BODY
    assert everything_in(root) == ["ltx/0/" + name(2).name]


def test_a_file_that_shrinks_while_it_is_read_is_noticed(client: FileClient, root: Path) -> None:
    """A stream whose file becomes shorter raises instead of ending early."""
    client.put(name(1), bytes(3 << 20), timestamp_ms=TIMESTAMP_MS)
    stream = client.stream(name(1))
    next(stream)
    os.truncate(path_of(root, name(1)), 1 << 20)
    with pytest.raises(LsyncError, match="ended 2097152 bytes early"):
        list(stream)


def test_symbolic_links_and_folders_with_valid_names(client: FileClient, root: Path, tmp_path: Path) -> None:
    """A symbolic link to a file counts as the file; a folder with a valid name, or a dead link, is ignored."""
    client.put(name(1), BODY, timestamp_ms=TIMESTAMP_MS)
    path_of(root, name(2)).mkdir()
    path_of(root, name(3)).symlink_to(tmp_path / "nowhere")
    path_of(root, name(4)).symlink_to(path_of(root, name(1)))
    assert [info.name for info in client.list_level(0)] == [name(1), name(4)]


def test_a_replica_that_was_removed_is_made_again(client: FileClient, root: Path) -> None:
    """Removing the folder under a running client does not break its next put."""
    client.put(name(1), BODY, timestamp_ms=TIMESTAMP_MS)
    path_of(root, name(1)).unlink()
    path_of(root, name(1)).parent.rmdir()
    client.put(name(2), BODY, timestamp_ms=TIMESTAMP_MS)
    assert [info.name for info in client.list_level(0)] == [name(2)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(client: FileClient, root: Path) -> None:
    """A folder that may not be written raises AccessDeniedError with a hint."""
    root.mkdir(parents=True)
    root.chmod(0o500)
    with pytest.raises(AccessDeniedError) as caught:
        client.put(name(1), BODY, timestamp_ms=TIMESTAMP_MS)
    assert caught.value.hint is not None


def test_a_folder_that_is_removed_is_not_silently_made_again(tmp_path: Path) -> None:
    """Files behind a gap would be of no use: the writer is told once, and then begins anew on purpose."""
    root = tmp_path / "replica"
    client = FileClient(FileReplica(root))
    client.put(FileName(0, TXID(1), TXID(1)), b"one", timestamp_ms=1)
    shutil.rmtree(root)
    with pytest.raises(NotFoundError, match="was removed"):
        client.put(FileName(0, TXID(2), TXID(2)), b"two", timestamp_ms=2)
    assert not root.exists()
    assert client.list_level(0) == []
    client.put(FileName(0, TXID(1), TXID(1)), b"one", timestamp_ms=1)
    assert [info.name.max_txid for info in client.list_level(0)] == [1]


def test_nothing_is_written_below_a_mount_point(tmp_path: Path) -> None:
    """Where the folder now lies on another volume, the writer waits until the replica's is back."""
    client = FileClient(FileReplica(tmp_path / "replica"))
    client.put(FileName(0, TXID(1), TXID(1)), b"one", timestamp_ms=1)
    device, inode = client._seen or (0, 0)
    client._seen = (device + 1, inode)
    for _ in range(2):
        with pytest.raises(TransientNetworkError, match="not mounted"):
            client.put(FileName(0, TXID(2), TXID(2)), b"two", timestamp_ms=2)
    client._seen = (device, inode)
    client.put(FileName(0, TXID(2), TXID(2)), b"two", timestamp_ms=2)
