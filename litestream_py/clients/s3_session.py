"""The boto3 client: built in the form that every S3-compatible store takes, and shared by replicas that can share it.

A client costs some 60 ms and 13 MiB, so that a hundred databases in one bucket must not have one each. Clients are
kept by their options and counted; the last user closes it.

With an endpoint, checksums are sent only where S3 requires them: the SDK's default (a trailing CRC in an
``aws-chunked`` body) is refused by many stores. The body is then covered by the SHA-256 that signs it.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config

from litestream_py.clients.s3_errors import FOREIGN, translate
from litestream_py.clients.specs import CONCURRENCY_MAX, REGION_DEFAULT, S3Options

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client as BotoS3

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 30
ATTEMPTS_MAX: Final = 2
"""Of one request, in all. Pacing and patience are the caller's; this bridges a connection that died while idle."""
POOL_SIZE: Final = CONCURRENCY_MAX
"""Connections kept open at most; one client serves a restore's parallel reads and the uploads of many databases."""

_lock = threading.Lock()
_shared: dict[S3Options, tuple[BotoS3, int]] = {}


def acquire(options: S3Options, url: str) -> BotoS3:
    """Return the shared client for these options; raises ConfigError for options that the SDK refuses."""
    key = _sharing_key(options)
    with _lock:
        client, users = _shared.get(key) or (_build(key, url), 0)
        _shared[key] = (client, users + 1)
        return client


def release(options: S3Options) -> None:
    """Give the client back; it is closed with its last user."""
    key = _sharing_key(options)
    with _lock:
        client, users = _shared.pop(key)
        if users > 1:
            _shared[key] = (client, users - 1)
        else:
            client.close()


def _sharing_key(options: S3Options) -> S3Options:
    """Return the options without those that only the requests of one replica use."""
    return replace(options, part_size_bytes=0, concurrency=0, storage_class=None, sse_kms_key_id=None)


def _build(options: S3Options, url: str) -> BotoS3:
    portable = options.endpoint is not None
    config: dict[str, Any] = {
        "signature_version": "s3v4",
        "s3": {
            "addressing_style": "path" if options.path_style else "auto",
            "payload_signing_enabled": options.sign_payload,
            "use_arn_region": True,
        },
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "max_pool_connections": POOL_SIZE,
        "tcp_keepalive": True,
        "user_agent_extra": "lsync",
    }
    if portable:
        config |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    try:
        session = boto3.session.Session(
            aws_access_key_id=options.access_key_id,
            aws_secret_access_key=options.secret_access_key,
            aws_session_token=options.session_token,
            region_name=options.region,
        )
        client = session.client(
            "s3",
            region_name=session.region_name or REGION_DEFAULT,
            endpoint_url=options.endpoint,
            verify=False if options.skip_verify else None,
            config=Config(**config),
        )
    except (*FOREIGN, ValueError) as error:  # ValueError: an endpoint that the SDK cannot parse
        raise translate(error, "open", url) from error
    if options.require_content_md5:
        client.meta.events.register_last("before-sign.s3.DeleteObjects", _use_content_md5)
    if options.tigris:
        client.meta.events.register_last("before-sign.s3", _ask_tigris_for_consistency)
    return client


def _use_content_md5(request: Any, **_: Any) -> None:
    """Put Content-MD5 in the place of the SDK's checksum, which many stores do not take for a batch delete."""
    for header in [name for name in request.headers if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-"))]:
        del request.headers[header]
    body = request.data if isinstance(request.data, bytes) else request.data.encode()
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _ask_tigris_for_consistency(request: Any, **_: Any) -> None:
    request.headers["X-Tigris-Consistent"] = "true"
