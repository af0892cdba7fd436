"""`lsync history`: what a replica can restore."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from litestream_py.cli.options import config_options, json_option
from litestream_py.cli.source import open_source
from litestream_py.cli.tables import amount_text, rfc3339, size_text, table
from litestream_py.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestream_py.core.levels import LevelConfig
    from litestream_py.engine.history import History


@click.command()
@json_option
@config_options
@click.argument("source", metavar="DB|URL")
def command(*, as_json: bool, config: Path | None, no_expand_env: bool, source: str) -> int:
    """Show what can be restored: from when to when, how finely, and what is stored for it.

    "every transaction" means that each TXID of the range can be restored, "steps of level 1" that only the states at
    the ends of its files can. Any time within the ranges may be given to `lsync restore --timestamp`.

    Exit code 6: the newest TXID cannot be restored (what can be is shown all the same); 3: there is no backup.
    """
    from litestream_py.engine.history import read_history

    found = open_source(source, config=config, no_expand_env=no_expand_env)
    levels = () if found.db is None else found.db.levels
    with closing(found.client):
        history = read_history(found.client)
    click.echo(json.dumps(history.to_json(levels), indent=2) if as_json else _text(history, levels))
    if history.problem is None:
        return ExitCode.OK
    click.echo(f"lsync: warning: the newest TXID cannot be restored: {history.problem}", err=True)
    click.echo("hint: lsync verify reads every file and names the bad ones", err=True)
    return ExitCode.CORRUPT


def _text(history: History, levels: Sequence[LevelConfig]) -> str:
    from litestream_py.core.window import describe_steps

    ranges = [
        (rfc3339(r.oldest_ms), rfc3339(r.newest_ms), r.oldest, r.newest, r.points, describe_steps(r.level, levels))
        for r in history.ranges
    ]
    sizes = [(lvl.level, lvl.files, size_text(lvl.bytes), lvl.min_txid, lvl.max_txid) for lvl in history.levels]
    snapshots = [
        (item.info.name.max_txid, rfc3339(item.timestamp_ms), item.info.name.level, size_text(item.info.size))
        for item in history.snapshots
    ]
    parts = [
        f"what {history.url} can restore:",
        table(("from", "to", "min_txid", "max_txid", "points", "steps"), ranges),
        f"\nstored in {amount_text(history.files, history.bytes)}:",
        table(("level", "files", "size", "min_txid", "max_txid"), sizes),
        "\nsnapshots:",
        table(("txid", "timestamp", "level", "size"), snapshots),
    ]
    return "\n".join(parts)
