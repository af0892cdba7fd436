"""Whatever lsync would not obey is an error with file, line, key and advice; nothing is silently ignored."""

from __future__ import annotations

import pytest

from litestream_py.config import parse_config
from litestream_py.config_model import (
    REFUSED_DB,
    REFUSED_GLOBAL,
    REFUSED_LOGGING,
    REFUSED_REPLICA,
    REFUSED_SETTINGS,
    DbKeys,
    GlobalKeys,
    L0Keys,
    LoggingConfig,
    ReplicaKeys,
)
from litestream_py.config_sections import TOP_SECTIONS, keys_of
from litestream_py.errors import ConfigError

DB = "dbs:\n  - path: /a.db\n"
FILE = DB + "    replica:\n      path: /r\n"
S3 = DB + "    replica:\n      url: s3://bkt/x\n"


def refuse(text: str) -> ConfigError:
    """Return the error that a configuration is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, name="l.yml", env={})
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "cause", "hint"),
    [
        ("\naddres: ':1'", 2, "unknown key 'addres'", "did you mean 'addr'?"),
        ("logging:\n  levle: info", 2, "unknown key 'levle'", "did you mean 'level'?"),
        (DB + "    sync-interval: 1s", 3, "unknown key 'sync-interval'", "belongs into the 'replica' of a database"),
        ("dbs:\n  - {path: /a, addr: ':1'}", 2, "unknown key 'addr'", "'addr' belongs to the top level"),
        (FILE + "      sync-intervall: 1s", 5, "unknown key 'sync-intervall'", "did you mean 'sync-interval'?"),
        (FILE + "      sync_interval_s: 1s", 5, "unknown key 'sync_interval_s'", "did you mean 'sync-interval'?"),
        (FILE + "      xyzzy: 1", 5, "unknown key 'xyzzy'", "known here: "),
        (FILE + "      sync-interval: 1", 5, "'sync-interval': the duration '1' has no unit", "write 1s"),
        (FILE + "      sync-interval: 0", 5, "'sync-interval': '0' must be greater than zero", ""),
        (FILE + "      sync-interval:", 5, "'sync-interval' has no value", "give it one"),
        (FILE + "      sync-interval: [1s]", 5, "'sync-interval' takes one value", ""),
        (FILE + "      region: eu", 5, "'region' means nothing for a file replica", "remove it"),
        (S3 + "      path: x", 5, "'path' has no place beside 'url'", "keep one"),
        (S3 + "      bucket: bkt", 5, "'bucket' has no place beside 'url'", "keep one"),
        (S3 + "      type: file", 5, "'type' is file, and 'url' leads to s3", ""),
        (S3 + "      type: gs", 5, "'type': 'gs' is not one of file, s3", ""),
        (S3 + "      part-size: 1MB", 5, "part-size: 1000000 is not between 5242880 and", ""),
        (S3 + "      access-key-id: x", 4, "secret-access-key is missing", "give both"),
        (S3 + "      skip-verify: 2", 5, "'skip-verify': '2' is neither true nor false", "write true"),
        (S3 + "      concurrency: many", 5, "'concurrency': 'many' is not a whole number", ""),
        ("part-size: 1MB\n" + S3, 1, "part-size: 1000000 is not between", ""),
        ("part-size: big\n", 1, "'part-size': 'big' is not a size", "5MiB"),
        ("bucket: top-bucket\n" + S3, 5, "'url' and the top level name two buckets, the latter 'top-bucket'", ""),
        ("bucket: top-bucket\n" + FILE, 5, "is this replica in the 'bucket' of the top level?", "type: s3"),
        (DB, 2, "the database has no 'replica'", "add replica:"),
        (DB + "    replica:\n", 3, "the replica has neither 'url' nor 'path'", "add url"),
        (DB + "    replica:\n      type: s3", 4, "the s3 replica has no 'bucket'", "'url'"),
        (DB + "    replica:\n      path: s3://b/x", 4, "'path' is a URL", "write it as 'url'"),
        (DB + "    replica:\n      url: gs://b/x", 4, "this kind of replica is not supported", "s3:// or file://"),
        (DB + "    replica:\n      url: s3://bkt/x?regoin=eu", 4, "unknown option 'regoin'", "did you mean 'region'"),
        (DB + "    replica: s3://bkt/x", 3, "'replica' is a mapping of keys to values", ""),
        (DB + "    replicas: []", 3, "'replicas' has 0 entries, and a database has one replica", "one 'replica'"),
        (DB + "    replicas: [{path: /a}, {path: /b}]", 3, "'replicas' has 2 entries", "one 'replica'"),
        (DB + "    replicas: [{path: /a}]\n    replica: {path: /a}", 3, "are the same", "keep 'replica'"),
        ("dbs:\n  - replica: {path: /r}", 2, "'path' is missing", ""),
        ("dbs: {path: /a}", 1, "'dbs' is a list", "a dash"),
        ("dbs: [/a.db]", 1, "'dbs' is a mapping", ""),
        ("logging: debug", 1, "'logging' is a mapping", ""),
        ("logging: {type: pretty}", 1, "'type': 'pretty' is not one of text, json", ""),
        ("logging: {level: loud}", 1, "'level': 'loud' is not one of trace, debug", ""),
        ("addr: 9090", 1, "'addr': '9090' is not an address", ":9090"),
        ("levels: [{interval: 5m}, {interval: 5m}]", 1, "'levels': level 2 (300 s) is not made less often", "30s, 5m"),
        ("levels: []", 1, "'levels': there are 0 of them, 1 to 8 can be", "for example"),
        ("levels: {interval: 30s}", 1, "'levels' is a list", "a dash"),
        ("levels:\n  - interval: 0", 2, "'interval': '0' must be greater than zero", ""),
        ("levels:\n  - {}", 2, "'interval' is missing", ""),
        ("levels:\n  - {interval: 1s, level: 1}", 2, "unknown key 'level'", ""),
        ("snapshot:\n  interval: 0", 2, "'interval': '0' must be greater than zero", ""),
        ("snapshot:\n  retention: 24", 2, "'retention': the duration '24' has no unit", "write 24s"),
        ("snapshot:\n  minimum: 0", 2, "'minimum': '0' must be greater than zero", ""),
        ("snapshot:\n  interval:", 2, "'interval' has no value", "give it one"),
        ("snapshot: 24h", 1, "'snapshot' is a mapping", ""),
        ("retention: 24h", 1, "'retention' is a mapping", ""),
        ("retention:\n  enabled: perhaps", 2, "'enabled': 'perhaps' is neither true nor false", "write true"),
        ("retention:\n  keep: 3", 2, "unknown key 'keep'", "known here: enabled"),
        ("validation:\n  interval: weekly", 2, "'interval': 'weekly' is not a duration", "1h30m"),
        ("l0-retention: -1s", 1, "'l0-retention': '-1s' is not a duration", "1h30m"),
        ("l0-retention-check-interval: 0", 1, "'0' must be greater than zero", ""),
        (FILE + "      retention: 24h", 5, "unknown key 'retention'", "'retention' belongs into 'snapshot'"),
        (DB + "    levels: []", 3, "unknown key 'levels'", "'levels' belongs to the top level"),
        (DB + "    l0-retention: 1h", 3, "unknown key 'l0-retention'", "belongs to the top level, beside 'dbs'"),
        (FILE + "    snapshot:\n      interval: 0", 6, "'interval': '0' must be greater than zero", ""),
        (FILE + "    snapshot: {keep: 1}", 5, "unknown key 'keep'", "known here: interval, retention, minimum"),
        (DB + "    journal-mode: delete", 3, "'journal-mode': 'delete' is not one of refuse, convert", ""),
        (DB + "    monitor-interval: 0s", 3, "'monitor-interval': '0s' must be greater than zero", ""),
        (DB + "    min-checkpoint-page-count: 0", 3, "'0' must be greater than zero", ""),
        (FILE + "  - path: /x/../a.db\n    replica: {path: /s}", 5, "the database /a.db belongs to", "one of the two"),
        (FILE + "  - path: /b.db\n    replica: {url: 'file:///r/'}", 5, "the replica file:///r belongs to", "its own"),
        (
            "dbs: [{path: /a, meta-path: /m, replica: {path: /r}},\n{path: /b, meta-path: /m, replica: {path: /s}}]",
            2, "the meta-path /m belongs to the database on line 1", "its own",
        ),
    ],
)  # fmt: skip
def test_bad_configurations_name_line_key_and_remedy(text: str, line: int, cause: str, hint: str) -> None:
    """Each bad input is refused with its own words."""
    error = refuse(text)
    assert error.obj == f"l.yml:{line}"
    assert cause in error.cause
    assert hint in (error.hint or "")


def refused_everywhere() -> list[tuple[str, str]]:
    """Return every key of Litestream that is not supported, in its place."""
    top = [(f"{key}: x", key) for key in {**REFUSED_GLOBAL, **REFUSED_SETTINGS}]
    logging = [(f"logging:\n  {key}: x", key) for key in REFUSED_LOGGING]
    dbs = [(f"dbs:\n  - path: /a\n    {key}: x", key) for key in REFUSED_DB]
    return [*top, *logging, *dbs, *((FILE + f"      {key}: x", key) for key in REFUSED_REPLICA)]


@pytest.mark.parametrize(("text", "key"), refused_everywhere())
def test_options_of_litestream_that_we_lack_are_errors(text: str, key: str) -> None:
    """An option that would do nothing is never accepted; the hint says what to do instead."""
    error = refuse(text)
    assert error.cause == f"the option {key!r} of Litestream is not supported"
    assert error.obj == f"l.yml:{len(text.splitlines())}"
    assert error.hint


def test_no_key_is_both_known_and_refused() -> None:
    """Supporting an option means to take it from the list of refusals."""
    assert not set(REFUSED_GLOBAL) & {*keys_of(GlobalKeys), *keys_of(L0Keys), *keys_of(ReplicaKeys), *TOP_SECTIONS}
    assert not set(REFUSED_LOGGING) & set(keys_of(LoggingConfig))
    assert not set(REFUSED_DB) & {*keys_of(DbKeys), "replica", "replicas", "snapshot"}
    assert not set(REFUSED_REPLICA) & set(keys_of(ReplicaKeys))


def test_a_bad_secret_is_not_repeated() -> None:
    """Errors about credentials name the key, never the value."""
    half = S3 + "      secret-access-key: HUSH"
    for text in ("secret-access-key: [HUSH]", S3.replace("s3://", "s3://u:HUSH@"), half):
        error = refuse(text)
        assert "HUSH" not in f"{error}{error.hint}"


def test_an_empty_list_of_databases_is_no_error_here() -> None:
    """Having nothing to do is for the daemon to judge."""
    for text in ("", "dbs:", "dbs: []", "logging:"):
        assert parse_config(text, env={}).dbs == ()
