"""The local state directory of one database: `ltx/0/`, `pages.crc`, `position.json`, `lock` (design section 10)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from litestream_py.core.oserrors import from_os_error, os_errors
from litestream_py.core.position import PositionRecord
from litestream_py.errors import OwnedElsewhereError
from litestream_py.local.files import TEMP_SUFFIX, fsync_dir, replace_file, write_durable
from litestream_py.ltx.ids import TXID, FileName, parse_file_name


def default_meta_path(database: Path) -> Path:
    """Return `.NAME-lsync` beside the database."""
    return database.with_name(f".{database.name}-lsync")


class MetaDir:
    """Local state of one database; created by `open`, held by one process at a time through a lock file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.l0 = path / "ltx" / "0"
        self.pages_crc = path / "pages.crc"
        self.position_json = path / "position.json"
        self.file_mode = 0o600
        """Permission bits of L0 files, which a file replica on the same volume keeps: the database's."""
        self._lock_fd: int | None = None

    def open(self) -> None:
        """Create the directories, take the lock, remove what a crash left half-written.

        Raises OwnedElsewhereError (exit 8) if another process holds the lock.
        """
        with os_errors("create", self.path):
            self.l0.mkdir(parents=True, exist_ok=True, mode=0o700)
            for directory in (self.l0.parent, self.path, self.path.parent):
                fsync_dir(directory)
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if not isinstance(error, BlockingIOError):
                raise from_os_error("lock", self.path, error) from error
            hint = f"stop the other one, or see who it is: fuser {self.path / 'lock'}"
            raise OwnedElsewhereError(
                "replicate", self.path, "another lsync process replicates this database", hint=hint
            ) from error
        self._lock_fd = fd
        with os_errors("clean", self.path):
            for directory in (self.path, self.l0):
                for temp in directory.glob(f"*{TEMP_SUFFIX}"):
                    temp.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock; idempotent."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def list_l0(self) -> list[tuple[FileName, int]]:
        """Return the local L0 files with their sizes in bytes, in TXID order."""
        found = []
        with os_errors("list", self.l0):
            for entry in os.scandir(self.l0):
                name = parse_file_name(0, entry.name)
                if name is not None:
                    found.append((name, entry.stat().st_size))
        return sorted(found)

    def l0_path(self, name: FileName) -> Path:
        """Return where an L0 file is kept."""
        return self.l0 / name.name

    def write_l0(self, txid: TXID, chunks: Iterable[bytes], *, timestamp_ms: int) -> int:
        """Write the L0 file of one TXID durably; returns its size in bytes. Raises as `write_durable`."""
        return write_durable(self.l0_path(FileName(0, txid, txid)), chunks, mtime_ms=timestamp_ms, mode=self.file_mode)

    def remove_l0(self, names: Iterable[FileName]) -> None:
        """Remove local L0 files; one gone already is no error. Not fsynced: one that comes back is removed again."""
        with os_errors("remove", self.l0):
            for name in names:
                self.l0_path(name).unlink(missing_ok=True)

    def read_position(self) -> PositionRecord | None:
        """Return `position.json`, or None where it is absent or damaged."""
        try:
            data = self.position_json.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            with os_errors("read", self.position_json):
                raise error from None
        return PositionRecord.decode(data)

    def write_position(self, record: PositionRecord) -> None:
        """Replace `position.json`; not fsynced, because everything in it can be derived or resynced."""
        replace_file(self.position_json, record.encode())

    def reset(self) -> None:
        """Forget the local chain: the next attach starts from the replica. Position first, so a crash leaves no lie."""
        with os_errors("reset", self.path):
            self.position_json.unlink(missing_ok=True)
            self.pages_crc.unlink(missing_ok=True)
            for name, _ in self.list_l0():
                self.l0_path(name).unlink(missing_ok=True)
            fsync_dir(self.l0)
            fsync_dir(self.path)
