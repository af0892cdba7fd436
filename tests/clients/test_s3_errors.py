"""What botocore raises and what we make of it: the matrix, with botocore's own exception objects."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3 import exceptions as urllib3

from litestream_py.clients.s3_errors import refuses_header, translate
from litestream_py.errors import (
    AccessDeniedError,
    ConfigError,
    ErrorKind,
    ExitCode,
    LocalIOError,
    LsyncError,
    NotFoundError,
    PreconditionError,
    ReplicaError,
    ThrottledError,
    TransientNetworkError,
)

URL = "https://minio.example:9000/bkt/key?secret=hush"


def answer(code: str, status: int, message: str = "Some words.") -> boto.ClientError:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(response, "PutObject")


def name_resolution() -> boto.EndpointConnectionError:
    inner = urllib3.NameResolutionError("minio.example", None, socket.gaierror(-2, "Name or service not known"))  # type: ignore[arg-type]
    return boto.EndpointConnectionError(endpoint_url=URL, error=inner)


def refused() -> boto.EndpointConnectionError:
    inner = urllib3.NewConnectionError(None, "refused")  # type: ignore[arg-type]
    inner.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return boto.EndpointConnectionError(endpoint_url=URL, error=inner)


def reset() -> boto.ConnectionClosedError:
    inner = urllib3.ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer"))
    return boto.ConnectionClosedError(endpoint_url=URL, error=inner)


def bad_certificate() -> boto.SSLError:
    inner = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    return boto.SSLError(endpoint_url=URL, error=inner)


def plain_http() -> boto.SSLError:
    return boto.SSLError(endpoint_url=URL, error=ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"))


NETWORK = [
    (name_resolution(), "host name cannot be resolved"),
    (socket.gaierror(-3, "Temporary failure in name resolution"), "host name cannot be resolved"),
    (refused(), "connection refused"),
    (reset(), "Connection reset by peer"),
    (boto.ConnectTimeoutError(endpoint_url=URL), "connecting timed out"),
    (boto.ReadTimeoutError(endpoint_url=URL), "answer timed out"),
    (boto.ProxyConnectionError(proxy_url="http://proxy:1"), "proxy"),
    (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), "ended before the body did"),
    (boto.ResponseStreamingError(error=urllib3.ProtocolError("Connection broken")), "broken"),
    (boto.HTTPClientError(error=OSError(113, "No route to host")), "No route to host"),
    (ResponseParserError("Unable to parse response"), "not one of an S3 store"),
    (bad_certificate(), "certificate cannot be verified"),
    (plain_http(), "does not speak TLS"),
    (answer("RequestCanceled", 408), "RequestCanceled"),
    (answer("408", 408), "408"),
    (answer("RequestTimeout", 400), "RequestTimeout"),
    (answer("InternalError", 500), "InternalError"),
    (answer("ServiceUnavailable", 503), "ServiceUnavailable"),
    (answer("502", 502), "502"),
    (answer("504", 504), "504"),
    (answer("XMinioStorageFull", 507), "XMinioStorageFull"),
    (answer("BadDigest", 400), "BadDigest"),
    (answer("XAmzContentSHA256Mismatch", 400), "XAmzContentSHA256Mismatch"),
    (answer("IncompleteBody", 400), "IncompleteBody"),
    (answer("NoSuchUpload", 404), "NoSuchUpload"),
    (answer("ConditionalRequestConflict", 409), "ConditionalRequestConflict"),
    (answer("OperationAborted", 409), "OperationAborted"),
]
THROTTLED = [
    answer("SlowDown", 503),
    answer("SlowDownWrite", 503),
    answer("TooManyRequests", 429),
    answer("429", 429),
    answer("ThrottlingException", 400),
    answer("RequestLimitExceeded", 403),
]
AUTH = [
    (answer("ExpiredToken", 400), "renew"),
    (answer("InvalidToken", 400), "renew"),
    (answer("InvalidAccessKeyId", 403), "access-key-id"),
    (answer("SignatureDoesNotMatch", 403), "secret-access-key"),
    (answer("AccessDenied", 403), "s3:PutObject"),
    (answer("403", 403), "s3:PutObject"),
    (answer("401", 401), "s3:PutObject"),
    (answer("RequestTimeTooSkewed", 403), "clock"),
    (boto.NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
    (boto.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "AWS_ACCESS_KEY_ID"),
    (boto.CredentialRetrievalError(provider="process", error_msg="exit 1"), "renew"),
    (boto.UnauthorizedSSOTokenError(), "renew"),
]
OTHER = [
    (answer("NoSuchBucket", 404), NotFoundError),
    (answer("NoSuchKey", 404), NotFoundError),
    (answer("404", 404), NotFoundError),
    (answer("PreconditionFailed", 412), PreconditionError),
    (answer("412", 412), PreconditionError),
    (answer("PermanentRedirect", 301), ConfigError),
    (answer("AuthorizationHeaderMalformed", 400), ConfigError),
    (answer("InvalidBucketName", 400), ConfigError),
    (answer("InvalidStorageClass", 400), ConfigError),
    (boto.ProfileNotFound(profile="nobody"), ConfigError),
    (ValueError("Invalid endpoint: http:///"), ConfigError),
    (answer("NotImplemented", 501), ReplicaError),
    (answer("EntityTooSmall", 400), ReplicaError),
    (answer("MethodNotAllowed", 405), ReplicaError),
    (answer("InventedTomorrow", 418), ReplicaError),
]


def translated(error: BaseException) -> LsyncError:
    return translate(error, "upload", "s3://bkt/key")


@pytest.mark.parametrize(("error", "words"), NETWORK, ids=lambda value: type(value).__name__)
def test_network_failures(error: Exception, words: str) -> None:
    """Whatever the network or the server's own trouble causes is retried, exits with 4, never speaks of credentials."""
    result = translated(error)
    assert type(result) is TransientNetworkError
    assert words in str(result)
    assert str(result).startswith("upload s3://bkt/key: ")
    assert (result.retryable, result.exit_code) == (True, ExitCode.UNREACHABLE)
    assert result.kind == ErrorKind.TRANSIENT_NETWORK
    said = f"{result} {result.hint}".lower()
    assert not any(word in said for word in ("credential", "access-key", "aws_access_key", "secret_access"))


