"""What the host of an ``s3://`` URL says: the bucket, and which store it lies in.

| host of the URL | endpoint | region |
|---|---|---|
| BUCKET | AWS | not said |
| BUCKET.s3.amazonaws.com | AWS | not said |
| BUCKET.s3.REGION.amazonaws.com, BUCKET.s3-REGION.amazonaws.com | AWS | REGION |
| BUCKET.HOST:PORT (MinIO and the like) | http://HOST:PORT (https where PORT is 443) | not said |
| BUCKET.localhost[:PORT] | http://localhost[:PORT] | not said |
| BUCKET.s3.REGION.backblazeb2.com | https://s3.REGION.backblazeb2.com | REGION |
| BUCKET.s3.filebase.com | https://s3.filebase.com | not said |
| BUCKET.REGION.digitaloceanspaces.com | https://REGION.digitaloceanspaces.com | REGION |
| BUCKET.s3.REGION.scw.cloud | https://s3.REGION.scw.cloud | REGION |
| BUCKET.REGION.linodeobjects.com | https://REGION.linodeobjects.com | REGION |
| BUCKET.ACCOUNT.r2.cloudflarestorage.com | https://ACCOUNT.r2.cloudflarestorage.com | auto |
| BUCKET.REGION.your-objectstorage.com | https://REGION.your-objectstorage.com | REGION |

A bucket may hold dots. A host that is in none of the forms, without a port, is a bucket of AWS.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from litestream_py.errors import ConfigError

_AWS: Final = re.compile(r"(?:(?P<bucket>.+)\.)?s3(?:[.-](?P<region>[a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?")
_STORES: Final = tuple(
    re.compile(rf"(?:(?P<bucket>.+)\.)?(?P<host>{host})")
    for host in (
        r"localhost",
        r"s3\.(?P<region>[^.]+)\.backblazeb2\.com",
        r"s3\.filebase\.com",
        r"(?P<region>[^.]+)\.digitaloceanspaces\.com",
        r"s3\.(?P<region>[^.]+)\.scw\.cloud",
        r"(?P<region>[^.]+)\.linodeobjects\.com",
        r"[^.]+\.r2\.cloudflarestorage\.com",
        r"(?P<region>[^.]+)\.your-objectstorage\.com",
    )
)


class HostParts(NamedTuple):
    """endpoint: URL with scheme, None for AWS; region: None where the host does not say it."""

    bucket: str
    endpoint: str | None
    region: str | None


def parse_host(netloc: str) -> HostParts:
    """Return what ``host[:port]`` of an ``s3://`` URL says (table above).

    The bucket is empty where the host names none. Raises ConfigError for a port without a host, or a bad port.
    """
    host, colon, port = netloc.partition(":")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError("parse", "s3 URL", f"{port!r} is not a port", hint="write s3://BUCKET.HOST:PORT/PREFIX")
    if match := _AWS.fullmatch(host):
        return HostParts(match["bucket"] or "", None, match["region"])
    for pattern in _STORES:
        if match := pattern.fullmatch(host):
            scheme = "http" if match["host"] == "localhost" else "https"
            return HostParts(match["bucket"] or "", f"{scheme}://{match['host']}{colon}{port}",
                             match.groupdict().get("region"))  # fmt: skip
    if not port:
        return HostParts(host, None, None)
    bucket, dot, server = host.partition(".")
    if not dot or _is_address(host):
        raise ConfigError(
            "parse",
            "s3 URL",
            f"{netloc!r} is a server, and no bucket stands before it",
            hint=f"write s3://BUCKET/PREFIX?endpoint={netloc}",
        )
    return HostParts(bucket, f"{'https' if port == '443' else 'http'}://{server}:{port}", None)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
