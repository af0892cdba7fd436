"""The rules of this code base, each a function of one module's source: what it returns is wrong with it.

Layers: cli -> daemon -> engine -> {local, clients} -> core -> {ltx, wal} -> errors; imports only downward. config and
logs stand beside daemon. failpoints reads the environment, so the pure layers stay clear of it.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = "litestream_py"
FUNCTION_LINES_MAX: Final = 70
MODULE_LINES_MAX: Final = 500

_PURE: Final = ("ltx", "wal", "core")
_BOTTOM: Final = frozenset({"errors"})
_CORE: Final = _BOTTOM | {"ltx", "wal", "core"}
_MACHINE: Final = _CORE | {"failpoints"}
_ENGINE: Final = _MACHINE | {"local", "clients", "engine"}
_BESIDE: Final = _ENGINE | {"config", "logs"}
LAYERS: Final = {
    "": frozenset(),
    "errors": frozenset(),
    "failpoints": _BOTTOM,
    "ltx": _BOTTOM | {"ltx"},
    "wal": _BOTTOM | {"wal"},
    "core": _CORE,
    "local": _MACHINE | {"local"},
    "clients": _MACHINE | {"clients"},
    "engine": _ENGINE,
    "config": _ENGINE | {"config"},
    "logs": _BOTTOM | {"logs"},
    "daemon": _BESIDE | {"daemon", ""},
    "cli": _BESIDE | {"daemon", "cli", ""},
    "__main__": frozenset({"cli"}),
}
"""What the modules of each part of the package may import of the package; "" is the package itself (its version)."""

_OUTSIDE: Final = frozenset({
    "asyncio", "http", "logging", "multiprocessing", "os", "selectors", "shutil", "signal", "socket", "sqlite3",
    "structlog", "subprocess", "tempfile", "threading", "time", "urllib3",
})  # fmt: skip
"""Ways to the outside world, closed to the pure layers."""
SINGLE_IMPORTERS: Final = {"apsw": f"{PACKAGE}/local/", "prometheus_client": f"{PACKAGE}/daemon/"}
_MARKS: Final = re.compile(r"\b(?:FIX" + r"ME|TO" + r"DO|X" + r"XX)\b")


class Module(NamedTuple):
    """A module: its path below the root of the checkout, and its source."""

    path: PurePosixPath
    source: str

    @property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.source)

    @property
    def part(self) -> str | None:
        """The part of the package that it belongs to, "" for the package's own __init__; None outside of it."""
        parts = self.path.with_suffix("").parts
        if parts[0] != PACKAGE:
            return None
        part = "" if parts[1] == "__init__" else parts[1]
        return "config" if part.startswith("config_") else part


def modules() -> list[Module]:
    """Return every module of the checkout."""
    roots = [ROOT / name for name in (PACKAGE, "tests", "tools", "benchmarks", "integration")]
    paths = sorted(path for root in roots if root.is_dir() for path in root.rglob("*.py"))
    return [Module(PurePosixPath(path.relative_to(ROOT)), path.read_text()) for path in paths]


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything a module imports, inside functions too."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield node.lineno, origin
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def layer_direction(module: Module) -> Iterator[str]:
    """Imports go downward; modules of the package import each other by their full name."""
    if module.part is None:
        return
    allowed = LAYERS.get(module.part)
    if allowed is None:
        yield f"{module.path}: {module.part!r} has no place in the layers (tests/support/tidy.py)"
        return
    for line, name in imports(module):
        if name.startswith("."):
            yield f"{module.path}:{line}: relative import"
        if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
            continue
        part = [*name.split("."), "", ""][1]
        target = "config" if part.startswith("config_") else part if part in LAYERS else ""
        # `from litestream_py import x` names the package first, then x: the second says what is meant.
        bare = name == PACKAGE and any(n.startswith(f"{PACKAGE}.") for at, n in imports(module) if at == line)
        if target not in allowed and not bare:
            yield f"{module.path}:{line}: {module.part or PACKAGE} must not import {name}"


def pure_layers(module: Module) -> Iterator[str]:
    """ltx, wal and core know no clock, file, thread or log."""
    if module.part not in _PURE:
        return
    for line, name in imports(module):
        if name.split(".")[0] in _OUTSIDE:
            yield f"{module.path}:{line}: {module.part} must not import {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "input"}:
            yield f"{module.path}:{node.lineno}: {module.part} must not call {node.func.id}()"


def function_length(module: Module) -> Iterator[str]:
    """No function is longer than a screen."""
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{module.path}:{node.lineno}: {node.name} has {length} lines, {FUNCTION_LINES_MAX} at most"


def module_length(module: Module) -> Iterator[str]:
    """No module is longer than one sitting."""
    length = module.source.count("\n")
    if length > MODULE_LINES_MAX:
        yield f"{module.path}: {length} lines, {MODULE_LINES_MAX} at most"


def module_docstring(module: Module) -> Iterator[str]:
    """Every module says what it is for."""
    if not ast.get_docstring(module.tree):
        yield f"{module.path}: no module docstring"


def printing(module: Module) -> Iterator[str]:
    """Only the command line prints."""
    if module.part is None or module.part == "cli":
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{module.path}:{node.lineno}: print() outside of cli/"


def foreign_sqlite(module: Module) -> Iterator[str]:
    """The package never loads the sqlite3 module: two SQLite libraries in a process drop each other's locks."""
    if module.part is None:
        return
    for line, name in imports(module):
        if name.split(".")[0] == "sqlite3":
            yield f"{module.path}:{line}: sqlite3 beside apsw"


def unfinished(module: Module) -> Iterator[str]:
    """Nothing is left for later in a comment."""
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type == tokenize.COMMENT and _MARKS.search(token.string):
            yield f"{module.path}:{token.start[0]}: {token.string.strip()}"


def sleeping_tests(module: Module) -> Iterator[str]:
    """No test sleeps to be right; helpers that wait for a condition with a deadline live in tests/support/."""
    if module.path.parts[0] != "tests" or module.path.parts[1] == "support":
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {"time.sleep", "sleep"}:
                yield f"{module.path}:{node.lineno}: {name}() in a test"


def mocks(module: Module) -> Iterator[str]:
    """Tests use the real thing or the shipped fake."""
    for line, name in imports(module):
        if name.startswith(("unittest.mock", "mock")) or name == "unittest":
            yield f"{module.path}:{line}: {name}"


def silent_tests(module: Module) -> Iterator[str]:
    """Every test states its claim."""
    if not module.path.name.startswith("test_"):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node):
            yield f"{module.path}:{node.lineno}: {node.name} states no claim"


RULES: Final = (
    layer_direction, pure_layers, function_length, module_length, module_docstring, printing, foreign_sqlite,
    unfinished, sleeping_tests, mocks, silent_tests,
)  # fmt: skip


def several_importers(found: list[Module]) -> Iterator[str]:
    """Each library of `SINGLE_IMPORTERS` is imported by one module of the package, in its place."""
    for library, place in SINGLE_IMPORTERS.items():
        importers = [
            str(module.path)
            for module in found
            if module.part is not None and any(name.split(".")[0] == library for _, name in imports(module))
        ]
        yield from (f"{path}: {library} is imported below {place} only" for path in importers if place not in path)
        if len(importers) > 1:
            yield f"{library} has several importers: {', '.join(importers)}"