@pytest.mark.parametrize("error", THROTTLED, ids=str)
def test_throttling(error: Exception) -> None:
    """Every way to say "slower" is ThrottledError, whatever the status."""
    assert type(translated(error)) is ThrottledError


@pytest.mark.parametrize(("error", "hint"), AUTH, ids=str)
def test_refused_access(error: Exception, hint: str) -> None:
    """Whatever is wrong with the credentials exits with 5 and says what to look at."""
    result = translated(error)
    assert type(result) is AccessDeniedError
    assert result.exit_code == ExitCode.ACCESS_DENIED
    assert hint in (result.hint or "")


@pytest.mark.parametrize(("error", "expected"), OTHER, ids=str)
def test_the_rest_is_not_retried(error: Exception, expected: type[LsyncError]) -> None:
    """Answers that will be the same tomorrow are not retried, the unknown among them."""
    result = translated(error)
    assert type(result) is expected
    assert not result.retryable


def test_the_hint_for_a_missing_bucket() -> None:
    """A missing bucket is told from a missing object by its hint."""
    assert "create the bucket" in (translated(answer("NoSuchBucket", 404)).hint or "")
    assert translated(answer("NoSuchKey", 404)).hint is None


def test_our_own_error_comes_through_botocore() -> None:
    """An error of the body's reader keeps its kind when botocore has wrapped it as a network failure."""
    ours = LocalIOError("read", "/tmp/x", "Input/output error")
    assert translated(boto.HTTPClientError(error=ours)) is ours


def test_what_was_being_handled_does_not_count() -> None:
    """An error raised while another was handled is judged by itself."""
    error = answer("AccessDenied", 403)
    error.__context__ = LocalIOError("read", "/tmp/x", "unrelated")
    assert type(translated(error)) is AccessDeniedError


def test_which_answers_may_refuse_a_header() -> None:
    """Only 501 and the vague kinds of 400 can mean that conditional writes are unknown to the store."""
    assert refuses_header(answer("NotImplemented", 501))
    assert refuses_header(answer("InvalidArgument", 400))
    for code, status in (("PreconditionFailed", 412), ("ExpiredToken", 400), ("SlowDown", 503)):
        assert not refuses_header(answer(code, status))
    assert not refuses_header(ValueError())
