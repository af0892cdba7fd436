"""One replica of the configuration: its own keys, the top level's defaults and its URL, laid over each other.

A key of the replica goes before the same key at the top level, and both before what the URL's query says. `bucket` and
`path` say where a replica lies, as the URL does: never both. Litestream's credential variables count where neither the
configuration nor AWS's own variable names a key.
"""

from __future__ import annotations

from collections.abc import Mapping

from litestream_py.clients.specs import FileReplica, S3Replica, S3Settings, s3_replica
from litestream_py.clients.urls import is_url, parse_replica_url
from litestream_py.config_model import REFUSED_REPLICA, ReplicaConfig, ReplicaKeys, ReplicaSettings
from litestream_py.config_sections import check_keys, keys_of, read_model
from litestream_py.config_values import BadValueError, parse_path
from litestream_py.config_yaml import Scalar, Section, Source
from litestream_py.errors import ConfigError


def read_replica(found: Section, defaults: Section, source: Source, env: Mapping[str, str]) -> ReplicaConfig:
    """Return the replica of one section; `defaults` holds the replica settings of the top level."""
    check_keys(found, keys_of(ReplicaKeys), REFUSED_REPLICA, source)
    own = read_model(ReplicaKeys, found, source)
    said = {key: node for key, node in found.values.items() if not (isinstance(node, Scalar) and not node.text)}
    merged = Section({**defaults.values, **said}, {**defaults.lines, **{k: found.lines[k] for k in said}}, found.line)
    keys = read_model(ReplicaKeys, merged, source)
    try:
        target = _place(found, own, keys, source)
        if isinstance(target, S3Replica):
            target = target.with_settings(_s3_settings(keys))
        else:
            _check_file_keys(found, source)
        return ReplicaConfig(target=complete(target, env), sync_interval_s=keys.sync_interval_s)
    except BadValueError as error:
        raise source.error(found.lines.get("path", found.line), error.cause, error.hint) from error
    except ConfigError as error:
        if error.operation == "read configuration":
            raise
        line = next((merged.lines[key] for key in (error.obj, "url", "bucket") if key in merged.lines), found.line)
        raise source.error(line, f"{error.obj}: {error.cause}", error.hint) from error


def complete(target: FileReplica | S3Replica, env: Mapping[str, str]) -> FileReplica | S3Replica:
    """Make a folder absolute; give an S3 store Litestream's credential variables where nothing else names a key."""
    if isinstance(target, FileReplica):
        return FileReplica(parse_path(str(target.path)))
    if target.settings.access_key_id or env.get("AWS_ACCESS_KEY_ID"):
        return target
    key, secret = env.get("LITESTREAM_ACCESS_KEY_ID"), env.get("LITESTREAM_SECRET_ACCESS_KEY")
    if not key or not secret:
        return target
    return target.with_settings(S3Settings(access_key_id=key, secret_access_key=secret))


def _place(found: Section, own: ReplicaKeys, keys: ReplicaKeys, source: Source) -> FileReplica | S3Replica:
    """Decide where a replica lies; `own` is what it says itself, `keys` has the top level's defaults as well."""
    if own.url is not None:
        return _place_by_url(found, own, own.url, keys.bucket, source)
    if own.path is not None and is_url(own.path):
        raise source.error(found.lines["path"], "'path' is a URL", "write it as 'url'")
    if own.type is None and own.bucket is None and keys.bucket is not None:
        raise source.error(found.line, "is this replica in the 'bucket' of the top level?", "say type: s3, or file")
    if own.type == "s3" or (own.type is None and own.bucket is not None):
        if keys.bucket is None:
            raise source.error(found.line, "the s3 replica has no 'bucket'", "add it, or give the replica's 'url'")
        return s3_replica(keys.bucket, own.path or "")
    if own.path is None:
        raise source.error(found.line, "the replica has neither 'url' nor 'path'", "add url: s3://BUCKET/PREFIX")
    return FileReplica(parse_path(own.path))


def _place_by_url(
    found: Section, own: ReplicaKeys, url: str, bucket: str | None, source: Source
) -> FileReplica | S3Replica:
    for key in ("path", "bucket"):
        if getattr(own, key) is not None:
            raise source.error(found.lines[key], f"{key!r} has no place beside 'url', which says it", "keep one")
    target = parse_replica_url(url)
    kind = "s3" if isinstance(target, S3Replica) else "file"
    if own.type not in {None, kind}:
        raise source.error(found.lines["type"], f"'type' is {own.type}, and 'url' leads to {kind}")
    if isinstance(target, S3Replica) and bucket not in {None, target.bucket}:
        raise source.error(found.lines["url"], f"'url' and the top level name two buckets, the latter {bucket!r}")
    return target


def _check_file_keys(found: Section, source: Source) -> None:
    for key in keys_of(ReplicaSettings):
        node = found.values.get(key)
        if key != "sync-interval" and isinstance(node, Scalar) and node.text:
            raise source.error(found.lines[key], f"{key!r} means nothing for a file replica", "remove it")


def _s3_settings(keys: ReplicaSettings) -> S3Settings:
    secret = keys.secret_access_key
    return S3Settings(
        access_key_id=keys.access_key_id,
        secret_access_key=None if secret is None else secret.get_secret_value(),
        region=keys.region,
        endpoint=keys.endpoint,
        force_path_style=keys.force_path_style,
        sign_payload=keys.sign_payload,
        skip_verify=keys.skip_verify,
        require_content_md5=keys.require_content_md5,
        part_size_bytes=keys.part_size_bytes,
        concurrency=keys.concurrency,
        storage_class=keys.storage_class,
        sse_kms_key_id=keys.sse_kms_key_id,
    )
