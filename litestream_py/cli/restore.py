"""`lsync restore`: rebuild a database from its replica."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from litestream_py.cli.interrupts import unwinding
from litestream_py.cli.options import config_options, json_option, parallelism_option
from litestream_py.cli.progress import ByteBar
from litestream_py.cli.source import Source, open_source
from litestream_py.cli.spool import refuse_terminal, through_spool
from litestream_py.cli.tables import amount_text, rfc3339, size_text, table
from litestream_py.errors import ConfigError, NothingToRestoreError
from litestream_py.ltx.ids import TXID

if TYPE_CHECKING:
    from litestream_py.core.restore import RestorePlan
    from litestream_py.engine.moment import Target
    from litestream_py.engine.restorer import RestoreOptions, RestoreResult

_CHECKS = ("auto", "none", "quick", "full")
_STDOUT = Path("-")


@click.command()
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Where to restore to [default: DB]; - is standard output.",
)
@click.option("--txid", metavar="TXID", help="Restore this transaction (16 hex digits) instead of the newest.")
@click.option(
    "--timestamp",
    metavar="TIME",
    help='Restore the last state before this time: "2026-08-03T14:05:00Z", "10 minutes ago".',
)
@click.option("--force", is_flag=True, help="Replace an existing database, its -wal, -shm and -journal included.")
@click.option("--if-db-not-exists", is_flag=True, help="Do nothing, successfully, if the target exists.")
@click.option(
    "--if-replica-exists",
    is_flag=True,
    help="Do nothing, successfully, if the replica is reachable and holds no backup.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be restored from which files, and write nothing.")
@parallelism_option
@click.option(
    "--integrity-check",
    type=click.Choice(_CHECKS),
    default="auto",
    show_default=True,
    help="SQLite's check of the result; auto: the chain's own checksum, or full where it carries none.",
)
@json_option
@config_options
@click.argument("source", metavar="DB|URL")
def command(
    *,
    source: str,
    output: Path | None,
    txid: str | None,
    timestamp: str | None,
    force: bool,
    if_db_not_exists: bool,
    if_replica_exists: bool,
    dry_run: bool,
    parallelism: int,
    integrity_check: str,
    as_json: bool,
    config: Path | None,
    no_expand_env: bool,
) -> None:
    r"""Restore the database DB of the configuration, or the one replicated to URL (with -o).

    \b
    lsync restore -o app.db s3://bucket/app
    lsync restore -o app.db --timestamp "10 minutes ago" s3://bucket/app
    lsync restore -o - s3://bucket/app | gzip > app.db.gz

    The target is written under a temporary name, proven, and only then given its own: it is as it was, or complete. An
    existing database is refused without --force. With -o - the proven database goes to standard output by way of a
    temporary file below $TMPDIR, and what there is to tell to standard error.

    `lsync history` shows which times can be restored, and how finely.
    """
    from litestream_py.engine.restorer import Integrity, RestoreOptions
    from litestream_py.local.malloc import keep_heap_small

    keep_heap_small()
    target = _parse_target(txid, timestamp)
    to_stdout = output == _STDOUT
    if to_stdout and (force or if_db_not_exists):
        raise ConfigError("read", "command line", "--force and --if-db-not-exists go with a file, not with -o -")
    if to_stdout and not dry_run:
        refuse_terminal()
    found = open_source(source, config=config, no_expand_env=no_expand_env)
    with closing(found.client):
        path = _STDOUT if to_stdout else _target_path(found, output)
        if if_db_not_exists and _db_exists(path):
            _skip(path, "the database exists", as_json=as_json)
            return
        try:
            if dry_run:
                _show_plan(found, target, path, source, as_json=as_json)
            else:
                options = RestoreOptions(parallelism, Integrity(integrity_check), force)
                _restore(found, target, path, options, as_json=as_json)
        except NothingToRestoreError:
            if not if_replica_exists:
                raise
            _skip(path, "the replica holds no backup", as_json=as_json)


def _parse_target(txid: str | None, timestamp: str | None) -> Target:
    if timestamp is None:
        return _parse_txid(txid)
    if txid is not None:
        raise ConfigError("read", "command line", "--txid and --timestamp say two things", hint="give one of them")
    from litestream_py.core.when import parse_when
    from litestream_py.engine.moment import Moment

    return Moment(parse_when(timestamp, time.time_ns() // 1_000_000))


def _parse_txid(text: str | None) -> TXID | None:
    try:
        return None if text is None else TXID.parse(text)
    except ValueError as error:
        raise ConfigError("read", "--txid", error) from error


def _target_path(found: Source, output: Path | None) -> Path:
    path = output or found.db_path
    if path is None:
        cause = "a replica URL does not say where to restore to"
        raise ConfigError("restore", found.client.url, cause, hint="add -o PATH")
    return Path(os.path.abspath(path.expanduser()))


def _db_exists(path: Path) -> bool:
    """Tell whether there is a database; an empty file is none: container set-ups create it before the restore."""
    return os.path.lexists(path) and (not path.is_file() or path.stat().st_size > 0)


def _skip(path: Path, reason: str, *, as_json: bool) -> None:
    text = json.dumps({"db_path": str(path), "skipped": reason}) if as_json else f"nothing restored: {reason}"
    click.echo(text, err=path == _STDOUT)


def _show_plan(found: Source, target: Target, path: Path, source: str, *, as_json: bool) -> None:
    from litestream_py.core.restore import plan_restore
    from litestream_py.engine.moment import resolve

    url = found.client.url
    resolved = resolve(found.client, target)
    plan = plan_restore(resolved.listing, resolved.txid, damaged=resolved.damaged, source=url)
    if as_json:
        shown = _plan_json(plan)
        named = {"source": source if found.db_path else url, "target_path": str(path), "replica": url}
        click.echo(json.dumps(named | shown, indent=2))
        return
    click.echo(f"would restore {path} at TXID {plan.max_txid} from {url}: {amount_text(len(plan.files), plan.bytes)}")
    rows = [(f.name.level, f.name.min_txid, f.name.max_txid, f.size, rfc3339(f.created_ms)) for f in plan.files]
    click.echo(table(("level", "min_txid", "max_txid", "size", "created"), rows))
    for info in plan.avoided:
        click.echo(f"avoided: {info.name}, a damaged file that others stand in for")


def _plan_json(plan: RestorePlan) -> dict[str, Any]:
    return {
        "min_txid": str(plan.min_txid),
        "max_txid": str(plan.max_txid),
        "files": [
            {
                "level": info.name.level,
                "name": info.name.name,
                "min_txid": str(info.name.min_txid),
                "max_txid": str(info.name.max_txid),
                "size": info.size,
                "timestamp": rfc3339(info.created_ms),
            }
            for info in plan.files
        ],
        "avoided": [str(info.name) for info in plan.avoided],
    }


def _restore(found: Source, target: Target, path: Path, options: RestoreOptions, *, as_json: bool) -> None:
    from litestream_py.engine.restorer import Progress, restore_txid

    to_stdout = path == _STDOUT
    with unwinding(), ByteBar("restore") as bar:
        progress = Progress(lambda plan: bar.start(plan.bytes), bar.advance) if bar.shown else None

        def restore_to(place: Path) -> RestoreResult:
            return restore_txid(found.client, place, target, options, progress=progress)

        result = through_spool(restore_to) if to_stdout else restore_to(path)
    for info in result.avoided:
        click.echo(f"lsync: warning: {info.name} is damaged; other files of the replica stood in for it", err=True)
    shown = "-" if to_stdout else str(result.path)
    if as_json:
        click.echo(json.dumps(_result_json(found.client.url, result, shown)), err=to_stdout)
        return
    seconds = max(result.duration_s, 1e-3)
    state = f", the state of {rfc3339(result.timestamp_ms)}" if target is not None else ""
    click.echo(
        f"restored {'standard output' if to_stdout else shown} at TXID {result.txid}{state}: "
        f"{size_text(result.size_bytes)} from {amount_text(result.files, result.fetched_bytes)} in {seconds:.1f} s",
        err=to_stdout,
    )
    click.echo(f"checksum: {_proof(result)}; integrity check: {result.integrity}", err=to_stdout)


def _result_json(url: str, result: RestoreResult, shown: str) -> dict[str, Any]:
    return {
        "db_path": shown,
        "replica": url,
        "txid": str(result.txid),
        "timestamp": rfc3339(result.timestamp_ms),
        "duration_ms": round(result.duration_s * 1000),
        "integrity_check": str(result.integrity),
        "checksum": _proof(result),
        "size": result.size_bytes,
        "files": result.files,
        "fetched_bytes": result.fetched_bytes,
        "avoided": [str(info.name) for info in result.avoided],
    }


def _proof(result: RestoreResult) -> str:
    return "not carried by this chain" if result.checksum is None else f"verified ({result.checksum:016x})"
