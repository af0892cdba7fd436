"""The configuration as a whole: defaults, inheritance, URLs, credentials, where the file is found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from litestream_py.clients.specs import FileReplica, S3Replica
from litestream_py.config import command_line_config, find_config, load_config, parse_config, replica_target
from litestream_py.config_model import Config, DbConfig, ReplicaConfig
from litestream_py.config_values import Address
from litestream_py.core.levels import LEVELS_DEFAULT, LevelConfig
from litestream_py.core.retention import RetentionPolicy
from litestream_py.errors import ConfigError

ONE = "dbs:\n  - path: /a.db\n    replica: {url: 's3://bkt/x'}\n"


def read(text: str, **env: str) -> Config:
    """Parse with exactly these environment variables."""
    return parse_config(text, env=env)


def values_of(db: DbConfig) -> dict[str, object]:
    """Return every field of a database but its replica."""
    return {name: getattr(db, name) for name in DbConfig.model_fields if name != "replica"}


def s3_of(config: Config, index: int = 0) -> S3Replica:
    """Return the S3 replica of a database."""
    target = config.dbs[index].replica.target
    assert isinstance(target, S3Replica)
    return target


def test_defaults_are_those_of_litestream() -> None:
    """A database with nothing but path and replica gets the documented defaults."""
    config = read(ONE)
    (db,) = config.dbs
    assert values_of(db) == {
        "path": Path("/a.db"), "meta_path": None, "journal_mode": "refuse", "monitor_interval_s": 1.0,
        "busy_timeout_s": 1.0, "lock_wait_s": 0.25, "lock_work_bytes": 1 << 20, "sync_wal_bytes_max": 64 << 20,
        "checkpoint_interval_s": 60.0, "checkpoint_pages_min": 1000, "truncate_pages": 121_359,
        "levels": LEVELS_DEFAULT, "snapshot_interval_s": 86_400.0, "retention": RetentionPolicy(),
        "retention_enabled": True, "retention_check_s": 60.0,
    }  # fmt: skip
    assert (db.replica.sync_interval_s, db.replica.url) == (1.0, "s3://bkt/x")
    assert (config.addr, config.shutdown_sync_timeout_s, config.shutdown_sync_interval_s) == (None, 30.0, 0.5)
    assert config.validation_interval_s is None
    assert (config.logging.level, config.logging.form, config.logging.stderr) == ("info", "text", False)


def test_every_key_arrives_in_its_unit() -> None:
    """Durations become seconds, sizes bytes; zero means what Litestream says it means."""
    config = read("""
addr: "0.0.0.0:9090"
shutdown-sync-timeout: 0
shutdown-sync-interval: 1s
logging: {level: DEBUG, type: json, stderr: yes}
levels: [{interval: 10s}, {interval: 1m30s}]
snapshot: {interval: 6h, retention: 168h, minimum: 3}
l0-retention: 0
l0-retention-check-interval: 15s
retention: {enabled: false}
validation: {interval: 168h}
dbs:
  - path: sqlite:///x/../a.db
    meta-path: /state/a
    journal-mode: convert
    monitor-interval: 250ms
    busy-timeout: 5s
    lock-wait: 100ms
    lock-work: 512KiB
    max-sync-wal-bytes: 0
    checkpoint-interval: 0
    min-checkpoint-page-count: 10
    truncate-page-n: -1
    replica:
      type: s3
      bucket: bkt
      path: /deep/er/
      endpoint: localhost:9000
      region: eu-west-1
      access-key-id: 0123
      secret-access-key: hush
      force-path-style: true
      sign-payload: false
      require-content-md5: false
      skip-verify: true
      part-size: 8MiB
      concurrency: 2
      storage-class: STANDARD_IA
      sse-kms-key-id: k
      sync-interval: 10s
