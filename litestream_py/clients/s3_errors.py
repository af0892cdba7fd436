"""What botocore raises, said in our words: the one place that translates it.

| cause | error |
|---|---|
| DNS, connect, read, reset, time-out, a body that breaks off, an answer that is not S3's | TransientNetworkError |
| 408, 5xx, RequestCanceled, damage on the way | TransientNetworkError |
| 429, SlowDown and its kin | ThrottledError |
| no credentials, wrong, expired, not allowed, object lock, clock skew; 401, 403 | AccessDeniedError |
| NoSuchBucket, NoSuchKey, 404 | NotFoundError |
| 412 | PreconditionError |
| 409 while another conditional write runs | TransientNetworkError |
| region, bucket name, SDK profile | ConfigError |
| 501 and any other 4xx | ReplicaError (not retried) |

The hint of a network failure never speaks of credentials: most such reports turn out to be DNS or Wi-Fi.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3 import exceptions as urllib3

from litestream_py.errors import (
    AccessDeniedError,
    ConfigError,
    LsyncError,
    NotFoundError,
    PreconditionError,
    ReplicaError,
    ThrottledError,
    TransientNetworkError,
)

FOREIGN: Final = (boto.BotoCoreError, boto.ClientError, ResponseParserError, urllib3.HTTPError, OSError)
"""Everything that a call of the SDK, or reading a body, raises for reasons that lie outside of us."""

_RENEW: Final = "renew the credentials (session token, role or key pair)"
_CHECK_KEYS: Final = "check access-key-id and secret-access-key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_AUTH: Final[Mapping[str, str]] = {
    "ExpiredToken": _RENEW,
    "ExpiredTokenException": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "InvalidToken": _RENEW,
    "InvalidAccessKeyId": _CHECK_KEYS,
    "SignatureDoesNotMatch": _CHECK_KEYS,
    "InvalidSecurity": _CHECK_KEYS,
    "AccountProblem": "ask the store's operator about the account",
    "AllAccessDisabled": "ask the store's operator about the account",
    "NotSignedUp": "ask the store's operator about the account",
    "RequestTimeTooSkewed": "set this machine's clock (NTP)",
    "RequestExpired": "set this machine's clock (NTP)",
}
_ALLOW: Final = "allow s3:ListBucket on the bucket, s3:GetObject, s3:PutObject and s3:DeleteObject below the prefix"
_LOCKED: Final = "the bucket's object lock keeps it; set retention.enabled to false, or wait for the lock to end"
_THROTTLED: Final = {
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
}
_TRANSIENT: Final = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "NoSuchUpload",  # a multipart upload that a lifecycle rule or a retry has ended: start anew
    "OperationAborted",
    "RequestCanceled",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "XAmzContentSHA256Mismatch",
}
_CONFIG: Final[Mapping[str, str]] = {
    "AuthorizationHeaderMalformed": "set region to the bucket's",
    "IllegalLocationConstraintException": "set region to the bucket's",
    "PermanentRedirect": "set region to the bucket's, or endpoint to its server",
    "InvalidBucketName": "check the bucket name in the URL",
    "InvalidStorageClass": "check storage-class",
}
_NOT_S3: Final = "the answer is not one of an S3 store (a proxy's?)"
_NETWORK_WORDS: Final = (
    ((boto.ConnectTimeoutError, urllib3.ConnectTimeoutError), "connecting timed out"),
    ((boto.ReadTimeoutError, urllib3.ReadTimeoutError, TimeoutError), "the answer timed out"),
    ((boto.IncompleteReadError,), "the connection ended before the body did"),
    ((ResponseParserError,), _NOT_S3),
)
_REFUSED_HEADER_STATUS: Final = {400, 501}
_REFUSED_HEADER_CODES: Final = {"NotImplemented", "InvalidArgument", "InvalidRequest", "501", "400"}


def translate(error: BaseException, operation: str, obj: str) -> LsyncError:
    """Return the LsyncError that says what a foreign exception means (table above).

    An LsyncError that botocore has wrapped (our body reader raises them) comes out as it went in.
    """
    chain = list(_causes(error))
    for link in chain:
        if isinstance(link, LsyncError):
            return link
    if isinstance(error, boto.ClientError):
        return _from_answer(error.response, operation, obj)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return AccessDeniedError(operation, obj, "no credentials found", hint=_CHECK_KEYS)
    if _is_credential_source(error):
        return AccessDeniedError(operation, obj, f"the credentials cannot be had: {_last(chain)}", hint=_RENEW)
    if any(isinstance(link, ssl.SSLError | boto.SSLError) for link in chain):
        return _from_tls(chain, operation, obj)
    if any(isinstance(link, socket.gaierror | urllib3.NameResolutionError) for link in chain):
        return TransientNetworkError(
            operation, obj, "the host name cannot be resolved", hint="check the endpoint, DNS and the network"
        )
    if _is_network(chain):
        return TransientNetworkError(operation, obj, _network_cause(chain))
    if isinstance(error, boto.BotoCoreError | ValueError):
        return ConfigError(operation, obj, str(error))
    return ReplicaError(operation, obj, f"{type(error).__name__}: {error}")


@contextmanager
def translated(operation: str, obj: str) -> Iterator[None]:
    """Turn whatever the SDK raises into an LsyncError."""
    try:
        yield
    except FOREIGN as error:
        raise translate(error, operation, obj) from error


def error_code(error: BaseException) -> str:
    """Return the store's error code, "" where the store did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, boto.ClientError) else ""


