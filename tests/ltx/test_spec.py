"""The specification in the package's docstring names the rules that the code refuses, and no others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import litestream_py.ltx

SOURCES = sorted(Path(litestream_py.ltx.__file__).parent.glob("*.py"))


def reasons_in_code() -> set[str]:
    """Return every string in the package that looks like the reason of an LtxFormatError."""
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LtxFormatError":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
            if isinstance(node, ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
                first = node.elts[0]
                if isinstance(first.value, str) and re.fullmatch(r"[a-z]+(-[a-z]+)+", first.value):
                    found.add(first.value)
    return found


def test_the_table_of_rules_is_that_of_the_code() -> None:
    """Every reason has its numbered line in the specification, once, and every line its reason in the code."""
    lines = re.findall(r"^(\d+) +([a-z0-9-]+)", litestream_py.ltx.__doc__ or "", re.MULTILINE)
    rules = [(int(number), reason) for number, reason in lines if re.search("[a-z]", reason)]
    assert [number for number, _ in rules] == list(range(1, len(rules) + 1))
    assert {reason for _, reason in rules} == reasons_in_code()