""")
    (db,) = config.dbs
    assert config.addr == Address("0.0.0.0", 9090)
    assert config.validation_interval_s == 168 * 3600.0
    assert (config.shutdown_sync_timeout_s, config.shutdown_sync_interval_s) == (0.0, 1.0)
    assert (config.logging.level, config.logging.form, config.logging.stderr) == ("debug", "json", True)
    assert values_of(db) == {
        "path": Path("/a.db"), "meta_path": Path("/state/a"), "journal_mode": "convert", "monitor_interval_s": 0.25,
        "busy_timeout_s": 5.0, "lock_wait_s": 0.1, "lock_work_bytes": 512 << 10, "sync_wal_bytes_max": None,
        "checkpoint_interval_s": 0.0, "checkpoint_pages_min": 10, "truncate_pages": 0,
        "levels": (LevelConfig(1, 10.0), LevelConfig(2, 90.0)), "snapshot_interval_s": 6 * 3600.0,
        "retention": RetentionPolicy(window_s=168 * 3600.0, l0_s=None, snapshots_min=3),
        "retention_enabled": False, "retention_check_s": 15.0,
    }  # fmt: skip
    target = s3_of(config)
    assert (target.bucket, target.prefix, db.replica.sync_interval_s) == ("bkt", "deep/er", 10.0)
    options = target.options
    assert (options.endpoint, options.region, options.access_key_id) == ("http://localhost:9000", "eu-west-1", "0123")
    assert (options.secret_access_key, options.storage_class, options.sse_kms_key_id) == ("hush", "STANDARD_IA", "k")
    assert (options.path_style, options.sign_payload, options.skip_verify) == (True, False, True)
    assert (options.require_content_md5, options.part_size_bytes, options.concurrency) == (False, 8 << 20, 2)


def test_a_database_may_have_its_own_snapshots() -> None:
    """Its keys go before the top level's, one by one; databases may differ, and the rest is shared."""
    config = read("""
snapshot: {interval: 12h, retention: 48h}
l0-retention: 10m
levels: [{interval: 1m}]
dbs:
  - {path: /a.db, replica: {path: /r/a}, snapshot: {retention: 720h, minimum: 2}}
  - {path: /b.db, replica: {path: /r/b}, snapshot: {interval: 1h}}
  - {path: /c.db, replica: {path: /r/c}, snapshot: }
""")
    assert [(db.snapshot_interval_s, db.retention) for db in config.dbs] == [
        (43_200.0, RetentionPolicy(window_s=720 * 3600.0, l0_s=600.0, snapshots_min=2)),
        (3_600.0, RetentionPolicy(window_s=48 * 3600.0, l0_s=600.0)),
        (43_200.0, RetentionPolicy(window_s=48 * 3600.0, l0_s=600.0)),
    ]
    assert {db.levels for db in config.dbs} == {(LevelConfig(1, 60.0),)}


def test_the_top_level_gives_defaults_to_every_replica() -> None:
    """A replica's own key goes before the top level's, and both before the URL's query."""
    config = read("""
region: top
endpoint: http://top:1
concurrency: 3
sync-interval: 5s
skip-verify: true
dbs:
  - path: /a.db
    replica: {url: "s3://bkt/a?region=url&storageClass=COLD"}
  - path: /b.db
    replica: {url: "s3://bkt/b", region: own, sync-interval: 1s, skip-verify: false, endpoint: ""}
  - path: /c.db
    replicas: [{path: /replica}]
""")
    first, second = s3_of(config).options, s3_of(config, 1).options
    assert (first.region, first.endpoint, first.concurrency, first.skip_verify) == ("top", "http://top:1", 3, True)
    assert first.storage_class == "COLD"
    assert (second.region, second.endpoint, second.skip_verify) == ("own", "http://top:1", False)
    assert [db.replica.sync_interval_s for db in config.dbs] == [5.0, 1.0, 5.0]
    assert config.dbs[2].replica.target == FileReplica(Path("/replica"))


@pytest.mark.parametrize(
    ("keys", "url"),
    [
        ("url: file:///r/%20x", "file:///r/ x"),
        ("url: /r", "file:///r"),
        ("path: sub/../r", f"file://{Path.cwd()}/r"),
        ("type: file\n      path: ~/r", f"file://{Path.home()}/r"),
        ("url: s3://bkt.localhost:9000/p", "s3://bkt/p?endpoint=http://localhost:9000"),
        ("bucket: bkt", "s3://bkt"),
        ("type: s3\n      bucket: bkt\n      path: p", "s3://bkt/p"),
        ("type: s3\n      url: s3://bkt/p", "s3://bkt/p"),
    ],
)
def test_replicas_are_named_by_url_or_by_parts(keys: str, url: str) -> None:
    """All of Litestream's ways to say where a replica lies lead to one form."""
    assert read(f"dbs:\n  - path: /a.db\n    replica:\n      {keys}\n").dbs[0].replica.url == url


