"""The single LTX files that real tools wrote, and the faulty ones made from them (tests/golden/ltx)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from litestream_py.ltx.ids import TXID, FileName

ROOT = Path(__file__).parent.parent / "golden" / "ltx"
_MANIFEST: dict[str, Any] = json.loads((ROOT / "manifest.json").read_text("utf-8"))
GOOD: dict[str, dict[str, Any]] = {Path(case["file"]).stem: case for case in _MANIFEST["good"]}
BAD: dict[str, dict[str, Any]] = {Path(case["file"]).stem: case for case in _MANIFEST["bad"]}


def good(name: str) -> bytes:
    """Return the bytes of a good file."""
    return (ROOT / "good" / f"{name}.ltx").read_bytes()


def bad(name: str) -> bytes:
    """Return the bytes of a faulty file."""
    return (ROOT / "bad" / f"{name}.ltx").read_bytes()


def file_name(case: dict[str, Any]) -> FileName:
    """Return the name under which the file of a good case belongs into a replica."""
    header = case["header"]
    return FileName(0, TXID.parse(header["min_txid"]), TXID.parse(header["max_txid"]))


def bad_file_name(case: dict[str, Any]) -> FileName | None:
    """Return the name of a faulty file: that of the good one it was made from."""
    base = case.get("base")
    return None if base is None else file_name(GOOD[Path(base).stem])
