"""`lsync ltx`: the LTX files of a replica."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from litestream_py.cli.options import config_options, json_option
from litestream_py.cli.source import open_source
from litestream_py.cli.tables import rfc3339, table
from litestream_py.ltx.ids import LEVEL_MAX


@click.command()
@click.option(
    "--level",
    type=click.Choice([*map(str, range(LEVEL_MAX + 1)), "all"]),
    default="0",
    show_default=True,
    metavar="0..9|all",
    help="The level to list: 0 holds every sync, 9 the snapshots.",
)
@json_option
@config_options
@click.argument("source", metavar="DB|URL")
def command(*, level: str, as_json: bool, config: Path | None, no_expand_env: bool, source: str) -> None:
    """List the LTX files of the replica of DB, or of the replica at URL.

    The time of a file on S3 is when it was stored there.
    """
    from litestream_py.engine.fetch import list_replica

    client = open_source(source, config=config, no_expand_env=no_expand_env).client
    with closing(client):
        files = list_replica(client, range(LEVEL_MAX + 1) if level == "all" else [int(level)])
    rows = [(f.name.level, f.name.min_txid, f.name.max_txid, f.size, rfc3339(f.created_ms)) for f in files]
    if as_json:
        keys = ("level", "min_txid", "max_txid", "size", "timestamp")
        named = [dict(zip(keys, (lvl, str(low), str(high), *rest), strict=True)) for lvl, low, high, *rest in rows]
        click.echo(json.dumps(named, indent=2))
    else:
        click.echo(table(("level", "min_txid", "max_txid", "size", "created"), rows))
