"""The timestamp of a stored file from its own header: the truth, where a store keeps none or a copy has lost it."""

from __future__ import annotations

from litestream_py.core.ports import ReplicaClient
from litestream_py.errors import CorruptError, LtxFormatError
from litestream_py.ltx.ids import FileName
from litestream_py.ltx.records import HEADER_SIZE, Header


def header_timestamp_ms(client: ReplicaClient, name: FileName) -> int:
    """Return the header's timestamp, Unix milliseconds, by one small read; raises CorruptError if it is no header."""
    try:
        return Header.unpack(client.read(name, size=HEADER_SIZE)).timestamp_ms
    except LtxFormatError as error:
        raise CorruptError("read", f"{name} of {client.url}", error.cause) from error
