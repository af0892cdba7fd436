"""The configuration as values: frozen, complete, units in the names; and as keys: what each key of the file means.

`docs/configuration.md` is generated from the descriptions below (`make docs`). A model's fields are the keys of one
section of the file (`validation_alias` is the key); `REFUSED` names the keys that Litestream has and lsync does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from litestream_py.clients.specs import FileReplica, S3Replica
from litestream_py.config_values import (
    TRUNCATE_PAGES_DEFAULT,
    Duration,
    DurationOrOff,
    ListenAddress,
    LocalPath,
    PagesOrNever,
    PositiveCount,
    PositiveDuration,
    PositiveSize,
    SizeOrUnlimited,
    Switch,
    word,
)
from litestream_py.core.levels import LEVELS_DEFAULT, SNAPSHOT_INTERVAL_S, LevelConfig
from litestream_py.core.retention import RetentionPolicy

LATER: Final = "lsync does not support it yet; remove it"
NO: Final = "lsync does not support it; remove it"
_RETENTION: Final = RetentionPolicy()


def _key(name: str, default: Any, shown: str, text: str) -> Any:
    """Return the field of one key: `shown` is its default as the file would spell it."""
    return Field(default, validation_alias=name, description=text, json_schema_extra={"shown": shown})


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        defer_build=True,  # most commands use few of the models, or none
        validate_by_name=True,
        validate_by_alias=True,
        arbitrary_types_allowed=True,
    )


class LoggingConfig(_Model):
    """Keys of `logging`."""

    level: Annotated[str, word("trace", "debug", "info", "warn", "error")] = _key(
        "level", "info", "info", "`trace`, `debug`, `info`, `warn` or `error`. $LOG_LEVEL and `--log-level` come first."
    )
    form: Annotated[Literal["text", "json"], word("text", "json")] = _key(
        "type", "text", "text", "`text` (logfmt) or `json`; one line per event either way."
    )
    stderr: Switch = _key("stderr", False, "false", "Log to standard error instead of standard output.")


class ReplicaSettings(_Model):
    """Keys of a replica that may also stand at the top level, as defaults for every replica."""

    sync_interval_s: PositiveDuration = _key(
        "sync-interval", 1.0, "1s", "At most one upload per interval; the first after a quiet time goes at once."
    )
    bucket: str | None = _key("bucket", None, "", "S3 bucket, or the ARN of an access point. Not beside `url`.")
    endpoint: str | None = _key(
        "endpoint", None, "", "URL of an S3-compatible server; without a scheme, http for local hosts, else https."
    )
    region: str | None = _key("region", None, "", "S3 region. Unset: AWS's own environment and files, then us-east-1.")
    access_key_id: str | None = _key(
        "access-key-id",
        None,
        "",
        "Unset: AWS's own environment, files and instance roles; then $LITESTREAM_ACCESS_KEY_ID.",
    )
    secret_access_key: SecretStr | None = _key(
        "secret-access-key", None, "", "As `access-key-id`; then $LITESTREAM_SECRET_ACCESS_KEY."
    )
    force_path_style: Switch | None = _key(
        "force-path-style", None, "", "Bucket in the path, not in the host name. Unset: true with an `endpoint`."
    )
    sign_payload: Switch | None = _key("sign-payload", None, "true", "Sign the body of each upload with SigV4.")
    require_content_md5: Switch | None = _key(
        "require-content-md5", None, "true", "Send Content-MD5 with batch deletes. Unset: true but for Tigris."
    )
    skip_verify: Switch | None = _key("skip-verify", None, "false", "Accept any TLS certificate of the server.")
    part_size_bytes: PositiveSize | None = _key(
        "part-size", None, "16MiB", "Larger files go up in parts of this size; 5MiB at least."
    )
    concurrency: PositiveCount | None = _key("concurrency", None, "4", "Parts of one file uploaded at the same time.")
    storage_class: str | None = _key("storage-class", None, "", "S3 storage class of LTX files.")
    sse_kms_key_id: str | None = _key("sse-kms-key-id", None, "", "KMS key that S3 encrypts LTX files with.")


class ReplicaKeys(ReplicaSettings):
    """Keys of `dbs[].replica`, where the database is copied to."""

    url: str | None = _key("url", None, "", "`file:///PATH` or `s3://BUCKET/PREFIX`; or give `type` and `path`.")
    type: Annotated[str, word("file", "s3")] | None = _key(
        "type", None, "file", "`file` or `s3`. The scheme of `url` says it too; `bucket` implies s3."
    )
    path: str | None = _key("path", None, "", "Folder of a file replica, prefix within the bucket of an s3 replica.")


class ReplicaConfig(_Model):
    """One replica, complete: where it lies with every setting laid over, and how often it is written."""

    target: FileReplica | S3Replica
    sync_interval_s: float = 1.0

    @property
    def url(self) -> str:
        """The URL without secrets, for messages and labels."""
        return self.target.display


class DbKeys(_Model):
    """Keys of `dbs[]`, one entry for each database."""

    path: LocalPath = Field(
        validation_alias="path",
        description="The database file. `~` and a `sqlite://` in front are understood; relative to the working folder.",
    )
    meta_path: LocalPath | None = _key(
        "meta-path", None, "`.NAME-lsync` beside the database", "Folder of lsync's own state for this database."
    )
    journal_mode: Annotated[Literal["refuse", "convert"], word("refuse", "convert")] = _key(
        "journal-mode",
        "refuse",
        "refuse",
        "A database not in WAL mode: `refuse` it, or `convert` it (lsync's only change ever). Not in Litestream.",
    )
    monitor_interval_s: PositiveDuration = _key(
        "monitor-interval", 1.0, "1s", "How often to look for changes where the file system does not tell of them."
    )
    busy_timeout_s: Duration = _key("busy-timeout", 1.0, "1s", "How long to wait for SQLite's other locks.")
    lock_wait_s: Duration = _key(
        "lock-wait", 0.25, "250ms", "How long to wait for the write lock before giving up for now. Not in Litestream."
    )
    lock_work_bytes: PositiveSize = _key(
        "lock-work", 1 << 20, "1MiB", "WAL that may be left to copy while holding the write lock. Not in Litestream."
    )
    sync_wal_bytes_max: SizeOrUnlimited = _key(
        "max-sync-wal-bytes", 64 << 20, "64MiB", "WAL copied into one LTX file, cut at a commit. 0: no limit."
    )
    checkpoint_interval_s: Duration = _key(
        "checkpoint-interval", 60.0, "1m", "Checkpoint changes that are older than this. 0: not for their age."
    )
    checkpoint_pages_min: PositiveCount = _key(
        "min-checkpoint-page-count", 1000, "1000", "Checkpoint when the WAL holds this many pages."
    )
    truncate_pages: PagesOrNever = _key(
        "truncate-page-n",
        TRUNCATE_PAGES_DEFAULT,
        "121359",
        "Cut the WAL file back to nothing when it is longer than this many pages. 0: the default; negative: never.",
    )


class LevelKeys(_Model):
    """Keys of `levels[]`, one entry for each level from 1 on."""

    interval_s: PositiveDuration = Field(
        validation_alias="interval",
        description="How often the level takes in what the level below got; longer from level to level, 8 at most.",
    )


class SnapshotKeys(_Model):
    """Keys of `snapshot`, at the top level and in an entry of `dbs`."""

    interval_s: PositiveDuration = _key(
        "interval", SNAPSHOT_INTERVAL_S, "24h", "How often a snapshot is taken, if anything changed since the last one."
    )
    retention_s: PositiveDuration = _key(
        "retention", _RETENTION.window_s, "24h", "Every moment of this last time can be restored."
    )
    minimum: PositiveCount = _key(
        "minimum", _RETENTION.snapshots_min, "1", "Snapshots that stay whatever their age. Not in Litestream."
    )


class RetentionKeys(_Model):
    """Keys of `retention`."""

    enabled: Switch = _key(
        "enabled", True, "true", "false: lsync deletes nothing from replicas; a lifecycle rule of the store has to."
    )


class ValidationKeys(_Model):
    """Keys of `validation`."""

    interval_s: DurationOrOff = _key(
        "interval", None, "off", "How often `replicate` verifies each replica, by reading all of it. 0: off."
    )


class L0Keys(_Model):
    """Keys at the top level that say how long level 0 is kept, and how often retention looks."""

    l0_s: DurationOrOff = _key(
        "l0-retention",
        _RETENTION.l0_s,
        "5m",
        "Every single TXID of this last time can be restored: for as long L0 files stay beside level 1. 0: for ever.",
    )
    check_s: PositiveDuration = _key(
        "l0-retention-check-interval",
        60.0,
        "1m",
        "How often to see which files of any level may go; nothing is looked up while none can. Litestream's is 15s.",
    )


class DbConfig(DbKeys):
    """One database and where it is replicated to; `truncate_pages` 0 and `checkpoint_interval_s` 0 mean never.

    levels, snapshot_interval_s: when files are merged, and when a snapshot is taken. retention: what is promised; what
    it does not need is deleted, looked for every `retention_check_s`, unless `retention_enabled` is off.
    """

    replica: ReplicaConfig
    levels: tuple[LevelConfig, ...] = LEVELS_DEFAULT
    snapshot_interval_s: float = SNAPSHOT_INTERVAL_S
    retention: RetentionPolicy = _RETENTION
    retention_enabled: bool = True
    retention_check_s: float = 60.0


class GlobalKeys(_Model):
    """Keys at the top level, beside the sections and the replica settings."""

    addr: ListenAddress | None = _key(
        "addr", None, "", "Serve `/metrics` at HOST:PORT. `:9090` is loopback only; `0.0.0.0:9090` is every interface."
    )
    shutdown_sync_timeout_s: Duration = _key(
        "shutdown-sync-timeout", 30.0, "30s", "How long to go on replicating after SIGTERM. 0: one attempt."
    )
    shutdown_sync_interval_s: PositiveDuration = _key(
        "shutdown-sync-interval", 0.5, "500ms", "Pause between attempts of that."
    )


class Config(GlobalKeys):
    """The whole configuration. `source` names the file, or the command line.

    validation_interval_s: how often each replica is verified, None for never.
    """

    source: str
    dbs: tuple[DbConfig, ...]
    logging: LoggingConfig = LoggingConfig()
    validation_interval_s: float | None = None

    def find(self, path: Path) -> DbConfig | None:
        """Return the database of this path, symbolic links followed; None if the configuration has none."""
        real = path.resolve()
        return next((db for db in self.dbs if db.path.resolve() == real), None)


REFUSED_GLOBAL: Final = {
    "verify-compaction": LATER,
    "socket": LATER,
    "exec": LATER,
    "heartbeat-url": LATER,
    "heartbeat-interval": LATER,
    "mcp-addr": NO,
}
REFUSED_LOGGING: Final = {"source": NO}
REFUSED_DB: Final = {
    "dir": "lsync does not watch directories yet; list each database under its `path`",
    "pattern": "lsync does not watch directories yet; list each database under its `path`",
    "recursive": "lsync does not watch directories yet; list each database under its `path`",
    "watch": "lsync does not watch directories yet; list each database under its `path`",
    "meta-dir": "lsync does not watch directories yet; use `meta-path`",
    "restore-if-db-not-exists": LATER,
}
_OTHER_STORES: Final = (
    "account-name", "account-key", "sas-token", "host", "user", "password", "key-path", "host-key",
    "concurrent-writes", "webdav-url", "webdav-username", "webdav-password", "jwt", "seed", "creds", "nkey",
    "username", "token", "tls", "root-cas", "client-cert", "client-key", "max-reconnects", "reconnect-wait", "timeout",
)  # fmt: skip
REFUSED_SETTINGS: Final = {
    "validation-interval": "Litestream reads it and does nothing with it; remove it",
    "max-sync-ltx-files": LATER,
    "auto-recover": "lsync compares and ships the difference instead, always; remove it",
    "sse-customer-algorithm": NO,
    "sse-customer-key": NO,
    "sse-customer-key-path": NO,
    **dict.fromkeys(_OTHER_STORES, "it belongs to a store that lsync does not support: use s3:// or file://"),
}
REFUSED_REPLICA: Final = {
    **REFUSED_SETTINGS,
    "name": "a database has one replica, which needs no name; remove it",
    "age": "nothing would be encrypted (Litestream 0.5 refuses it too); remove it and encrypt the bucket",
}
"""Keys of Litestream that are errors here, with what to do: never silently ignored."""
