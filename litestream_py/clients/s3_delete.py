"""Deleting objects: by batches of a thousand, or one by one where the store does not know batches.

A key that the store refuses (no permission, object lock) does not stop the others; a store that cannot be reached
does. Either way the error's `remaining` names the files that may still be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from litestream_py.clients.s3_errors import FOREIGN, error_code, from_code, translate, translated
from litestream_py.clients.s3_keys import file_key
from litestream_py.clients.specs import S3Replica
from litestream_py.errors import AccessDeniedError, LsyncError, NotFoundError
from litestream_py.ltx.ids import FileName

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client as BotoS3

DELETE_BATCH: Final = 1000
"""S3's limit on the keys of one DeleteObjects."""

_NO_BATCH_DELETE: Final = {"NotImplemented", "MethodNotAllowed", "MissingContentMD5", "501", "405"}
_Refusals: TypeAlias = dict[FileName, LsyncError]


class ObjectDeleter:
    """Deletes LTX files of a replica; safe to use from several threads."""

    def __init__(self, client: BotoS3, replica: S3Replica) -> None:
        self._s3 = client
        self._bucket = replica.bucket
        self._prefix = replica.prefix
        self._batches = True

    def delete(self, names: Sequence[FileName]) -> None:
        """Delete files; see `ReplicaClient.delete`."""
        refused: _Refusals = {}
        for start in range(0, len(names), DELETE_BATCH):
            batch = names[start : start + DELETE_BATCH]
            try:
                refused |= self._delete(batch)
            except LsyncError as error:
                error.remaining = (*refused, *names[start:])
                raise
        if refused:
            first = next(iter(refused.values()))
            first.remaining = tuple(refused)
            if len(refused) > 1:
                first.add_note(f"{len(refused)} of {len(names)} files could not be deleted")
            raise first

    def _delete(self, names: Sequence[FileName]) -> _Refusals:
        if len(names) > 1 and self._batches:
            try:
                return self._delete_batch(names)
            except FOREIGN as error:
                if error_code(error) not in _NO_BATCH_DELETE:
                    where = f"{self._display(file_key(self._prefix, names[0]))} and {len(names) - 1} more"
                    raise translate(error, "delete", where) from error
                self._batches = False
        return self._delete_each(names)

    def _delete_batch(self, names: Sequence[FileName]) -> _Refusals:
        """Delete by one request; raises the SDK's errors."""
        by_key = {file_key(self._prefix, name): name for name in names}
        answer = self._s3.delete_objects(
            Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in by_key], "Quiet": True}
        )
        refused: _Refusals = {}
        for entry in answer.get("Errors", []):
            key = entry.get("Key", "")
            error = from_code(entry.get("Code", ""), entry.get("Message", ""), "delete", self._display(key))
            if isinstance(error, NotFoundError):
                continue
            if key not in by_key:  # a refusal all the same, of whichever it may be
                raise error
            refused[by_key[key]] = error
        return refused

    def _delete_each(self, names: Sequence[FileName]) -> _Refusals:
        refused: _Refusals = {}
        for name in names:
            key = file_key(self._prefix, name)
            try:
                with translated("delete", self._display(key)):
                    self._s3.delete_object(Bucket=self._bucket, Key=key)
            except NotFoundError as error:
                if error_code(error.__cause__ or error) != "NoSuchKey":
                    raise
            except AccessDeniedError as error:
                refused[name] = error
        return refused

    def _display(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"
