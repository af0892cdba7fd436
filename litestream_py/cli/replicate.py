"""`lsync replicate`: the daemon, in the foreground, for one database or those of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from litestream_py.cli.options import config_options
from litestream_py.errors import ConfigError

if TYPE_CHECKING:
    from litestream_py.config_model import Config
    from litestream_py.config_values import Address


@click.command("replicate")
@click.argument("arguments", nargs=-1, metavar="[DB URL]")
@config_options
@click.option("--metrics-addr", metavar="HOST:PORT", help="Serve /metrics there; port 0: a free one, reported.")
@click.option("--no-wait", is_flag=True, help="Fail if a database file is missing or empty, instead of waiting for it.")
@click.option("--log-level", help="trace, debug, info, warn or error; before $LOG_LEVEL and the configuration.")
@click.option("--log-format", type=click.Choice(("text", "json")), help="How log lines look; before the configuration.")
def command(
    arguments: tuple[str, ...],
    config: Path | None,
    no_expand_env: bool,
    metrics_addr: str | None,
    no_wait: bool,
    log_level: str | None,
    log_format: str | None,
) -> int:
    r"""Replicate databases until stopped: DB to URL, or every database of the configuration.

    \b
    lsync replicate app.db file:///backup/app
    lsync replicate app.db s3://bucket/app
    lsync replicate --config /etc/lsync.yml

    SIGTERM or SIGINT ends it after a final sync; the exit code says whether anything was left. A second signal aborts.
    """
    loaded = _load(arguments, config, expand_env=not no_expand_env)
    _configure_logs(loaded, log_level, log_format)

    from litestream_py.clients.factory import open_client
    from litestream_py.daemon.metrics import Metrics
    from litestream_py.daemon.metrics_server import MetricsServer, bind
    from litestream_py.daemon.publisher import Publisher
    from litestream_py.daemon.service import Service
    from litestream_py.logs import get_logger

    metrics = Metrics()
    metrics.set_databases(len(loaded.dbs))
    address = loaded.addr if metrics_addr is None else _address(metrics_addr)
    server = None
    if address is not None:
        server = MetricsServer(bind(address), metrics.render)
        get_logger().info("serving metrics", addr=f"http://{server.address}/metrics")
    try:
        service = Service(
            loaded,
            lambda number: open_client(loaded.dbs[number].replica.target),
            [Publisher(db.path, db.replica.url, metrics) for db in loaded.dbs],
            wait_for_file=not no_wait,
        )
        return service.run()
    finally:
        if server is not None:
            server.close()


def _load(arguments: tuple[str, ...], config: Path | None, *, expand_env: bool) -> Config:
    from litestream_py.config import command_line_config, load_config

    match arguments:
        case ():
            return load_config(config, expand_env=expand_env)
        case (db, url):
            if config is not None:
                raise ConfigError("read", "command line", "--config goes without DB and URL")
            return command_line_config(db, url)
    hint = "lsync replicate DB URL, or lsync replicate --config FILE"
    raise ConfigError("read", "command line", f"{len(arguments)} arguments; DB and URL, or none", hint=hint)


def _address(text: str) -> Address:
    from litestream_py.config_values import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise ConfigError("read", "--metrics-addr", error) from error


def _configure_logs(config: Config, level: str | None, form: str | None) -> None:
    import os

    from litestream_py.logs import LEVELS, configure

    given = click.get_current_context().find_root().params.get("log_level")  # lsync --log-level LEVEL replicate ...
    chosen = level or given or os.environ.get("LOG_LEVEL") or config.logging.level
    if chosen.lower() not in {*LEVELS, "warning"}:
        raise ConfigError("read", "log level", f"{chosen!r} is no level", hint=f"one of {', '.join(LEVELS)}")
    as_json = (form or config.logging.form) == "json"
    configure(level=chosen, form="json" if as_json else "text", stderr=config.logging.stderr)
