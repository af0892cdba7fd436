"""Replica URLs: the one parser, for the command line and the configuration alike.

| form | replica |
|---|---|
| PATH, file:///PATH | a folder (percent-escapes of the URL form are decoded) |
| s3://BUCKET/PREFIX?NAME=VALUE&... | a bucket of AWS, or of the store at `endpoint=` |
| s3://HOST/PREFIX | see `s3_hosts` for the forms of HOST |
| s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/PREFIX | an access point of AWS |

Query names of s3, in camelCase or with hyphens: endpoint, region, forcePathStyle, skipVerify, signPayload,
requireContentMD5, concurrency, partSize (bytes), storageClass, sseKmsKeyId. `endpoint=` implies path style unless
forcePathStyle says no. What is not understood is an error, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from litestream_py.clients.s3_hosts import parse_host
from litestream_py.clients.specs import FileReplica, S3Replica, S3Settings, s3_replica
from litestream_py.errors import ConfigError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/{0,2})")
_SUPPORTED: Final = ("file", "s3")
_PEER_ONLY: Final = ("gs", "abs", "oss", "sftp", "webdav", "webdavs", "nats")
_ARN = re.compile(r"s3://(arn:[^?#]*?:accesspoint/[^/?#]+)(?:/([^?#]*))?(?:\?([^#]*))?", re.IGNORECASE)

_QUERY: Final = {
    "endpoint": "endpoint",
    "region": "region",
    "forcePathStyle": "force_path_style",
    "force-path-style": "force_path_style",
    "skipVerify": "skip_verify",
    "skip-verify": "skip_verify",
    "signPayload": "sign_payload",
    "sign-payload": "sign_payload",
    "requireContentMD5": "require_content_md5",
    "require-content-md5": "require_content_md5",
    "concurrency": "concurrency",
    "partSize": "part_size_bytes",
    "part-size": "part_size_bytes",
    "storageClass": "storage_class",
    "storage-class": "storage_class",
    "sseKmsKeyId": "sse_kms_key_id",
    "sse-kms-key-id": "sse_kms_key_id",
}
_BOOLS: Final = {"true": True, "1": True, "t": True, "yes": True, "false": False, "0": False, "f": False, "no": False}


def is_url(text: str) -> bool:
    """Tell whether a text has the form of a URL (``scheme://``) rather than that of a path."""
    match = _SCHEME.match(text)
    return match is not None and match[2] == "//"


def parse_replica_url(text: str) -> FileReplica | S3Replica:
    """Return where a replica URL, or a path, leads.

    Raises ConfigError for a scheme that is not supported, an unknown or doubled query name, a bad value, an empty
    path or bucket; the message never repeats a value that could be a secret.
    """
    if not text:
        raise ConfigError("parse", "replica URL", "it is empty", hint="write file:///PATH or s3://BUCKET/PREFIX")
    match = _SCHEME.match(text)
    if match is None:
        return FileReplica(Path(text))
    scheme = match[1].lower()
    if match[2] != "//":
        if scheme in (*_SUPPORTED, *_PEER_ONLY):
            raise ConfigError("parse", "replica URL", f"no // after {scheme}:", hint=f"write {scheme}://...")
        return FileReplica(Path(text))
    if scheme == "file":
        return _parse_file(text)
    if scheme == "s3":
        return _parse_s3(text)
    raise _bad_scheme(scheme)


def _parse_file(text: str) -> FileReplica:
    host, slash, path = text[len("file://") :].partition("/")
    if host not in {"", "localhost"}:
        raise ConfigError(
            "parse", f"file://{host}", "a file URL names no host", hint="three slashes: file:///ABSOLUTE/PATH"
        )
    if "?" in path or "#" in path:
        raise ConfigError("parse", "file URL", "it takes no options", hint="in a path write %3F for ? and %23 for #")
    if not slash or not path:
        raise ConfigError("parse", "file URL", "the path is empty", hint="write file:///ABSOLUTE/PATH")
    return FileReplica(Path(f"/{unquote(path)}"))


def _parse_s3(text: str) -> S3Replica:
    if text[len("s3://") :].lower().startswith("arn:"):
        match = _ARN.fullmatch(text)
        if match is None:
            raise ConfigError(
                "parse",
                "s3 URL",
                "not the ARN of an access point",
                hint="write s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/PREFIX",
            )
        return s3_replica(match[1], unquote(match[2] or ""), _parse_query(match[3] or ""))
    try:
        url = urlsplit(text)
    except ValueError as error:
        raise ConfigError("parse", "s3 URL", str(error), hint="write s3://BUCKET/PREFIX") from error
    if "@" in url.netloc:
        raise ConfigError(
            "parse",
            "s3 URL",
            "credentials do not belong into the URL",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a configuration file",
        )
    if url.fragment:
        raise ConfigError("parse", "s3 URL", "it holds a #", hint="in a prefix write %23")
    host = parse_host(url.netloc)
    said = _parse_query(url.query)
    if said.endpoint and host.endpoint:
        raise ConfigError("parse", "s3 URL", "the host and endpoint= both name a server", hint="keep one of the two")
    base = S3Settings(endpoint=host.endpoint, region=host.region)
    return s3_replica(host.bucket, unquote(url.path), said.over(base))


def _parse_query(query: str) -> S3Settings:
    said: dict[str, object] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        key = _QUERY.get(name)
        if key is None:
            raise ConfigError("parse", "s3 URL", f"unknown option {name!r}", hint=_nearest(name, _QUERY))
        if key in said:
            raise ConfigError("parse", "s3 URL", f"option {name!r} is given twice")
        said[key] = _value(name, key, value)
    return S3Settings(**said)  # type: ignore[arg-type]  # _value gives each key the type of its field


def _value(name: str, key: str, text: str) -> object:
    if not text:
        raise ConfigError("parse", "s3 URL", f"option {name!r} has no value")
    if key in {"part_size_bytes", "concurrency"}:
        if not (text.isascii() and text.isdigit()):
            unit = " of bytes" if key == "part_size_bytes" else ""
            raise ConfigError("parse", "s3 URL", f"option {name!r} must be a plain number{unit}, not {text!r}")
        return int(text)
    if key in {"force_path_style", "skip_verify", "sign_payload", "require_content_md5"}:
        if text.lower() not in _BOOLS:
            raise ConfigError("parse", "s3 URL", f"option {name!r} must be true or false, not {text!r}")
        return _BOOLS[text.lower()]
    return text


def _bad_scheme(scheme: str) -> ConfigError:
    if scheme in _PEER_ONLY:
        return ConfigError(
            "parse", f"{scheme}://", "this kind of replica is not supported", hint="use s3:// or file:// instead"
        )
    return ConfigError("parse", f"{scheme}://", "unknown scheme", hint=_nearest(scheme, _SUPPORTED))


def _nearest(text: str, known: Iterable[str]) -> str:
    names = list(known)
    close = get_close_matches(text, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(names)}"
