"""The replicas that Litestream wrote (tests/golden/replicas), and what it restored from them."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from litestream_py.core.ports import FileInfo
from litestream_py.ltx.ids import FileName, parse_file_name

ROOT = Path(__file__).parent.parent / "golden" / "replicas"
CASES = sorted(path.parent.name for path in ROOT.glob("*/expect.json"))
FILE_CASES = [case for case in CASES if case != "s3-layout"]
SOUND = [case for case in FILE_CASES if not case.startswith("damaged-")]


@cache
def expect(case: str) -> dict[str, Any]:
    """Return the case's expect.json."""
    loaded: dict[str, Any] = json.loads((ROOT / case / "expect.json").read_text())
    return loaded


def place(case: str, to: Path) -> Path:
    """Copy the case's replica below `to`, give its files their mtimes, and return the replica's root."""
    root = to / "replica"
    shutil.copytree(ROOT / case / "replica", root)
    for file in expect(case)["files"]:
        os.utime(root / file["path"], ns=(file["mtime_ms"] * 1_000_000,) * 2)
    return root


def listing(case: str) -> list[FileInfo]:
    """Return what listing every level of the case gives."""
    found = []
    for file in expect(case)["files"]:
        name = parse_file_name(file["level"], Path(file["path"]).name)
        assert name is not None
        found.append(FileInfo(name, file["size"], file["mtime_ms"]))
    return found


def s3_objects() -> list[tuple[FileName, bytes, int]]:
    """Return the S3 case's objects: name, body, timestamp in ms."""
    found = []
    for item in expect("s3-layout")["objects"]:
        level, bare = item["key"].rsplit("/", 2)[1:]
        name = parse_file_name(int(level, 16), bare)
        assert name is not None
        body = (ROOT / "s3-layout" / "objects" / item["key"]).read_bytes()
        found.append((name, body, item["header_timestamp_ms"]))
    return found
