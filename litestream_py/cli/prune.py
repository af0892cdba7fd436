"""`lsync prune`: retention by hand, or to see what it would do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from litestream_py.cli.interrupts import unwinding
from litestream_py.cli.options import config_options, json_option
from litestream_py.cli.source import open_source
from litestream_py.cli.tables import amount_text, rfc3339, size_text, table
from litestream_py.errors import ConfigError, NothingToRestoreError

if TYPE_CHECKING:
    from litestream_py.config_model import DbConfig
    from litestream_py.core.retention import Decision, RetentionPlan, RetentionPolicy


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and why the rest stays; delete nothing.")
@click.option("--retention", metavar="DURATION", help="With a URL: every moment of this last time can be restored.")
@click.option("--l0-retention", metavar="DURATION", help="With a URL: every TXID of this last time; 0: for ever.")
@click.option("--minimum", type=click.IntRange(1), help="With a URL: snapshots that stay whatever their age.")
@json_option
@config_options
@click.argument("source", metavar="DB|URL")
def command(
    *,
    source: str,
    dry_run: bool,
    retention: str | None,
    l0_retention: str | None,
    minimum: int | None,
    as_json: bool,
    config: Path | None,
    no_expand_env: bool,
) -> None:
    r"""Delete what retention no longer needs from the replica of DB, or from the one at URL.

    \b
    lsync prune --dry-run app.db
    lsync prune --dry-run --retention 720h s3://bucket/app

    `lsync replicate` does the same by itself, unless `retention.enabled` is false. For DB the configuration says what
    is promised (`snapshot.retention`, `snapshot.minimum`, `l0-retention`); with a URL --retention has to say it.

    A replica whose newest TXID cannot be restored is left alone (exit code 6). What became superfluous within the last
    hour stays, because a restore may be reading it. Each delete is checked; one that is denied is exit code 5.
    """
    found = open_source(source, config=config, no_expand_env=no_expand_env)
    with closing(found.client) as client:
        policy = _policy(found.db, retention, l0_retention, minimum)
        if found.db is not None and not found.db.retention_enabled and not dry_run:
            hint = "--dry-run shows what would go; set retention.enabled: true, or leave it to the store's own rules"
            raise ConfigError("prune", found.db.path, "retention.enabled is false in the configuration", hint=hint)
        from litestream_py.core.retention import plan_retention
        from litestream_py.engine.fetch import list_replica
        from litestream_py.engine.retention import execute_retention

        listing = list_replica(client)
        if not listing:
            raise NothingToRestoreError("prune", client.url, "the replica holds no backup")
        appeared = {info.name: info.appeared_ms for info in listing if info.appeared_ms}
        now_ms = time.time_ns() // 1_000_000
        plan = plan_retention(listing, policy, now_ms, appeared_ms=appeared, source=client.url)
        if not dry_run:
            with unwinding():
                execute_retention(client, plan, relist=True)
        if as_json:
            click.echo(json.dumps(_json(client.url, plan, policy, dry_run=dry_run), indent=2))
        else:
            click.echo("\n".join(_text(client.url, plan, dry_run=dry_run)))


def _policy(
    db: DbConfig | None, retention: str | None, l0_retention: str | None, minimum: int | None
) -> RetentionPolicy:
    from litestream_py.core.retention import RetentionPolicy

    if db is not None:
        if (retention, l0_retention, minimum) != (None, None, None):
            cause = "--retention, --l0-retention and --minimum go with a URL"
            raise ConfigError("read", "command line", cause, hint="for a database the configuration says what is kept")
        return db.retention
    if retention is None:
        cause = "what is promised of this replica is not known here"
        raise ConfigError("prune", "URL", cause, hint="add --retention DURATION, for example 24h; or name the database")
    default = RetentionPolicy()
    return RetentionPolicy(
        window_s=_seconds("--retention", retention),
        l0_s=default.l0_s if l0_retention is None else _seconds("--l0-retention", l0_retention) or None,
        snapshots_min=default.snapshots_min if minimum is None else minimum,
    )


def _seconds(flag: str, text: str) -> float:
    from litestream_py.config_values import BadValueError, parse_duration

    try:
        return parse_duration(text)
    except BadValueError as error:
        raise ConfigError("read", flag, error.cause, hint=error.hint) from error


def _text(url: str, plan: RetentionPlan, *, dry_run: bool) -> Iterator[str]:
    """Tell runs of files that share a level and a reason in one row each."""
    amount = amount_text(len(plan.deletes), plan.bytes)
    yield f"{'would delete' if dry_run else 'deleted'} {amount} of {amount_text(*_total(plan))} from {url}"
    runs = [list(run) for _, run in groupby(plan.decisions, key=lambda item: (item.info.name.level, item.reason))]
    rows = [
        (
            "keep" if run[0].keep else "delete",
            run[0].info.name.level,
            len(run),
            size_text(sum(item.info.size for item in run)),
            run[0].info.name.min_txid,
            run[-1].info.name.max_txid,
            run[0].reason.words,
        )
        for run in runs
    ]
    yield table(("action", "level", "files", "size", "min_txid", "max_txid", "why"), rows)


def _total(plan: RetentionPlan) -> tuple[int, int]:
    return len(plan.decisions), sum(item.info.size for item in plan.decisions)


def _json(url: str, plan: RetentionPlan, policy: RetentionPolicy, *, dry_run: bool) -> dict[str, Any]:
    return {
        "replica": url,
        "dry_run": dry_run,
        "policy": {"retention_s": policy.window_s, "l0_retention_s": policy.l0_s, "minimum": policy.snapshots_min},
        "deletes": {"files": len(plan.deletes), "size": plan.bytes},
        "files": [_file_json(item) for item in plan.decisions],
    }


def _file_json(item: Decision) -> dict[str, Any]:
    return {
        "level": item.info.name.level,
        "min_txid": str(item.info.name.min_txid),
        "max_txid": str(item.info.name.max_txid),
        "size": item.info.size,
        "timestamp": rfc3339(item.info.created_ms),
        "action": "keep" if item.keep else "delete",
        "reason": str(item.reason),
        "why": item.reason.words,
        "until": None if item.until_ms is None else rfc3339(item.until_ms),
    }
