"""Metrics: what is told arrives under its name and labels, a removed database leaves nothing, the page is served."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client.parser import text_string_to_metric_families

from litestream_py import __version__
from litestream_py.config_values import Address
from litestream_py.daemon.metrics import Metrics
from litestream_py.daemon.metrics_server import MetricsServer, bind
from litestream_py.daemon.metrics_table import TABLE
from litestream_py.errors import ConfigError, ErrorKind

DB = "/srv/a.db"
URL = "s3://bkt/a"


def samples(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Return every sample as a scraper reads it: by name, then by label values in alphabetical order of labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def tell_everything(metrics: Metrics, db: str) -> None:
    """Call every method once."""
    metrics.set_databases(1)
    database = metrics.database(db)
    database.synced(seconds=0.02, wal_bytes_copied=4152)
    database.sync_failed(ErrorKind.DISK_FULL)
    database.position(txid=7, db_bytes=8192, wal_bytes=4152)
    database.checkpointed(mode="PASSIVE", outcome="busy", seconds=0.3)
    database.checkpoint_failed(kind=ErrorKind.LOCAL_IO)
    database.resynced("salts-changed")
    database.rejected("not-a-database")
    database.sick_wal()
    database.wal_reset_bug()
    database.set_waiting(waiting=True)
    database.set_disk_full(full=True)
    replica = database.replica(URL)
    replica.position(replicated_txid=6, unreplicated_bytes=100)
    replica.lag_from(lambda: 1.5)
    replica.uploaded(kind="snapshot", size=2000, seconds=0.1, now_s=1000.0)
    replica.upload_failed("l0", ErrorKind.AUTH)
    replica.compacted(level=1, size=300)
    replica.snapshotted(400)
    replica.deleted(3)
    replica.maintenance_failed(ErrorKind.AUTH)
    replica.verified("ok", now_s=2000.0)


def test_what_is_told_arrives() -> None:
    """Each call moves the series that its name promises, and no other."""
    metrics = Metrics()
    tell_everything(metrics, DB)
    found = samples(metrics)
    expected = {
        ("lsync_build_info", (__version__,)): 1,
        ("lsync_databases", ()): 1,
        ("lsync_sync_total", (DB, "changed")): 1,
        ("lsync_sync_total", (DB, "failed")): 1,
        ("lsync_sync_errors_total", (DB, "disk_full")): 1,
        ("lsync_sync_seconds_sum", (DB,)): 0.02,
        ("lsync_sync_wal_bytes_total", (DB,)): 4152,
        ("lsync_local_txid", (DB,)): 7,
        ("lsync_db_bytes", (DB,)): 8192,
        ("lsync_wal_bytes", (DB,)): 4152,
        ("lsync_checkpoint_total", (DB, "passive", "busy")): 1,
        ("lsync_checkpoint_seconds_sum", (DB, "passive")): 0.3,
        ("lsync_checkpoint_errors_total", (DB, "local_io")): 1,
        ("lsync_resync_total", (DB, "salts-changed")): 1,
        ("lsync_rejected_total", (DB, "not-a-database")): 1,
        ("lsync_sick_wal_total", (DB,)): 1,
        ("lsync_wal_reset_bug_total", (DB,)): 1,
        ("lsync_waiting_for_database", (DB,)): 1,
        ("lsync_disk_full", (DB,)): 1,
        ("lsync_replicated_txid", (DB, URL)): 6,
        ("lsync_unreplicated_bytes", (DB, URL)): 100,
        ("lsync_lag_seconds", (DB, URL)): 1.5,
        ("lsync_last_upload_success_timestamp_seconds", (DB, URL)): 1000,
        ("lsync_uploads_total", (DB, "snapshot", "ok", URL)): 2,
        ("lsync_uploads_total", (DB, "l0", "auth", URL)): 1,
        ("lsync_upload_bytes_total", (DB, "snapshot", URL)): 2400,
        ("lsync_upload_seconds_sum", (DB, URL)): 0.1,
        ("lsync_snapshot_total", (DB, URL)): 2,
        ("lsync_compaction_total", (DB, "1", URL)): 1,
        ("lsync_compaction_bytes_total", (DB, "1", URL)): 300,
        ("lsync_retention_deleted_files_total", (DB, URL)): 3,
        ("lsync_maintenance_errors_total", (DB, "auth", URL)): 1,
        ("lsync_verify_total", (DB, "ok", URL)): 1,
        ("lsync_verify_ok", (DB, URL)): 1,
        ("lsync_verify_last_success_timestamp_seconds", (DB, URL)): 2000,
    }
    told = {(name, labels): value for name, series in found.items() for labels, value in series.items()}
    ours = {key: value for key, value in told.items() if key[0].startswith("lsync_")}
    buckets = ("_bucket", "_seconds_count")
    assert {key: value for key, value in ours.items() if not key[0].endswith(buckets)} == expected
    assert ours["lsync_sync_seconds_count", (DB,)] == 1
    assert not [name for name in found if name.endswith("_created")]
    assert "process_resident_memory_bytes" in found


def test_every_metric_of_the_table_can_be_told() -> None:
    """No metric is declared that nothing sets."""
    metrics = Metrics()
    tell_everything(metrics, DB)
    found = samples(metrics)
    for metric in TABLE:
        name = f"{metric.name}_count" if metric.type == "histogram" else metric.name
        assert found.get(name), metric.name


def test_names_follow_the_rules() -> None:
    """Ours, unique, counters end in _total, and what has a unit ends in a base unit."""
    names = [metric.name for metric in TABLE]
    assert len(set(names)) == len(names)
    for metric in TABLE:
        assert metric.name.startswith("lsync_")
        assert metric.name.endswith("_total") == (metric.type == "counter")
        assert metric.type != "histogram" or metric.name.endswith("_seconds")
        assert metric.help.endswith(".")
        assert not metric.labels or metric.labels[0] in {"db", "version"}


def test_a_removed_database_leaves_no_series() -> None:
    """Neither its own nor its replicas' series stay behind, and the others' do."""
    metrics = Metrics()
    tell_everything(metrics, DB)
    tell_everything(metrics, "/srv/b.db")
    metrics.database(DB).remove()
    text = metrics.render()[0].decode()
    assert DB not in text
    assert 'db="/srv/b.db"' in text


def test_two_processes_worth_of_metrics_do_not_mix() -> None:
    """Each Metrics has its own registry."""
    first, second = Metrics(), Metrics()
    first.set_databases(3)
    assert samples(second)["lsync_databases"] == {(): 0}


def test_lag_is_asked_for_at_each_scrape() -> None:
    """A replica that nothing happens to falls behind all the same."""
    metrics = Metrics()
    answers = iter([1.0, 2.0])
    metrics.database(DB).replica(URL).lag_from(lambda: next(answers))
    assert [samples(metrics)["lsync_lag_seconds"][DB, URL] for _ in range(2)] == [1.0, 2.0]


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """A server on a free port of loopback."""
    metrics = Metrics()
    metrics.set_databases(2)
    served = MetricsServer(bind(Address("127.0.0.1", 0)), metrics.render)
    yield served
    served.close()


def get(server: MetricsServer, path: str, method: str = "GET", accept: str = "*/*") -> tuple[int, str, bytes]:
    """Return status, content type and body of one request."""
    connection = HTTPConnection(*server.address, timeout=10)
    try:
        connection.request(method, path, headers={"Accept": accept})
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read()
    finally:
        connection.close()


def test_the_page_is_served_on_the_port_that_was_bound(server: MetricsServer) -> None:
    """Port 0 became a real one, and /metrics answers there, in OpenMetrics to those who ask."""
    assert server.address.port > 0
    status, kind, body = get(server, "/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert b"lsync_databases 2.0\n" in body
    assert get(server, "/metrics", accept="application/openmetrics-text")[2].endswith(b"# EOF\n")
    assert get(server, "/metrics?x=1", "HEAD")[::2] == (200, b"")


def test_other_pages_and_methods_are_refused(server: MetricsServer) -> None:
    """There is one page, and it is read only."""
    assert get(server, "/")[0] == 404
    assert get(server, "/debug/pprof/")[0] == 404
    assert get(server, "/metrics", "POST")[0] == 501


def test_closing_frees_the_port_and_the_thread(server: MetricsServer) -> None:
    """After close() nobody listens, no thread is left, and closing again does nothing."""
    stalled = socket.create_connection(server.address)  # a client that says nothing must not hold us up
    server.close()
    server.close()
    with pytest.raises(ConnectionError):
        get(server, "/metrics")
    stalled.close()
    assert "lsync-metrics" not in {thread.name for thread in threading.enumerate()}


def test_an_address_in_use_is_a_configuration_error(server: MetricsServer) -> None:
    """The message names the address and what to change."""
    with pytest.raises(ConfigError, match=f"listen {server.address}: ") as caught:
        bind(server.address)
    assert "addr" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match=r"listen no-such-host\.invalid:1: "):
        bind(Address("no-such-host.invalid", 1))
