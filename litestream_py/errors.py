"""Every error that lsync raises on purpose: what failed, on what, why, and what to do about it.

One hierarchy, importable from every layer. Foreign exceptions (apsw, botocore, OSError) are translated once, at the
boundary that calls the foreign code. The class of an error decides whether it is retried, at which level it is logged,
its metric label and the exit code (design section 9). Message grammar: ``operation object: cause``, lower case, no
full stop; the hint names the command to run.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOTHING_TO_RESTORE = 3
    UNREACHABLE = 4
    ACCESS_DENIED = 5
    CORRUPT = 6
    DISK_FULL = 7
    OWNED_ELSEWHERE = 8
    SOURCE_REJECTED = 9


class ErrorKind(StrEnum):
    """Class of an error: the metric label, and the key of the retry policy."""

    TRANSIENT_NETWORK = "transient_network"
    THROTTLED = "throttled"
    AUTH = "auth"
    NOT_FOUND = "not_found"
    PRECONDITION = "precondition"
    CONFIG = "config"
    DISK_FULL = "disk_full"
    CORRUPT = "corrupt"
    SOURCE_REJECTED = "source_rejected"
    LOCAL_IO = "local_io"
    OTHER = "other"


class LsyncError(Exception):
    """Root of the hierarchy; raised only through its subclasses.

    Args:
        operation: what was being done, a verb ("read", "upload", "open").
        obj: what it was done to (a path, a URL without secrets, a file name).
        cause: why it failed, in words a user understands.
        hint: the command to run or the thing to change, if there is one.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.OTHER
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    retryable: ClassVar[bool] = False
    remaining: tuple[tuple[int, int, int], ...] | None = None
    """Set by a delete that failed: the files (`ltx.ids.FileName`) that may still be there; all others are gone."""

    def __init__(self, operation: str, obj: object, cause: object, *, hint: str | None = None) -> None:
        self.operation = operation
        self.obj = str(obj)
        self.cause = str(cause)
        self.hint = hint
        super().__init__(f"{operation} {self.obj}: {self.cause}")


# --- bytes that are wrong ---------------------------------------------------------------------------------------------


class FormatError(LsyncError):
    """Bytes that break a rule of their format.

    Args:
        reason: the rule that is broken, a stable name in kebab case ("page-out-of-order").
        offset: byte offset at which it was noticed, if known.
    """

    kind = ErrorKind.CORRUPT
    exit_code = ExitCode.CORRUPT
    what: ClassVar[str] = "file"

    def __init__(self, reason: str, detail: str, *, offset: int | None = None) -> None:
        self.reason = reason
        self.detail = detail
        self.offset = offset
        where = "" if offset is None else f" at byte {offset}"
        super().__init__("decode", self.what, f"{detail}{where} [{reason}]")


class LtxFormatError(FormatError):
    """An LTX file that breaks a rule of the format."""

    what = "LTX file"


class WalFormatError(FormatError):
    """A WAL or wal-index header that cannot be used."""

    what = "WAL"


class CorruptError(LsyncError):
    """Stored data is not what was stored: checksum mismatch, damaged replica file, failed integrity check."""

    kind = ErrorKind.CORRUPT
    exit_code = ExitCode.CORRUPT


class ChainGapError(CorruptError):
    """The replica's files do not form one contiguous chain up to what was asked for."""


# --- the caller asked for something that cannot be --------------------------------------------------------------------


class ConfigError(LsyncError):
    """Configuration or command line is wrong."""

    kind = ErrorKind.CONFIG
    exit_code = ExitCode.USAGE


class TargetError(LsyncError):
    """The restore target exists, or the TXID or time asked for is outside what can be restored."""

    kind = ErrorKind.PRECONDITION


class NothingToRestoreError(LsyncError):
    """The replica is reachable and holds no backup."""

    kind = ErrorKind.NOT_FOUND
    exit_code = ExitCode.NOTHING_TO_RESTORE


class SourceRejectedError(LsyncError):
    """The source file is not a database that can be replicated; `reason` is a stable name."""

    kind = ErrorKind.SOURCE_REJECTED
    exit_code = ExitCode.SOURCE_REJECTED

    def __init__(self, obj: object, reason: str, cause: object, *, hint: str | None = None) -> None:
        self.reason = reason
        super().__init__("replicate", obj, cause, hint=hint)


# --- the replica's storage --------------------------------------------------------------------------------------------


class ReplicaError(LsyncError):
    """Storage answered, and the answer is no, for a reason none of the classes below names."""


class TransientNetworkError(ReplicaError):
    """Storage cannot be reached or broke off: time-out, DNS, connection, 5xx. Retried for ever by the daemon."""

    kind = ErrorKind.TRANSIENT_NETWORK
    exit_code = ExitCode.UNREACHABLE
    retryable = True


class ThrottledError(TransientNetworkError):
    """Storage asks us to slow down (429, SlowDown, 503 with that code)."""

    kind = ErrorKind.THROTTLED


class AccessDeniedError(ReplicaError):
    """Credentials are missing, wrong, expired or not allowed to do this. Retried slowly: they may be mended."""

    kind = ErrorKind.AUTH
    exit_code = ExitCode.ACCESS_DENIED
    retryable = True


class NotFoundError(ReplicaError):
    """The object (or bucket) does not exist."""

    kind = ErrorKind.NOT_FOUND


class PreconditionError(ReplicaError):
    """A conditional write found that the object exists already."""

    kind = ErrorKind.PRECONDITION


class OwnedElsewhereError(ReplicaError):
    """Another writer owns the replica."""

    kind = ErrorKind.PRECONDITION
    exit_code = ExitCode.OWNED_ELSEWHERE


# --- this machine -----------------------------------------------------------------------------------------------------


class LocalIOError(LsyncError):
    """The local file system refused: permissions, read-only, I/O error."""

    kind = ErrorKind.LOCAL_IO
    retryable = True


class DiskFullError(LocalIOError):
    """No space (or quota) left on the local file system."""

    kind = ErrorKind.DISK_FULL
    exit_code = ExitCode.DISK_FULL


class DatabaseBusyError(LsyncError):
    """SQLite said BUSY until our patience ended; nothing is lost by trying again."""

    retryable = True


class DatabaseError(LsyncError):
    """SQLite refused for a reason that trying again does not mend (corrupt, I/O, full, read-only)."""

    kind = ErrorKind.LOCAL_IO
    retryable = True


class DefectError(LsyncError):
    """Something of ours went wrong that nobody foresaw; the work is begun again from disk."""

    retryable = True


class StateUnknownError(LsyncError):
    """A step whose outcome is not known (rename or directory fsync failed): the state must be re-derived from disk."""

    kind = ErrorKind.LOCAL_IO
    retryable = True
