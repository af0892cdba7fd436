"""Options that several subcommands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_PARALLELISM_MAX = 64

Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(function: Command) -> Command:
    """Add `--config` (parameter `config: Path | None`) and `--no-expand-env` (`no_expand_env: bool`)."""
    function = click.option(
        "--no-expand-env", is_flag=True, help="Do not replace $VAR and ${VAR} in the configuration."
    )(function)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Configuration file [default: $LSYNC_CONFIG, $LITESTREAM_CONFIG, /etc/lsync.yml, /etc/litestream.yml].",
    )(function)


def json_option(function: Command) -> Command:
    """Add `--json` (parameter `as_json: bool`)."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")(function)


def parallelism_option(function: Command) -> Command:
    """Add `--parallelism` (parameter `parallelism: int`)."""
    return click.option(
        "--parallelism",
        type=click.IntRange(1, _PARALLELISM_MAX),
        default=8,
        show_default=True,
        help="How many files, or parts of one, are fetched at a time.",
    )(function)
