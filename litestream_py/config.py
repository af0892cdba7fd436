"""Reads the configuration: the keys of litestream.yml, strictly.

Whatever a user wrote and lsync would not obey is a ConfigError (exit code 2) that names file, line, key and what to
write instead: unknown and duplicate keys, bad values, options of Litestream that lsync does not have, a setting that
means nothing where it stands, two databases that are one, two databases that would share one replica.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from litestream_py.clients.specs import FileReplica, S3Replica
from litestream_py.clients.urls import parse_replica_url
from litestream_py.config_lifecycle import Lifecycle, read_lifecycle
from litestream_py.config_model import (
    REFUSED_DB,
    REFUSED_GLOBAL,
    REFUSED_LOGGING,
    REFUSED_SETTINGS,
    Config,
    DbConfig,
    DbKeys,
    GlobalKeys,
    L0Keys,
    LoggingConfig,
    ReplicaConfig,
    ReplicaSettings,
)
from litestream_py.config_replica import complete, read_replica
from litestream_py.config_sections import TOP_SECTIONS, check_keys, entries, keys_of, read_model, section
from litestream_py.config_values import BadValueError, parse_path
from litestream_py.config_yaml import Section, Source, parse_yaml
from litestream_py.errors import ConfigError

DEFAULT_PATHS: Final = (Path("/etc/lsync.yml"), Path("/etc/litestream.yml"))
PATH_VARIABLES: Final = ("LSYNC_CONFIG", "LITESTREAM_CONFIG")


def load_config(path: Path | None = None, *, expand_env: bool = True, env: Mapping[str, str] | None = None) -> Config:
    """Read a configuration file; without a path the first of `find_config`.

    Variables are those of `env` (default: the process's environment, and $PID). Raises ConfigError.
    """
    env = os.environ if env is None else env
    path = find_config(env) if path is None else path
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError("read configuration", path, "no such file") from error
    except OSError as error:
        raise ConfigError("read configuration", path, error.strerror or error) from error
    except UnicodeDecodeError as error:
        raise ConfigError("read configuration", path, f"not UTF-8 text, at byte {error.start}") from error
    return parse_config(text, name=str(path), expand_env=expand_env, env=env)


def find_config(env: Mapping[str, str]) -> Path:
    """Return $LSYNC_CONFIG, else $LITESTREAM_CONFIG, else the first of `DEFAULT_PATHS` that exists."""
    for name in PATH_VARIABLES:
        if env.get(name):
            return Path(env[name])
    for path in DEFAULT_PATHS:
        if path.exists():
            return path
    places = " or ".join(str(path) for path in DEFAULT_PATHS)
    raise ConfigError("read configuration", places, "no such file", hint="name one: --config FILE")


def parse_config(
    text: str, *, name: str = "configuration", expand_env: bool = True, env: Mapping[str, str] | None = None
) -> Config:
    """Return the configuration that a text holds; `name` is told in errors. Raises ConfigError."""
    env = os.environ if env is None else env
    source = Source(name, {**env, "PID": str(os.getpid())} if expand_env else None)
    return _read_config(parse_yaml(text, source), source, env)


def command_line_config(db: str, url: str, *, env: Mapping[str, str] | None = None) -> Config:
    """Return the configuration of `lsync replicate DB URL`: one database, every setting its default."""
    replica = ReplicaConfig(target=replica_target(url, env=env))
    try:
        path = parse_path(db)
    except BadValueError as error:
        raise ConfigError("replicate", db or "database", error.cause, hint=error.hint) from error
    return Config(source="command line", dbs=(DbConfig(path=path, replica=replica),))


def replica_target(url: str, *, env: Mapping[str, str] | None = None) -> FileReplica | S3Replica:
    """Return where a replica URL or path leads, as the configuration would: absolute, with credentials of `env`."""
    return complete(parse_replica_url(url), os.environ if env is None else env)


def _read_config(root: Section, source: Source, env: Mapping[str, str]) -> Config:
    settings = keys_of(ReplicaSettings)
    known = [*TOP_SECTIONS, *keys_of(GlobalKeys), *keys_of(L0Keys), *settings]
    check_keys(root, known, {**REFUSED_GLOBAL, **REFUSED_SETTINGS}, source)
    # Checked here as well: a bad default is an error even if no replica comes to use it.
    read_model(ReplicaSettings, root, source)
    defaults = Section({k: v for k, v in root.values.items() if k in settings}, root.lines)
    found = entries(root.values["dbs"], "dbs", source) if "dbs" in root.values else []
    lifecycle = read_lifecycle(root, source)
    dbs = [_read_db(entry, defaults, lifecycle, source, env) for entry in found]
    _check_distinct(found, dbs, source)
    keys = read_model(GlobalKeys, root, source)
    return Config(
        source=source.name,
        dbs=tuple(dbs),
        logging=_read_logging(root, source, env),
        validation_interval_s=lifecycle.validation_interval_s,
        **{name: getattr(keys, name) for name in GlobalKeys.model_fields},
    )


def _read_db(
    entry: Section, defaults: Section, lifecycle: Lifecycle, source: Source, env: Mapping[str, str]
) -> DbConfig:
    check_keys(entry, [*keys_of(DbKeys), "replica", "replicas", "snapshot"], REFUSED_DB, source)
    keys = read_model(DbKeys, entry, source)
    replica = read_replica(_replica_section(entry, source), defaults, source, env)
    return DbConfig(
        replica=replica,
        **lifecycle.of_database(entry, source),
        **{name: getattr(keys, name) for name in DbKeys.model_fields},
    )


def _replica_section(entry: Section, source: Source) -> Section:
    """Return the section of the one replica; `replicas` is Litestream's older spelling, a list of one."""
    one, several = entry.values.get("replica"), entry.values.get("replicas")
    if one is not None and several is not None:
        raise source.error(entry.lines["replicas"], "'replica' and 'replicas' are the same", "keep 'replica'")
    if several is not None:
        items = entries(several, "replicas", source)
        if len(items) != 1:
            cause = f"'replicas' has {len(items)} entries, and a database has one replica"
            raise source.error(entry.lines["replicas"], cause, "write one 'replica'")
        return items[0]
    if one is None:
        raise source.error(entry.line, "the database has no 'replica'", "add replica: {url: s3://BUCKET/PREFIX}")
    return section(one, "replica", source)


def _read_logging(root: Section, source: Source, env: Mapping[str, str]) -> LoggingConfig:
    found = section(root.values["logging"], "logging", source) if "logging" in root.values else Section()
    check_keys(found, keys_of(LoggingConfig), REFUSED_LOGGING, source)
    logging = read_model(LoggingConfig, found, source)
    level = env.get("LOG_LEVEL")
    return logging if not level else logging.model_copy(update={"level": _level_of_environment(level)})


def _level_of_environment(level: str) -> str:
    try:
        return LoggingConfig.model_validate({"level": level}).level
    except ValueError as error:
        raise ConfigError("read", "$LOG_LEVEL", f"{level!r} is no log level", hint="for example info") from error


def _check_distinct(found: list[Section], dbs: list[DbConfig], source: Source) -> None:
    """Refuse one database twice, and what two databases must not share: a replica, a folder of state."""
    lines: dict[tuple[str, str], int] = {}
    for entry, db in zip(found, dbs, strict=True):
        line = entry.lines["path"]
        places = [("database", os.path.realpath(db.path)), ("replica", db.replica.url)]
        if db.meta_path is not None:
            places.append(("meta-path", os.path.realpath(db.meta_path)))
        for what, value in places:
            first = lines.setdefault((what, value), line)
            if first != line:
                cause = f"the {what} {value} belongs to the database on line {first} already"
                raise source.error(line, cause, "remove one of the two" if what == "database" else "give each its own")
