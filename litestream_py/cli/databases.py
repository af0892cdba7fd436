"""`lsync databases`: what the configuration says, without touching a database or a replica."""

from __future__ import annotations

import json
from pathlib import Path

import click

from litestream_py.cli.options import config_options, json_option
from litestream_py.cli.tables import table


@click.command()
@json_option
@config_options
def command(*, as_json: bool, config: Path | None, no_expand_env: bool) -> None:
    """List the databases of the configuration, and where each is replicated to."""
    from litestream_py.config import load_config

    rows = [(str(db.path), db.replica.url) for db in load_config(config, expand_env=not no_expand_env).dbs]
    if as_json:
        click.echo(json.dumps([{"path": path, "replica": replica} for path, replica in rows], indent=2))
    else:
        click.echo(table(("path", "replica"), rows))
