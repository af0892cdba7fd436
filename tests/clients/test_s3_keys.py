"""Keys and metadata of an S3 replica, against those that the peer wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from litestream_py.clients.s3_keys import (
    CONTENT_TYPE,
    TIMESTAMP_METADATA,
    file_key,
    format_timestamp,
    level_prefix,
    parse_timestamp,
    side_key,
)
from litestream_py.ltx.ids import SNAPSHOT_LEVEL, parse_file_name
from tests.support.replicas import name

GOLDEN = Path(__file__).parents[1] / "golden" / "replicas" / "s3-layout" / "expect.json"


def test_keys_and_metadata_as_the_peer_writes_them() -> None:
    """Key, content type and timestamp of every object that the peer wrote come out the same from ours."""
    expect = json.loads(GOLDEN.read_text())
    assert len(expect["objects"]) > 10
    for item in expect["objects"]:
        _, level, file = item["key"].rsplit("/", 2)
        parsed = parse_file_name(int(level, 16), file)
        assert parsed is not None
        assert file_key(expect["prefix"], parsed) == item["key"]
        assert item["metadata"] == {TIMESTAMP_METADATA: format_timestamp(item["header_timestamp_ms"])}
        assert item["content_type"] == CONTENT_TYPE


@pytest.mark.parametrize(
    ("timestamp_ms", "text"),
    [
        (1_795_181_829_870, "2026-11-20T13:37:09.87Z"),
        (1_795_181_829_873, "2026-11-20T13:37:09.873Z"),
        (1_795_181_829_800, "2026-11-20T13:37:09.8Z"),
        (1_795_181_829_007, "2026-11-20T13:37:09.007Z"),
        (1_795_181_829_000, "2026-11-20T13:37:09Z"),
        (1_795_181_820_000, "2026-11-20T13:37:00Z"),
        (0, "1970-01-01T00:00:00Z"),
    ],
)
def test_timestamps(timestamp_ms: int, text: str) -> None:
    """The fraction loses its trailing zeros, the seconds keep theirs."""
    assert format_timestamp(timestamp_ms) == text
    assert parse_timestamp(text) == timestamp_ms


@pytest.mark.parametrize(
    ("text", "timestamp_ms"),
    [
        ("2026-11-20T13:37:09.873999999Z", 1_795_181_829_873),
        ("2026-11-20t15:37:09.5+02:00", 1_795_181_829_500),
        ("2026-11-20T13:37:09.873", None),
        ("2026-11-20 13:37:09Z", None),
        ("20261120T133709Z", None),
        ("2026-02-30T13:37:09Z", None),
        ("2026-11-20T25:37:09Z", None),
        ("1795181829873", None),
        ("", None),
    ],
)
def test_timestamps_of_others(text: str, timestamp_ms: int | None) -> None:
    """Any RFC 3339 time is read, to the millisecond; what is none is told as such."""
    assert parse_timestamp(text) == timestamp_ms


def test_an_empty_prefix_leaves_no_slash() -> None:
    """Without a prefix keys begin with the level, never with a slash."""
    assert file_key("", name(1, level=SNAPSHOT_LEVEL)) == "0009/0000000000000001-0000000000000001.ltx"
    assert (level_prefix("", 0), side_key("", "owner.json")) == ("0000/", "lsync/owner.json")