def test_litestream_credential_variables_come_last() -> None:
    """They count only where neither the configuration nor AWS's own variable names a key."""
    variables = {"LITESTREAM_ACCESS_KEY_ID": "lk", "LITESTREAM_SECRET_ACCESS_KEY": "ls"}
    options = s3_of(read(ONE, **variables)).options
    assert (options.access_key_id, options.secret_access_key) == ("lk", "ls")
    assert s3_of(read(ONE, **variables, AWS_ACCESS_KEY_ID="x")).options.access_key_id is None
    own = "access-key-id: own\nsecret-access-key: s\n" + ONE
    assert s3_of(read(own, **variables)).options.access_key_id == "own"
    assert s3_of(read(ONE, LITESTREAM_ACCESS_KEY_ID="lk")).options.access_key_id is None


def test_variables_expand_and_pid_is_ours() -> None:
    """$VAR, ${VAR} and $PID are replaced unless told otherwise."""
    text = "addr: ':$PORT'\ndbs:\n  - {path: '/${DIR}/$PID.db', replica: {path: /r}}\n"
    config = read(text, PORT="1", DIR="d")
    assert (config.addr, config.dbs[0].path) == (Address("127.0.0.1", 1), Path(f"/d/{os.getpid()}.db"))
    (db,) = parse_config("dbs: [{path: /$DIR, replica: {path: /r}}]", expand_env=False, env={}).dbs
    assert db.path == Path("/$DIR")


def test_log_level_of_the_environment_goes_first() -> None:
    """LOG_LEVEL beats the file, as in Litestream, and a bad one is an error."""
    assert read("logging: {level: error}", LOG_LEVEL="DEBUG").logging.level == "debug"
    with pytest.raises(ConfigError, match=r"read \$LOG_LEVEL: 'loud' is no log level"):
        read("", LOG_LEVEL="loud")


def test_secrets_do_not_show() -> None:
    """Neither the text nor the repr of a configuration gives a secret away."""
    config = read("access-key-id: k\nsecret-access-key: hush\n" + ONE)
    assert s3_of(config).options.secret_access_key == "hush"
    assert "hush" not in f"{config} {config!r} {config.dbs[0].replica.url}"


def test_configuration_is_frozen() -> None:
    """What has been read cannot be changed by accident."""
    db = read(ONE).dbs[0]
    for value, name in ((db, "path"), (db.replica, "sync_interval_s")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(value, name, None)


def test_a_database_is_found_by_any_path_to_it(tmp_path: Path) -> None:
    """Symbolic links and relative parts lead to the same entry."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    config = Config(
        source="x",
        dbs=(DbConfig(path=tmp_path / "real" / "a.db", replica=ReplicaConfig(target=FileReplica(tmp_path))),),
    )
    assert config.find(tmp_path / "link" / "a.db") == config.dbs[0]
    assert config.find(tmp_path / "a.db") is None


def test_the_command_line_makes_the_same_configuration() -> None:
    """`DB URL` gives what a file with that one database gives."""
    made = command_line_config("sqlite:///a.db", "s3://bkt/x", env={})
    assert made.dbs == read(ONE).dbs
    assert made.source == "command line"
    assert replica_target("r", env={}) == FileReplica(Path.cwd() / "r")
    with pytest.raises(ConfigError, match="s3:// is a URL, not a path"):
        command_line_config("s3://b/x", "/r", env={})


def test_the_file_is_found_where_it_is_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours before Litestream's variable, variables before the default places, and none at all is an error."""
    assert find_config({"LSYNC_CONFIG": "/l", "LITESTREAM_CONFIG": "/s"}) == Path("/l")
    assert find_config({"LITESTREAM_CONFIG": "/s"}) == Path("/s")
    places = (tmp_path / "lsync.yml", tmp_path / "litestream.yml")
    monkeypatch.setattr("litestream_py.config.DEFAULT_PATHS", places)
    with pytest.raises(ConfigError) as caught:
        find_config({})
    assert caught.value.hint == "name one: --config FILE"
    places[1].write_text(ONE)
    assert load_config(env={}).source == str(places[1])
    places[0].write_text(ONE)
    assert find_config({}) == places[0]


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    """A missing file, a directory and bytes that are no text are one line each."""
    for path, cause in ((tmp_path / "none", "no such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=cause):
            load_config(path)
    (tmp_path / "bytes").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="not UTF-8 text, at byte 3"):
        load_config(tmp_path / "bytes")
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfaddr: ':1'")
    assert load_config(tmp_path / "bom").addr == Address("127.0.0.1", 1)
