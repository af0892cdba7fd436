"""The argument DB|URL of most commands: from what the user typed to a client of the replica."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from litestream_py.errors import ConfigError

if TYPE_CHECKING:
    from litestream_py.config_model import DbConfig
    from litestream_py.core.ports import ReplicaClient

_SQLITE_SCHEMES = ("sqlite://", "sqlite3://")


class Source(NamedTuple):
    """A replica, and the database it belongs to, unless the replica was named by its URL."""

    client: ReplicaClient
    db: DbConfig | None

    @property
    def db_path(self) -> Path | None:
        """The path of the database."""
        return None if self.db is None else self.db.path


def open_source(argument: str, *, config: Path | None, no_expand_env: bool) -> Source:
    """Return the source that DB|URL names; a DB is looked up in the configuration.

    Raises ConfigError (exit 2): no configuration, one that does not know DB, a configuration given beside a URL, a URL
    that is none.
    """
    from litestream_py.clients.factory import open_client
    from litestream_py.clients.urls import is_url

    if is_url(argument) and not argument.startswith(_SQLITE_SCHEMES):
        if config is not None:
            raise ConfigError("read", "command line", "--config goes with a database path, not with a replica URL")
        from litestream_py.config import replica_target

        return Source(open_client(replica_target(argument)), None)

    from litestream_py.config import load_config
    from litestream_py.config_values import parse_path

    path = parse_path(argument)
    hint = "name the replica by its URL, or the configuration with --config FILE"
    try:
        loaded = load_config(config, expand_env=not no_expand_env)
    except ConfigError as error:
        error.hint = error.hint or hint
        raise
    db = loaded.find(path)
    if db is None:
        known = ", ".join(str(db.path) for db in loaded.dbs) or "none"
        raise ConfigError("find", path, f"{loaded.source} does not know this database; it knows: {known}", hint=hint)
    return Source(open_client(db.replica.target), db)
