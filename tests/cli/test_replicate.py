"""The command line of `lsync replicate`: what is refused before anything is opened."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from litestream_py.cli.main import run
from litestream_py.errors import ExitCode


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["app.db"], "1 arguments; DB and URL, or none"),
        (["app.db", "file:///r", "more"], "3 arguments; DB and URL, or none"),
        (["app.db", "file:///r", "--config", "lsync.yml"], "--config goes without DB and URL"),
        (["app.db", "ftp://host/path"], "ftp://"),
        (["app.db", "file:///r", "--metrics-addr", "nonsense"], "--metrics-addr"),
        (["app.db", "file:///r", "--log-level", "loud"], "'loud' is no level"),
        (["app.db", "file:///r", "--log-format", "xml"], "xml"),
        (["--config", "/nonexistent/lsync.yml"], "/nonexistent/lsync.yml"),
        (["--follow"], "--follow"),
    ],
)
def test_usage(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is a usage error that names what is wrong, on stderr."""
    assert run(["replicate", *words]) == ExitCode.USAGE
    told = capsys.readouterr()
    assert says in told.err
    assert told.err.startswith("lsync: error: ")
    assert not told.out


def test_an_address_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A metrics address that cannot be had is an error at once, before the database is looked at."""
    words = ["replicate", str(tmp_path / "app.db"), f"file://{tmp_path}/r", "--metrics-addr"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run([*words, f"127.0.0.1:{taken.getsockname()[1]}"]) == ExitCode.USAGE
    assert "--metrics-addr" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
