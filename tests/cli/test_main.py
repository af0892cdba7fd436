"""The frame of the command line: help, exit codes, one line for each failure, lazy imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from litestream_py import __version__
from litestream_py.cli import main as cli
from litestream_py.cli.lazy import LazyCommand
from litestream_py.errors import DiskFullError, ExitCode, NothingToRestoreError, TransientNetworkError

LSYNC = (sys.executable, "-m", "litestream_py")


def lsync(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run lsync as a user does."""
    return subprocess.run([*LSYNC, *arguments], capture_output=True, text=True, timeout=60, check=False)


@click.command()
@click.option("--fail", default="")
@click.option("--code", type=int)
def command(*, fail: str, code: int | None) -> int | None:
    """Fail as asked; the subcommand that these tests add to the group."""
    failures: dict[str, BaseException] = {
        "network": TransientNetworkError("upload", "s3://b/x", "timed out", hint="lsync replicate"),
        "disk": DiskFullError("write", "/a", "no space left"),
        "empty": NothingToRestoreError("restore", "s3://b/x", "no backup"),
        "click": click.ClickException("Something broke."),
        "ctrl-c": KeyboardInterrupt(),
        "pipe": BrokenPipeError(),
        "defect": RuntimeError("oh"),
    }
    if fail:
        raise failures[fail]
    return code


@pytest.fixture(autouse=True)
def with_a_command_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the command above as `lsync broken`, and keep the environment's log level out."""
    monkeypatch.setitem(cli.COMMANDS, "broken", LazyCommand(__name__, "Fail."))
    monkeypatch.delenv("LOG_LEVEL", raising=False)


@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [
        ("network", 4, "lsync: error: upload s3://b/x: timed out\nhint: lsync replicate\n"),
        ("disk", 7, "lsync: error: write /a: no space left\n"),
        ("empty", 3, "lsync: error: restore s3://b/x: no backup\n"),
        ("click", 1, "lsync: error: something broke\n"),
        ("ctrl-c", 130, "\nlsync: error: interrupted\n"),
        ("pipe", 1, ""),
        ("defect", 1, "lsync: error: unexpected RuntimeError: oh\nhint: a defect of lsync; "),
    ],
)
def test_the_code_is_that_of_the_failure(
    failure: str, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each failure is one line on stderr, its hint another, and the exit code of its class; never a traceback."""
    assert cli.run(["broken", "--fail", failure]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(told)
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [["--log-level", "debug"], ["--log-level=TRACE"]])
def test_a_traceback_is_for_those_who_ask(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A defect shows where it happened at level debug."""
    assert cli.run([*words, "broken", "--fail", "defect"]) == 1
    told = capsys.readouterr().err
    assert "raise failures[fail]\nRuntimeError: oh\nlsync: error: unexpected RuntimeError: oh" in told


def test_a_command_may_return_its_code() -> None:
    """What a command returns is the exit code; nothing is success."""
    assert cli.run(["broken", "--code", "5"]) == 5
    assert cli.run(["broken"]) == ExitCode.OK


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bork"], "lsync: error: unknown command 'bork'; did you mean 'broken'?\nhint: lsync --help\n"),
        (["xyzzy"], "lsync: error: unknown command 'xyzzy'; commands: replicate, restore, "),
        (["version", "--loud"], "lsync: error: no such option '--loud'\nhint: lsync version --help\n"),
        (["version", "extra"], "lsync: error: got unexpected extra argument (extra)\nhint: lsync version --help\n"),
        (["-confg", "x"], "lsync: error: read command line: unknown flag '-confg'\nhint: did you mean --config?\n"),
        ([], "Usage: lsync [OPTIONS] COMMAND [ARGS]..."),
    ],
)
def test_a_wrong_command_line_is_code_2(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the word, the hint the help that explains it."""
    assert cli.run(words) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert (out, err[: len(told)]) == ("", told)


def test_help_names_every_command_and_imports_none() -> None:
    """Help, and the import of the frame, load neither numpy, boto3, apsw, pydantic nor structlog."""
    heavy = ("numpy", "boto3", "botocore", "apsw", "pydantic", "structlog", "yaml", "prometheus_client")
    program = (
        "import sys; from litestream_py.cli.main import run; code = run(['--help'])\n"
        f"print([name for name in {heavy!r} if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in ("replicate", "restore", "ltx", "databases", "version"):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name != "broken"])
def test_every_command_has_help_and_a_summary_that_fits(name: str) -> None:
    """The table's summary agrees with the command's own help: both exist, and every option is explained."""
    found = cli.lsync.get_command(click.Context(cli.lsync), name)
    assert found is not None
    assert found.help
    for parameter in found.params:
        assert isinstance(parameter, click.Argument) or getattr(parameter, "help", None), parameter.name


def test_version_tells_ours_and_what_we_stand_on() -> None:
    """`lsync version` and `--version` agree; `-verbose`, Litestream's spelling, adds Python and SQLite."""
    assert lsync("version").stdout == f"{__version__}\n"
    assert __version__ in lsync("--version").stdout
    lines = lsync("version", "-verbose").stdout.splitlines()
    assert lines[0] == __version__
    assert {line.split()[0] for line in lines[1:]} >= {"python", "apsw", "boto3", "sqlite"}


def test_databases_lists_the_configuration(tmp_path: Path) -> None:
    """As text with heads, as JSON with the same names; secrets never."""
    config = tmp_path / "l.yml"
    config.write_text(
        "access-key-id: HUSH\nsecret-access-key: HUSH\n"
        "dbs:\n  - {path: /srv/a.db, replica: {url: 's3://bkt/a'}}\n  - {path: /b.db, replica: {path: /r}}\n"
    )
    done = lsync("databases", "-config", str(config))
    assert done.stdout == "path       replica\n/srv/a.db  s3://bkt/a\n/b.db      file:///r\n"
    listed = json.loads(lsync("databases", "--json", f"--config={config}").stdout)
    assert listed == [
        {"path": "/srv/a.db", "replica": "s3://bkt/a"}, {"path": "/b.db", "replica": "file:///r"},
    ]  # fmt: skip
    config.write_text("dbs: []\nadress: x\n")
    failed = lsync("databases", "--config", str(config))
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        f"lsync: error: read configuration {config}:2: unknown key 'adress'\nhint: did you mean 'addr'?\n"
    )


def test_a_reader_that_left_is_no_traceback() -> None:
    """`lsync ... | head` ends quietly."""
    with subprocess.Popen([*LSYNC, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 1
