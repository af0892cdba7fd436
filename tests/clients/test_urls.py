"""Replica URLs: every form, and every way to get one wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestream_py.clients.specs import (
    CONCURRENCY_DEFAULT,
    PART_SIZE_DEFAULT,
    FileReplica,
    S3Replica,
    S3Settings,
    clean_prefix,
    s3_replica,
)
from litestream_py.clients.urls import is_url, parse_replica_url
from litestream_py.errors import ConfigError, ExitCode


def s3(text: str) -> S3Replica:
    spec = parse_replica_url(text)
    assert isinstance(spec, S3Replica)
    return spec


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file:///var/lib/backup", "/var/lib/backup"),
        ("file://localhost/var/backup", "/var/backup"),
        ("FILE:///var/backup/", "/var/backup"),
        ("file:///with%20blank/100%25", "/with blank/100%"),
        ("file:///a%3Fb%23c", "/a?b#c"),
        ("/var/backup", "/var/backup"),
        ("backup/here", "backup/here"),
        ("../up", "../up"),
        ("odd:name", "odd:name"),
        ("C:/backup", "C:/backup"),
    ],
)
def test_folders(text: str, path: str) -> None:
    """A file URL or a path leads to a folder; a relative path stays relative for the caller."""
    assert parse_replica_url(text) == FileReplica(Path(path))


@pytest.mark.parametrize(
    ("text", "bucket", "prefix", "endpoint", "region", "path_style"),
    [
        ("s3://bkt/a/b", "bkt", "a/b", None, None, False),
        ("s3://bkt", "bkt", "", None, None, False),
        ("s3://bkt/", "bkt", "", None, None, False),
        ("s3://bkt//a/./b//c/", "bkt", "a/b/c", None, None, False),
        ("s3://my.dotted.bucket/p", "my.dotted.bucket", "p", None, None, False),
        ("S3://Old_Bucket/P", "Old_Bucket", "P", None, None, False),
        ("s3://bkt/a%20b", "bkt", "a b", None, None, False),
        ("s3://bkt.minio:9000/p", "bkt", "p", "http://minio:9000", None, True),
        ("s3://bkt.minio.example.com:9000/p", "bkt", "p", "http://minio.example.com:9000", None, True),
        ("s3://bkt.127.0.0.1:9000/p", "bkt", "p", "http://127.0.0.1:9000", None, True),
        ("s3://bkt.store.example.com:443/p", "bkt", "p", "https://store.example.com:443", None, True),
        ("s3://bkt.localhost/p", "bkt", "p", "http://localhost", None, True),
        ("s3://bkt.localhost:9000/p", "bkt", "p", "http://localhost:9000", None, True),
        ("s3://bkt.s3.amazonaws.com/p", "bkt", "p", None, None, False),
        ("s3://bkt.s3.eu-west-1.amazonaws.com/p", "bkt", "p", None, "eu-west-1", False),
        ("s3://bkt.s3-eu-west-1.amazonaws.com/p", "bkt", "p", None, "eu-west-1", False),
        ("s3://a.b.s3.cn-north-1.amazonaws.com.cn/p", "a.b", "p", None, "cn-north-1", False),
        (
            "s3://bkt.s3.us-west-002.backblazeb2.com/p",
            "bkt", "p", "https://s3.us-west-002.backblazeb2.com", "us-west-002", True,
        ),
        ("s3://bkt.s3.filebase.com/p", "bkt", "p", "https://s3.filebase.com", None, True),
        ("s3://bkt.nyc3.digitaloceanspaces.com/p", "bkt", "p", "https://nyc3.digitaloceanspaces.com", "nyc3", True),
        ("s3://bkt.s3.fr-par.scw.cloud/p", "bkt", "p", "https://s3.fr-par.scw.cloud", "fr-par", True),
        ("s3://bkt.us-ord-1.linodeobjects.com/p", "bkt", "p", "https://us-ord-1.linodeobjects.com", "us-ord-1", True),
        ("s3://bkt.acc1.r2.cloudflarestorage.com/p", "bkt", "p", "https://acc1.r2.cloudflarestorage.com", "auto", True),
        ("s3://bkt.fsn1.your-objectstorage.com/p", "bkt", "p", "https://fsn1.your-objectstorage.com", "fsn1", True),
        ("s3://bkt/p?endpoint=localhost:9000", "bkt", "p", "http://localhost:9000", None, True),
        ("s3://bkt/p?endpoint=minio:9000", "bkt", "p", "http://minio:9000", None, True),
        ("s3://bkt/p?endpoint=10.1.2.3:9000", "bkt", "p", "http://10.1.2.3:9000", None, True),
        ("s3://bkt/p?endpoint=172.33.0.1:9000", "bkt", "p", "https://172.33.0.1:9000", None, True),
        ("s3://bkt/p?endpoint=nas.local:9000", "bkt", "p", "http://nas.local:9000", None, True),
        ("s3://bkt/p?endpoint=[::1]:9000", "bkt", "p", "http://[::1]:9000", None, True),
        ("s3://bkt/p?endpoint=store.example.com", "bkt", "p", "https://store.example.com", None, True),
        ("s3://bkt/p?endpoint=http://store.example.com/", "bkt", "p", "http://store.example.com", None, True),
        ("s3://bkt/p?endpoint=https://x.org/storage/s3", "bkt", "p", "https://x.org/storage/s3", None, True),
        ("s3://bkt/p?endpoint=https%3A%2F%2Fs.example.com&region=r1", "bkt", "p", "https://s.example.com", "r1", True),
        ("s3://bkt/p?endpoint=s.example.com&forcePathStyle=false", "bkt", "p", "https://s.example.com", None, False),
        ("s3://bkt/p?endpoint=s.example.com&force-path-style=0", "bkt", "p", "https://s.example.com", None, False),
        ("s3://bkt/p?forcePathStyle=true", "bkt", "p", None, None, True),
        (
            "s3://arn:aws:s3:eu-north-1:123456789012:accesspoint/mine/a/b",
            "arn:aws:s3:eu-north-1:123456789012:accesspoint/mine", "a/b", None, "eu-north-1", False,
        ),
        (
            "s3://arn:aws:s3:eu-north-1:123456789012:accesspoint/mine?region=us-east-2",
            "arn:aws:s3:eu-north-1:123456789012:accesspoint/mine", "", None, "us-east-2", False,
        ),
    ],
)  # fmt: skip
def test_buckets(
    text: str, bucket: str, prefix: str, endpoint: str | None, region: str | None, path_style: bool
) -> None:
    """An S3 URL names bucket and prefix, and by its host or its options the server, region and addressing."""
    spec = s3(text)
    assert (spec.bucket, spec.prefix) == (bucket, prefix)
    assert (spec.options.endpoint, spec.options.region, spec.options.path_style) == (endpoint, region, path_style)


@pytest.mark.parametrize(
    "query",
    [
        ("skipVerify=true&signPayload=false&requireContentMD5=no&concurrency=9&partSize=5242880"
        "&storageClass=STANDARD_IA&sseKmsKeyId=k1"),
        ("skip-verify=1&sign-payload=f&require-content-md5=FALSE&concurrency=9&part-size=5242880"
        "&storage-class=STANDARD_IA&sse-kms-key-id=k1"),
    ],
    ids=["camelCase", "hyphens"],
)
def test_options(query: str) -> None:
    """Every option is understood in both spellings."""
    options = s3(f"s3://bkt/p?{query}").options
    assert (options.skip_verify, options.sign_payload, options.require_content_md5) == (True, False, False)
    assert (options.concurrency, options.part_size_bytes) == (9, 5 * 1024 * 1024)
    assert (options.storage_class, options.sse_kms_key_id) == ("STANDARD_IA", "k1")


def test_defaults() -> None:
    """What is not said takes the documented default."""
    options = s3("s3://bkt/p").options
    assert (options.skip_verify, options.sign_payload, options.require_content_md5) == (False, True, True)
    assert (options.concurrency, options.part_size_bytes) == (CONCURRENCY_DEFAULT, PART_SIZE_DEFAULT)


def test_providers() -> None:
    """Stores with a known quirk get it from their exact host name, and look-alikes do not."""
    assert s3("s3://bkt/p?endpoint=acc.r2.cloudflarestorage.com").options.concurrency == 2
    assert s3("s3://bkt/p?endpoint=acc.r2.cloudflarestorage.com&concurrency=3").options.concurrency == 3
    tigris = s3("s3://bkt/p?endpoint=fly.storage.tigris.dev").options
    assert (tigris.tigris, tigris.require_content_md5) == (True, False)
    for host in ("evil-fly.storage.tigris.dev", "fly.storage.tigris.dev.example.com", "r2.cloudflarestorage.com.x.org"):
        options = s3(f"s3://bkt/p?endpoint={host}").options
        assert (options.tigris, options.concurrency) == (False, CONCURRENCY_DEFAULT)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "empty", "s3://"),
        ("gs://bkt/p", "not supported", "s3://"),
        ("abs://acc@container/p", "not supported", "s3://"),
        ("sftp://host/p", "not supported", "s3://"),
        ("webdavs://host/p", "not supported", "s3://"),
        ("s4://bkt/p", "unknown scheme", "'s3'"),
        ("flie:///p", "unknown scheme", "'file'"),
        ("https://example.com", "unknown scheme", "known are"),
        ("s3:bkt/p", "no //", "s3://"),
        ("s3:/bkt/p", "no //", "s3://"),
        ("file:/p", "no //", "file://"),
        ("file://var/backup", "no host", "file:///"),
        ("file://", "path is empty", "file:///"),
        ("file:///", "path is empty", "file:///"),
        ("file:///p?endpoint=x", "no options", "%3F"),
        ("s3:///p", "bucket name is empty", "s3://BUCKET"),
        ("s3://?endpoint=localhost:9000", "bucket name is empty", "s3://BUCKET"),
        ("s3://s3.eu-west-1.amazonaws.com/bkt/p", "bucket name is empty", "s3://BUCKET"),
        ("s3://localhost:9000/bkt/p", "bucket name is empty", "s3://BUCKET"),
        ("s3://127.0.0.1:9000/bkt/p", "no bucket stands before it", "endpoint=127.0.0.1:9000"),
        ("s3://minio:9000/bkt/p", "no bucket stands before it", "endpoint=minio:9000"),
        ("s3://bkt.minio:notaport/p", "not a port", "PORT"),
        ("s3://bkt.minio:99999/p", "not a port", "PORT"),
        ("s3://x/p", "not a bucket name", "3 to 255"),
        ("s3://-bkt/p", "not a bucket name", "3 to 255"),
        ("s3://[::1/p", "Invalid IPv6", "s3://BUCKET"),
        ("s3://bkt/p#frag", "holds a #", "%23"),
        ("s3://KEY:hush@bkt/p", "credentials do not belong", "AWS_ACCESS_KEY_ID"),
        ("s3://bkt/p?endpoint=http://KEY:hush@minio:9000", "credentials do not belong", "AWS_ACCESS_KEY_ID"),
        ("s3://bkt/p?secretAccessKey=hush", "'secretAccessKey'", "known are"),
        ("s3://bkt/p?endpont=x", "unknown option 'endpont'", "'endpoint'"),
        ("s3://bkt/p?force-pathstyle=true", "unknown option", "'force-path-style'"),
        ("s3://bkt/p?sseCustomerKey=hush", "unknown option 'sseCustomerKey'", "'sse"),
        ("s3://bkt/p?region=a&region=b", "twice", None),
        ("s3://bkt/p?skipVerify=true&skip-verify=true", "twice", None),
        ("s3://bkt/p?skipVerify=maybe", "true or false", None),
        ("s3://bkt/p?region=", "no value", None),
        ("s3://bkt/p?endpoint", "no value", None),
        ("s3://bkt/p?partSize=16MiB", "plain number of bytes", None),
        ("s3://bkt/p?partSize=1000", "not between", None),
        ("s3://bkt/p?concurrency=0", "not between", None),
        ("s3://bkt/p?concurrency=-1", "plain number", None),
        ("s3://bkt/p?endpoint=ftp://x.example.com", "not a URL of a server", "http://"),
        ("s3://bkt/p?endpoint=http://", "not a URL of a server", "http://"),
        ("s3://bkt/p?endpoint=host:port", "not a URL of a server", "http://"),
        ("s3://bkt.minio:9000/p?endpoint=other:9000", "both name a server", "one of the two"),
        ("s3://arn:aws:s3:eu-north-1:1234:accesspoint/mine/p", "not a bucket name", "ARN"),
        ("s3://arn:aws:s3:::bucket/p", "not the ARN of an access point", "accesspoint/NAME"),
    ],
)
def test_mistakes(text: str, message: str, hint: str | None) -> None:
    """Each mistake ends with exit code 2, is named, comes with a way out, and no secret is repeated."""
    with pytest.raises(ConfigError) as caught:
        parse_replica_url(text)
    assert message in str(caught.value)
    assert hint is None or hint in (caught.value.hint or "")
    assert caught.value.exit_code == ExitCode.USAGE
    assert "hush" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "text",
    [
        "file:///var/lib/back%20up%3F%25",
        "s3://bkt",
        "s3://bkt/p",
        "s3://bkt/a%23b%3F/c",
        "s3://bkt.minio:9000/p",
        "s3://bkt/p?endpoint=https://x.example.com/storage/s3",
        "s3://bkt.s3.fr-par.scw.cloud/p",
        "s3://arn:aws:s3:eu-north-1:123456789012:accesspoint/mine/a/b",
    ],
)
def test_the_display_url_leads_to_the_same_place(text: str) -> None:
    """What logs and metrics show can be parsed again: same folder, or same bucket, prefix and server."""
    spec = parse_replica_url(text)
    again = parse_replica_url(spec.display)
    if isinstance(spec, FileReplica):
        assert again == spec
    else:
        assert isinstance(again, S3Replica)
        assert (again.bucket, again.prefix) == (spec.bucket, spec.prefix)
        assert again.options.endpoint == spec.options.endpoint


def test_settings_go_before_the_url() -> None:
    """What the configuration says wins over the URL, and what it leaves open stays the URL's."""
    said = S3Settings(concurrency=7, access_key_id="AK", secret_access_key="hush")
    merged = s3("s3://bkt/p?concurrency=3&region=r1").with_settings(said)
    assert (merged.options.concurrency, merged.options.region, merged.options.access_key_id) == (7, "r1", "AK")
    assert "hush" not in f"{merged!r} {merged.options!r} {merged.display}"


