"""Entry point of `lsync`: finds the subcommand, and turns every failure into one line, a hint and an exit code.

| outcome | exit code |
|---|---|
| an LsyncError | its own (`errors.ExitCode`) |
| a wrong command line | 2 |
| Ctrl-C outside of `replicate` | 130 |
| the reader of our output has gone | 1 |
| anything unforeseen | 1; the traceback only with `--log-level debug` |
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

import litestream_py
from litestream_py.cli.argv import rewrite
from litestream_py.cli.lazy import LazyCommand, LazyGroup
from litestream_py.errors import ExitCode, LsyncError

COMMANDS: Final = {
    "replicate": LazyCommand("litestream_py.cli.replicate", "Replicate databases continuously."),
    "restore": LazyCommand("litestream_py.cli.restore", "Rebuild a database from its replica."),
    "history": LazyCommand("litestream_py.cli.history", "Show what can be restored, from when to when."),
    "verify": LazyCommand("litestream_py.cli.verify", "Prove a replica restorable, or name what is wrong."),
    "prune": LazyCommand("litestream_py.cli.prune", "Delete what retention no longer needs."),
    "ltx": LazyCommand("litestream_py.cli.ltx", "List the LTX files of a replica."),
    "databases": LazyCommand("litestream_py.cli.databases", "List the databases of the configuration."),
    "version": LazyCommand("litestream_py.cli.version", "Print the version."),
}
"""Every subcommand; the tidy test asks the documentation about each."""

_INTERRUPTED: Final = 130
LOG_LEVELS: Final = ("trace", "debug", "info", "warn", "error")


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`lsync COMMAND --help` explains a command.",
)
@click.option("--log-level", type=click.Choice(LOG_LEVELS, case_sensitive=False), help="How much to tell on stderr.")
@click.version_option(litestream_py.__version__, prog_name="lsync")
def lsync(log_level: str | None) -> None:
    """Keep SQLite databases continuously replicated to a folder or S3, and restore them at any transaction."""
    if log_level is not None:
        from litestream_py.logs import configure

        configure(level=log_level, stderr=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `lsync` and exit the process with its exit code."""
    # numpy's linear algebra would start a thread a core, and is used for nothing that gains by it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = list(sys.argv[1:] if arguments is None else arguments)
    code = run(words)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter would complain when it flushes again on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or ExitCode.FAILED
    sys.exit(code)


def run(words: list[str]) -> int:
    """Run one command line and return its exit code; failures are told on stderr, never raised."""
    try:
        result = lsync.main(rewrite(words), prog_name="lsync", standalone_mode=False)
    except LsyncError as error:
        return _complain(str(error), error.hint, error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "lsync"
        return _complain(_sentence(error), f"{command} --help", ExitCode.USAGE)
    except click.ClickException as error:
        return _complain(_sentence(error), None, ExitCode.FAILED)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", None, _INTERRUPTED)
    except BrokenPipeError:
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the last line of defence: a defect of ours still ends in one line
        if _wants_traceback(words):
            sys.excepthook(type(error), error, error.__traceback__)
        told = f"unexpected {type(error).__name__}: {error}"
        return _complain(told, "a defect of lsync; `lsync --log-level debug ...` shows where", ExitCode.FAILED)
    # A command that has a code other than 0 to report without an error returns it, or calls ctx.exit().
    return result if isinstance(result, int) else ExitCode.OK


def _complain(message: str, hint: str | None, code: int) -> int:
    click.echo(f"lsync: error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return int(code)


def _sentence(error: click.ClickException) -> str:
    """Return click's message in our grammar: lower case, no full stop."""
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]


def _wants_traceback(words: Sequence[str]) -> bool:
    """Tell whether the command line or the environment asks for level debug, wherever the flag stands."""
    levels = {os.environ.get("LOG_LEVEL", "").lower()}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, _, value = word.lstrip("-").partition("=")
        if flag == "log-level":
            levels.add((value or following).lower())
    return not levels.isdisjoint({"debug", "trace"})
