"""`lsync verify`: prove a replica restorable, or name what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from litestream_py.cli.interrupts import unwinding
from litestream_py.cli.options import config_options, json_option, parallelism_option
from litestream_py.cli.progress import ByteBar
from litestream_py.cli.source import open_source
from litestream_py.cli.tables import amount_text
from litestream_py.errors import ConfigError

if TYPE_CHECKING:
    from litestream_py.config_model import DbConfig
    from litestream_py.core.verdict import Verdict

_PROBLEMS_SHOWN = 20


@click.command()
@click.option("--quick", is_flag=True, help="Only the listing, and header and end of each file.")
@click.option("--full", is_flag=True, help="Also restore the newest state and let SQLite check it.")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Where --full restores to; it needs room for the database [default: $TMPDIR].",
)
@parallelism_option
@json_option
@config_options
@click.argument("source", metavar="DB|URL")
def command(
    *,
    source: str,
    quick: bool,
    full: bool,
    scratch: Path | None,
    parallelism: int,
    as_json: bool,
    config: Path | None,
    no_expand_env: bool,
) -> int:
    """Prove that the replica of DB, or the one at URL, can be restored.

    Without a flag every byte is read: the checksum of each file, and from file to file the checksum of the whole
    database, at each TXID that can be restored and at each snapshot. With --full the newest state is restored too, to
    a scratch folder, checked by SQLite, and compared with lsync's own state of DB where that is at the same TXID.

    The verdict is ok (exit code 0), failed (6: it names the bad files, and what can still be restored), or
    inconclusive (the code of what prevented it: 3 no backup, 4 unreachable, 5 access denied).
    """
    if quick and full:
        raise ConfigError("read", "command line", "--quick and --full say two things", hint="give one of them")
    if scratch is not None and not full:
        raise ConfigError("read", "command line", "--scratch goes with --full")
    from litestream_py.core.verdict import Depth
    from litestream_py.engine.verifier import Progress, VerifyOptions, verify
    from litestream_py.local.malloc import keep_heap_small

    keep_heap_small()
    depth = Depth.QUICK if quick else Depth.FULL if full else Depth.DEEP
    found = open_source(source, config=config, no_expand_env=no_expand_env)
    options = VerifyOptions(depth, parallelism, _local_state(found.db), scratch)
    with closing(found.client), unwinding(), ByteBar("verify") as bar:
        verdict = verify(found.client, options, progress=Progress(bar.start, bar.advance))
    click.echo(json.dumps(verdict.to_json(), indent=2) if as_json else "\n".join(_text(verdict)))
    if verdict.prevented is not None:
        click.echo(f"lsync: error: {verdict.prevented}", err=True)
        if verdict.prevented.hint:
            click.echo(f"hint: {verdict.prevented.hint}", err=True)
    return verdict.exit_code


def _local_state(db: DbConfig | None) -> Path | None:
    if db is None:
        return None
    from litestream_py.local.meta import default_meta_path

    return db.meta_path or default_meta_path(db.path)


def _text(verdict: Verdict) -> Iterator[str]:
    seconds = max(verdict.duration_s, 1e-3)
    yield f"{verdict.outcome}: {verdict.url}"
    if verdict.newest is None:
        return
    yield f"newest TXID {verdict.newest}; read {amount_text(verdict.files, verdict.read_bytes)} in {seconds:.1f} s"
    for problem in verdict.problems[:_PROBLEMS_SHOWN]:
        yield f"bad: {problem}"
    if len(verdict.problems) > _PROBLEMS_SHOWN:
        yield f"... and {len(verdict.problems) - _PROBLEMS_SHOWN} more: --json lists them"
    if (first := verdict.first_bad) is not None and first.name is not None:
        yield f"first bad file: {first.name}, from TXID {first.txid}"
    yield f"can be restored: {verdict.restorable}"
    if verdict.lost.count:
        yield f"lost: {verdict.lost}"
    elif verdict.problems:
        yield "lost: nothing, other files hold the same TXIDs"
    if verdict.unused:
        yield f"unused: {verdict.unused} files from before the oldest snapshot, which retention removes"
    if verdict.states:
        yield f"checksum: {verdict.proof}; states rebuilt: {verdict.states}, with a checksum to match: {verdict.proven}"
    if verdict.integrity is not None:
        yield f"integrity check of the restored database: {verdict.integrity}"
    if verdict.live is not None:
        yield f"live database: {verdict.live}"
