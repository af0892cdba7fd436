"""`lsync version`: our version, and on request those of what we stand on."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

import click

import litestream_py

_LIBRARIES: Final = ("apsw", "boto3", "numpy", "lz4", "fastcrc", "pydantic")


@click.command()
@click.option("--verbose", is_flag=True, help="Name Python and the libraries as well.")
def command(*, verbose: bool) -> None:
    """Print the version."""
    click.echo(litestream_py.__version__)
    if verbose:
        click.echo(f"python {platform.python_version()} ({platform.system().lower()} {platform.machine()})")
        for name in _LIBRARIES:
            click.echo(f"{name} {metadata.version(name)}")
        # apsw brings its own SQLite and numbers itself after it.
        click.echo(f"sqlite {'.'.join(metadata.version('apsw').split('.')[:3])} (inside apsw)")
