"""Where a replica lies and how to reach it: frozen values, free of I/O.

`S3Settings` holds what a user may say about an S3 store, in a URL or in the configuration; None means "not said", so
that two sources can be laid over each other. `S3Replica.options` resolves them, with the defaults, into `S3Options`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from litestream_py.errors import ConfigError

MIB: Final = 1 << 20
PART_SIZE_MIN: Final = 5 * MIB
"""S3 refuses smaller parts, except for the last one."""
PART_SIZE_DEFAULT: Final = 16 * MIB
PART_SIZE_MAX: Final = 5 << 30
CONCURRENCY_DEFAULT: Final = 4
CONCURRENCY_MAX: Final = 64
REGION_DEFAULT: Final = "us-east-1"

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}", re.ASCII)
_ACCESS_POINT = re.compile(r"arn:[a-z0-9-]+:s3:([a-z0-9-]+):[0-9]{12}:accesspoint[/:][A-Za-z0-9-]{3,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileReplica:
    """A replica in a folder; `path` may still be relative, the caller makes it absolute."""

    path: Path

    @property
    def display(self) -> str:
        """The URL that leads here."""
        return f"file://{quote(str(self.path), safe='/:@+,=~ ')}"


@dataclass(frozen=True, slots=True)
class S3Settings:
    """What was said about an S3 store; None where nothing was said.

    endpoint: with or without scheme. part_size_bytes: at least 5 MiB. concurrency: parallel parts of one upload.
    sign_payload: hash each body into its signature. require_content_md5: send Content-MD5 with batch deletes.
    storage_class and sse_kms_key_id apply to LTX files.
    """

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    endpoint: str | None = None
    force_path_style: bool | None = None
    sign_payload: bool | None = None
    skip_verify: bool | None = None
    require_content_md5: bool | None = None
    part_size_bytes: int | None = None
    concurrency: int | None = None
    storage_class: str | None = None
    sse_kms_key_id: str | None = None

    def over(self, base: S3Settings) -> S3Settings:
        """Return these settings, with those of `base` where nothing was said here."""
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(base, **said)


@dataclass(frozen=True, slots=True)
class S3Options:
    """`S3Settings` resolved: every default applied, every value checked.

    endpoint: URL with scheme, or None for AWS. region: None leaves it to the SDK's chain (then us-east-1).
    tigris: the store wants its header that asks for consistent reads.
    """

    access_key_id: str | None
    secret_access_key: str | None = field(repr=False)
    session_token: str | None = field(repr=False)
    region: str | None
    endpoint: str | None
    path_style: bool
    sign_payload: bool
    skip_verify: bool
    require_content_md5: bool
    part_size_bytes: int
    concurrency: int
    storage_class: str | None
    sse_kms_key_id: str | None
    tigris: bool


@dataclass(frozen=True, slots=True)
class S3Replica:
    """A replica below a prefix of a bucket (or of an access point, by its ARN). Build it with `s3_replica`."""

    bucket: str
    prefix: str
    settings: S3Settings = S3Settings()

    @property
    def display(self) -> str:
        """The URL that leads here, without secrets."""
        where = f"s3://{self.bucket}/{quote(self.prefix, safe='/:@+,=~ ')}".rstrip("/")
        endpoint = self.options.endpoint
        return where if endpoint is None else f"{where}?endpoint={quote(endpoint, safe=':/')}"

    @property
    def options(self) -> S3Options:
        """The settings resolved; `s3_replica` has checked that this cannot fail."""
        return _resolve(self.settings, self.bucket)

    def with_settings(self, settings: S3Settings) -> S3Replica:
        """Return this replica with `settings` laid over its own; raises ConfigError for a bad value."""
        return s3_replica(self.bucket, self.prefix, settings.over(self.settings))


def s3_replica(bucket: str, prefix: str = "", settings: S3Settings | None = None) -> S3Replica:
    """Return a checked S3 replica; `prefix` is normalised. Raises ConfigError naming what is wrong."""
    if not bucket:
        raise ConfigError("parse", "s3 replica", "the bucket name is empty", hint="write s3://BUCKET/PREFIX")
    if not _BUCKET.fullmatch(bucket) and not _ACCESS_POINT.fullmatch(bucket):
        raise ConfigError(
            "parse",
            "s3 replica",
            f"{bucket!r} is not a bucket name",
            hint="3 to 255 letters, digits, dots and hyphens, or the ARN of an access point",
        )
    made = S3Replica(bucket, clean_prefix(prefix), settings or S3Settings())
    _resolve(made.settings, bucket)
    return made


def clean_prefix(text: str) -> str:
    """Return a prefix without empty, "." and ".." parts, so that no key starts with "/" or "./"."""
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def is_local_host(host: str) -> bool:
    """Tell whether a host is this machine or on a private network, where plain HTTP is usual.

    Names without a dot count: only the local resolver knows them (a container's neighbour, mostly).
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local"))
    return address.is_private or address.is_loopback or address.is_link_local


def clean_endpoint(text: str) -> str:
    """Return an endpoint with its scheme, http for a local host and https otherwise; raises ConfigError."""
    text = text.strip()
    bad = ConfigError("parse", "endpoint", "not a URL of a server", hint="write http://HOST:PORT or https://HOST")
    try:
        host = urlsplit(text if "://" in text else f"//{text}")
        name, _ = host.hostname, host.port  # a bad port raises here
    except ValueError as error:
        raise bad from error
    if not name or host.scheme not in {"", "http", "https"} or host.query or host.fragment:
        raise bad
    if "@" in host.netloc:
        raise ConfigError(
            "parse",
            "endpoint",
            "credentials do not belong into the endpoint",
            hint="set access-key-id and secret-access-key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    scheme = host.scheme or ("http" if is_local_host(name) else "https")
    return f"{scheme}://{host.netloc}{host.path.rstrip('/')}"


def _resolve(said: S3Settings, bucket: str) -> S3Options:
    endpoint = None if not said.endpoint else clean_endpoint(said.endpoint)
    host = "" if endpoint is None else urlsplit(endpoint).hostname or ""
    tigris = host in {"fly.storage.tigris.dev", "t3.storage.dev"}
    r2 = host.endswith(".r2.cloudflarestorage.com")
    arn = _ACCESS_POINT.fullmatch(bucket)
    if (said.access_key_id is None) != (said.secret_access_key is None):
        missing = "secret-access-key" if said.secret_access_key is None else "access-key-id"
        raise ConfigError("parse", "s3 replica", f"{missing} is missing", hint="give both keys, or neither")
    return S3Options(
        access_key_id=said.access_key_id,
        secret_access_key=said.secret_access_key,
        session_token=said.session_token,
        region=said.region or (arn[1] if arn else "auto" if r2 else None),
        endpoint=endpoint,
        path_style=endpoint is not None if said.force_path_style is None else said.force_path_style,
        sign_payload=said.sign_payload is not False,
        skip_verify=said.skip_verify is True,
        require_content_md5=not tigris if said.require_content_md5 is None else said.require_content_md5,
        part_size_bytes=_bounded("part-size", said.part_size_bytes, PART_SIZE_DEFAULT, PART_SIZE_MIN, PART_SIZE_MAX),
        # R2 answers 500 when more than two or three parts come at once.
        concurrency=_bounded("concurrency", said.concurrency, 2 if r2 else CONCURRENCY_DEFAULT, 1, CONCURRENCY_MAX),
        storage_class=said.storage_class,
        sse_kms_key_id=said.sse_kms_key_id,
        tigris=tigris,
    )


def _bounded(key: str, value: int | None, default: int, low: int, high: int) -> int:
    if value is None:
        return default
    if not low <= value <= high:
        raise ConfigError("parse", key, f"{value} is not between {low} and {high}")
    return value