def test_half_of_a_key_pair_is_refused() -> None:
    """An access key without its secret, or the other way round, is a mistake that is named at once."""
    with pytest.raises(ConfigError, match="secret-access-key is missing"):
        s3_replica("bkt", "p", S3Settings(access_key_id="AK"))
    with pytest.raises(ConfigError, match="access-key-id is missing"):
        s3_replica("bkt", "p", S3Settings(secret_access_key="hush"))


def test_what_is_a_url() -> None:
    """Only scheme:// makes a URL."""
    assert [is_url(text) for text in ("s3://b", "gs://b", "/a/b", "a:b", "rel")] == [True, True, False, False, False]


@pytest.mark.property
@given(st.text(alphabet="a./", max_size=20))
def test_a_clean_prefix_makes_clean_keys(text: str) -> None:
    """A normalised prefix has no empty, "." or ".." part, and cleaning it again changes nothing."""
    cleaned = clean_prefix(text)
    assert cleaned == "" or not {"", ".", ".."} & set(cleaned.split("/"))
    assert clean_prefix(cleaned) == cleaned


@pytest.mark.property
@given(st.text(max_size=60))
def test_any_text_parses_or_is_a_configuration_error(text: str) -> None:
    """No text makes the parser raise anything but ConfigError."""
    for url in (text, f"s3://{text}", f"s3://bkt/p?{text}", f"s3://bkt/p?endpoint={text}", f"file://{text}"):
        try:
            parse_replica_url(url)
        except ConfigError:
            continue
