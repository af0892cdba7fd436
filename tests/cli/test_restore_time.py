"""`lsync restore --timestamp`: points in time as users write them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from litestream_py.cli.main import run
from litestream_py.clients.factory import open_client
from litestream_py.ltx.ids import TXID, FileName
from litestream_py.ltx.records import Header
from tests.support.chains import sample


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A replica of seven TXIDs, one for each second of 1970's first."""
    return sample().folder(tmp_path / "replica")


@pytest.mark.parametrize("flag", ["--timestamp", "-timestamp"])
def test_a_time_restores_the_last_state_before_it(
    flag: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both spellings work, the comparison is strict, and the result says which state it is."""
    out = tmp_path / "out.db"
    assert run(["restore", "-o", str(out), flag, "1970-01-01T00:00:04Z", url]) == 0
    assert out.read_bytes() == sample().image(3)
    told = capsys.readouterr().out
    assert "at TXID 0000000000000003, the state of 1970-01-01T00:00:03.000Z: " in told
    assert run(["restore", "--json", "--force", "-o", str(out), flag, "1970-01-01T02:00:04.001+02:00", url]) == 0
    assert out.read_bytes() == sample().image(4)
    result = json.loads(capsys.readouterr().out)
    assert (result["txid"], result["timestamp"]) == ("0000000000000004", "1970-01-01T00:00:04.000Z")


def test_ago_counts_from_now(tmp_path: Path) -> None:
    """"10 minutes ago" is before a state of five minutes ago, and behind one of an hour ago."""
    history = sample()
    client = open_client(f"file://{tmp_path}/replica")
    now_ms = time.time_ns() // 1_000_000
    for txid, minutes in ((1, 60), (2, 5)):
        _, body = history.file(0, txid, txid, at_ms=now_ms - 60_000 * minutes)
        assert Header.unpack(body).timestamp_ms == now_ms - 60_000 * minutes
        client.put(FileName(0, TXID(txid), TXID(txid)), body, timestamp_ms=now_ms)
    out = tmp_path / "out.db"
    for text, txid in (("10 minutes ago", 1), ("1m ago", 2), ("now", 2)):
        assert run(["restore", "--force", "-o", str(out), "--timestamp", text, client.url]) == 0
        assert out.read_bytes() == history.image(txid), text


def test_a_dry_run_shows_what_the_time_means(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan is that of the TXID chosen, and nothing is written."""
    arguments = ["restore", "--dry-run", "--json", "--timestamp", "1970-01-01T00:00:02.5Z", "-o", f"{tmp_path}/o", url]
    assert run(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["max_txid"], len(told["files"])) == ("0000000000000002", 2)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--timestamp", "1970-01-01T00:00:01Z"], 1, "can be restored: 1970-01-01T00:00:01.000Z"),
        (["--timestamp", "1970-01-01T00:00:01Z"], 1, "every transaction"),
        (["--timestamp", "1970-01-01T00:00:01Z"], 1, "hint: give a time after 1970-01-01T00:00:01.000Z"),
        (["--timestamp", "1970-01-01 00:00:01"], 2, "the offset from UTC is missing"),
        (["--timestamp", "yesterday"], 2, "'yesterday': it is not a point in time"),
        (["--timestamp", "2999-01-01T00:00:00Z"], 2, "it lies in the future"),
        (["--timestamp", "now", "--txid", "0000000000000003"], 2, "--txid and --timestamp say two things"),
    ],
)
def test_times_that_name_nothing_are_refused(
    arguments: list[str], code: int, told: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside of the window is 1 and names the window and its steps; what is no time is 2. No file is left."""
    assert run(["restore", "-o", f"{tmp_path}/out.db", *arguments, url]) == code
    out, err = capsys.readouterr()
    assert (out, told in err) == ("", True), err
    assert not (tmp_path / "out.db").exists()