def refuses_header(error: BaseException) -> bool:
    """Tell whether an answer may mean that the store does not know the header of a conditional write."""
    return (
        isinstance(error, boto.ClientError)
        and _status(error.response) in _REFUSED_HEADER_STATUS
        and error_code(error) in _REFUSED_HEADER_CODES
    )


def was_repeated(error: BaseException) -> bool:
    """Tell whether the SDK had sent the request before: the answer may be to the effect of the first attempt."""
    if not isinstance(error, boto.ClientError):
        return False
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0


def field_of(answer: Mapping[str, Any], field: str, operation: str, obj: str) -> Any:
    """Return a field that every S3 store answers with; raises TransientNetworkError where it is missing.

    An answer without its ETag did not come from a store (a proxy, a captive portal): nothing has been stored.
    """
    try:
        return answer[field]
    except KeyError:
        raise TransientNetworkError(operation, obj, f"{_NOT_S3}: no {field}") from None


def is_past_the_end(error: BaseException) -> bool:
    """Tell whether the store says that the range lies behind the object's end."""
    return isinstance(error, boto.ClientError) and _status(error.response) == 416


def from_code(code: str, message: str, operation: str, obj: str) -> LsyncError:
    """Return the error for one entry of a batch reply, which has a code and no HTTP status."""
    return _from_answer({"Error": {"Code": code, "Message": message}}, operation, obj)


def _from_answer(response: Any, operation: str, obj: str) -> LsyncError:
    code = str(response.get("Error", {}).get("Code", ""))
    status = _status(response)
    message = str(response.get("Error", {}).get("Message", "")).rstrip(".")
    cause = " ".join(part for part in (message or f"HTTP {status}", f"[{code}]" if code else "") if part)
    if code in _AUTH or status == 401 or (status == 403 and code not in _THROTTLED) or code in {"AccessDenied", "403"}:
        return AccessDeniedError(operation, obj, cause, hint=_AUTH.get(code, _ALLOW))
    if code == "ObjectLocked" or (code == "InvalidRequest" and "WORM" in message):
        return AccessDeniedError(operation, obj, cause, hint=_LOCKED)
    if code in _THROTTLED or status == 429:
        return ThrottledError(operation, obj, cause)
    if code == "NoSuchBucket":
        return NotFoundError(operation, obj, cause, hint="create the bucket, or check its name, region and endpoint")
    if code in _CONFIG:
        return ConfigError(operation, obj, cause, hint=_CONFIG[code])
    if code in _TRANSIENT or status == 408:
        return TransientNetworkError(operation, obj, cause)
    if code in {"NoSuchKey", "NotFound"} or status == 404:
        return NotFoundError(operation, obj, cause)
    if code == "PreconditionFailed" or status == 412:
        return PreconditionError(operation, obj, "the object exists already or has changed")
    if status >= 500 and status != 501:
        return TransientNetworkError(operation, obj, cause)
    return ReplicaError(operation, obj, cause)


def _from_tls(chain: list[BaseException], operation: str, obj: str) -> LsyncError:
    text = " ".join(str(link) for link in chain)
    if "CERTIFICATE_VERIFY_FAILED" in text or any(isinstance(link, ssl.SSLCertVerificationError) for link in chain):
        hint = "check the endpoint's name and certificate; AWS_CA_BUNDLE names a file of further authorities"
        return TransientNetworkError(operation, obj, "the server's certificate cannot be verified", hint=hint)
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower():
        return TransientNetworkError(
            operation, obj, "the server does not speak TLS", hint="does the endpoint begin with http:// ?"
        )
    return TransientNetworkError(operation, obj, f"TLS failed: {_last(chain)}")


def _is_credential_source(error: BaseException) -> bool:
    return isinstance(
        error,
        boto.CredentialRetrievalError
        | boto.MetadataRetrievalError
        | boto.TokenRetrievalError
        | boto.SSOError
        | boto.UnauthorizedSSOTokenError
        | boto.RefreshWithMFAUnsupportedError,
    )


def _is_network(chain: list[BaseException]) -> bool:
    return any(
        isinstance(
            link,
            boto.HTTPClientError
            | boto.ConnectionError
            | boto.IncompleteReadError
            | boto.ResponseStreamingError
            | boto.EventStreamError
            | ResponseParserError
            | urllib3.HTTPError
            | ConnectionError
            | TimeoutError,
        )
        for link in chain
    )


def _network_cause(chain: list[BaseException]) -> str:
    for link in chain:
        # First: urllib3 reports a refused connection as a kind of connect time-out.
        if isinstance(link, ConnectionRefusedError):
            return "connection refused"
        if isinstance(link, ConnectionError):
            return f"the connection broke: {link.strerror or link}"
    for kinds, words in _NETWORK_WORDS:
        if any(isinstance(link, kinds) for link in chain):
            return words
    return _last(chain)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and everything that it wraps: botocore keeps causes in `kwargs`, urllib3 in `reason`.

    Not `__context__`: what happened to be handled at the time may have nothing to do with it.
    """
    seen: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        link = todo.pop(0)
        if not isinstance(link, BaseException) or any(link is other for other in seen):
            continue
        seen.append(link)
        yield link
        todo += [link.__cause__, getattr(link, "reason", None), *link.args]
        if isinstance(link, boto.BotoCoreError):
            todo.append(link.kwargs.get("error"))


def _last(chain: list[BaseException]) -> str:
    return str(chain[0]).rstrip(".")


def _status(response: Any) -> int:
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
