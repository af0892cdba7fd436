"""The rules of this code base hold, and each rule notices what it is there for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

import pytest

from litestream_py.cli.main import COMMANDS
from tests.support import tidy

MODULES = tidy.modules()


@pytest.mark.parametrize("rule", tidy.RULES, ids=lambda rule: rule.__name__)
def test_the_rule_holds(rule: Callable[[tidy.Module], Iterator[str]]) -> None:
    """No module of the checkout breaks the rule."""
    assert [wrong for module in MODULES for wrong in rule(module)] == []


def test_libraries_have_one_importer() -> None:
    """One file knows apsw, one knows prometheus_client."""
    assert list(tidy.several_importers(MODULES)) == []


@pytest.mark.parametrize(
    ("rule", "path", "source", "wrong"),
    [
        ("layer_direction", "litestream_py/core/a.py", "from litestream_py.engine import b", "core must not import"),
        ("layer_direction", "litestream_py/ltx/a.py", "def f():\n    import litestream_py.wal.b", "must not import"),
        ("layer_direction", "litestream_py/local/a.py", "import litestream_py.clients", "local must not import"),
        ("layer_direction", "litestream_py/engine/a.py", "from litestream_py import logs", "engine must not import"),
        ("layer_direction", "litestream_py/config_a.py", "from litestream_py.daemon import b", "must not import"),
        ("layer_direction", "litestream_py/core/a.py", "from litestream_py import failpoints", "core must not import"),
        ("layer_direction", "litestream_py/core/a.py", "import litestream_py", "must not import litestream_py"),
        ("layer_direction", "litestream_py/__init__.py", "from litestream_py.errors import b", "must not import"),
        ("layer_direction", "litestream_py/core/a.py", "from .b import c", "relative import"),
        ("layer_direction", "litestream_py/brand_new/a.py", "", "'brand_new' has no place"),
        ("pure_layers", "litestream_py/wal/a.py", "import os.path", "wal must not import os.path"),
        ("pure_layers", "litestream_py/core/a.py", "from time import monotonic", "core must not import time"),
        ("pure_layers", "litestream_py/ltx/a.py", "x = open('y')", "ltx must not call open()"),
        ("function_length", "tools/a.py", "def f():\n" + "    x = 1\n" * 70, "f has 71 lines, 70 at most"),
        ("module_length", "tests/a.py", "\n" * 501, "501 lines, 500 at most"),
        ("module_docstring", "litestream_py/core/a.py", "x = 1", "no module docstring"),
        ("printing", "litestream_py/daemon/a.py", "print(1)", "print() outside of cli/"),
        ("foreign_sqlite", "litestream_py/local/a.py", "import sqlite3", "sqlite3 beside apsw"),
        ("unfinished", "litestream_py/core/a.py", "x = 1  # TO" + "DO: more", "TO" + "DO: more"),
        ("sleeping_tests", "tests/core/test_a.py", "import time\ntime.sleep(1)", "time.sleep() in a test"),
        ("sleeping_tests", "tests/test_a.py", "from time import sleep\nsleep(1)", "sleep() in a test"),
        ("mocks", "tests/test_a.py", "from unittest.mock import Mock", "unittest.mock"),
        ("silent_tests", "tests/test_a.py", "def test_x():\n    assert y", "test_x states no claim"),
    ],
)
def test_the_rule_notices(rule: str, path: str, source: str, wrong: str) -> None:
    """A module that breaks the rule is named with its line, or as a whole."""
    found = list(getattr(tidy, rule)(tidy.Module(PurePosixPath(path), source)))
    assert found
    assert found[0].startswith(path)
    assert wrong in " ".join(found)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        ("layer_direction", "litestream_py/cli/a.py", "import litestream_py\nfrom litestream_py import __version__"),
        ("layer_direction", "litestream_py/engine/a.py", "from litestream_py import failpoints"),
        ("layer_direction", "litestream_py/core/a.py", "from litestream_py.ltx.ids import TXID\nimport litestream"),
        ("layer_direction", "tests/core/a.py", "from litestream_py.engine import b"),
        ("pure_layers", "litestream_py/local/a.py", "import os\nopen('x')"),
        ("function_length", "tools/a.py", "def f():\n" + "    x = 1\n" * 69),
        ("module_length", "tests/a.py", "\n" * 500),
        ("printing", "litestream_py/cli/a.py", "print(1)"),
        ("unfinished", "litestream_py/core/a.py", "x = 'TO" + "DO'"),
        ("sleeping_tests", "tests/support/a.py", "import time\ntime.sleep(1)"),
        ("silent_tests", "tests/test_a.py", 'def test_x():\n    """It is so."""'),
    ],
)
def test_the_rule_allows(rule: str, path: str, source: str) -> None:
    """What the rule is not about passes."""
    assert list(getattr(tidy, rule)(tidy.Module(PurePosixPath(path), source))) == []


def test_a_second_importer_is_noticed() -> None:
    """Two files that know apsw, or one in the wrong layer, are named."""
    one = tidy.Module(PurePosixPath("litestream_py/local/a.py"), "import apsw")
    two = tidy.Module(PurePosixPath("litestream_py/engine/b.py"), "def f():\n    from apsw.ext import x")
    assert list(tidy.several_importers([one])) == []
    assert list(tidy.several_importers([one, two])) == [
        "litestream_py/engine/b.py: apsw is imported below litestream_py/local/ only",
        "apsw has several importers: litestream_py/local/a.py, litestream_py/engine/b.py",
    ]


def test_the_documentation_knows_every_command() -> None:
    """README.md and docs/ explain each subcommand."""
    pages = [tidy.ROOT / "README.md", *(tidy.ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    assert [name for name in COMMANDS if f"lsync {name}" not in text] == []
