"""The metrics of `metrics_table`, kept and rendered; the only module that knows prometheus_client.

A database that is no longer replicated takes its series with it (`DatabaseMetrics.remove`). `lsync_lag_seconds` is
asked for when it is scraped: a replica that gets nothing falls behind without anything happening.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

import litestream_py
from litestream_py.daemon.metrics_table import TABLE, Metric
from litestream_py.errors import ErrorKind

UploadKind = Literal["l0", "snapshot"]
"""What is uploaded: a file of level 0, or one that holds the whole database."""

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Series:
    """All metrics of the table, in one registry; label values are given in the order of the table."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Else each counter and histogram is joined by a "_created" series that nobody asked for.
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it without types
        self._registry = registry
        self._made = {metric.name: self._make(metric) for metric in TABLE}

    def _make(self, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.type == "counter":
            return Counter(metric.name, metric.help, metric.labels, registry=self._registry)
        if metric.type == "gauge":
            return Gauge(metric.name, metric.help, metric.labels, registry=self._registry)
        return Histogram(metric.name, metric.help, metric.labels, registry=self._registry, buckets=_BUCKETS)

    def gauge(self, name: str, *labels: str) -> Gauge:
        """Return a gauge of the table."""
        gauge = self._made[name]
        assert isinstance(gauge, Gauge), name
        return gauge.labels(*labels) if labels else gauge

    def counter(self, name: str, *labels: str) -> Counter:
        """Return a counter of the table."""
        counter = self._made[name]
        assert isinstance(counter, Counter), name
        return counter.labels(*labels)

    def histogram(self, name: str, *labels: str) -> Histogram:
        """Return a histogram of the table."""
        histogram = self._made[name]
        assert isinstance(histogram, Histogram), name
        return histogram.labels(*labels)

    def remove(self, **labels: str) -> None:
        """Drop every series that carries these labels."""
        for metric in TABLE:
            if labels.keys() <= set(metric.labels):
                self._made[metric.name].remove_by_labels(labels)


class Metrics:
    """The metrics of one process, in a registry of its own (the library's global one stays untouched)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._series = Series(self.registry)
        self._series.gauge("lsync_build_info", litestream_py.__version__).set(1)
        prometheus.ProcessCollector(registry=self.registry)

    def set_databases(self, count: int) -> None:
        """Tell how many databases there are."""
        self._series.gauge("lsync_databases").set(count)

    def database(self, db: str) -> DatabaseMetrics:
        """Return the metrics of one database, by its full path; asked for again, the same series."""
        return DatabaseMetrics(self._series, db)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition and its content type, in the form that an HTTP Accept header prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class DatabaseMetrics:
    """What is told about one database. Safe to call from any thread."""

    def __init__(self, series: Series, db: str) -> None:
        self._series = series
        self._db = db

    def replica(self, url: str) -> ReplicaMetrics:
        """Return the metrics of one of its replicas, by its URL without secrets."""
        return ReplicaMetrics(self._series, self._db, url)

    def synced(self, *, seconds: float, wal_bytes_copied: int) -> None:
        """Tell of a sync that found changes and made them durable."""
        self._series.counter("lsync_sync_total", self._db, "changed").inc()
        self._series.histogram("lsync_sync_seconds", self._db).observe(seconds)
        self._series.counter("lsync_sync_wal_bytes_total", self._db).inc(wal_bytes_copied)

    def sync_failed(self, kind: ErrorKind) -> None:
        """Tell of a sync that failed."""
        self._series.counter("lsync_sync_total", self._db, "failed").inc()
        self._series.counter("lsync_sync_errors_total", self._db, str(kind)).inc()

    def position(self, *, txid: int, db_bytes: int, wal_bytes: int) -> None:
        """Tell the applied position and the sizes that go with it."""
        self._series.gauge("lsync_local_txid", self._db).set(txid)
        self._series.gauge("lsync_db_bytes", self._db).set(db_bytes)
        self._series.gauge("lsync_wal_bytes", self._db).set(wal_bytes)

    def checkpointed(self, *, mode: str, outcome: str, seconds: float) -> None:
        """Tell of a checkpoint that SQLite answered: mode and outcome as `CheckpointResult` has them."""
        self._series.counter("lsync_checkpoint_total", self._db, mode.lower(), outcome).inc()
        self._series.histogram("lsync_checkpoint_seconds", self._db, mode.lower()).observe(seconds)

    def checkpoint_failed(self, *, kind: ErrorKind) -> None:
        """Tell of a checkpoint that ended in an error."""
        self._series.counter("lsync_checkpoint_errors_total", self._db, str(kind)).inc()

    def resynced(self, reason: str) -> None:
        """Tell of a comparison of the whole database."""
        self._series.counter("lsync_resync_total", self._db, reason).inc()

    def rejected(self, reason: str) -> None:
        """Tell that the file was refused (`SourceRejectedError.reason`)."""
        self._series.counter("lsync_rejected_total", self._db, reason).inc()

    def sick_wal(self) -> None:
        """Tell of a WAL that the savepoint bug had cut short."""
        self._series.counter("lsync_sick_wal_total", self._db).inc()

    def wal_reset_bug(self) -> None:
        """Tell that the WAL-reset bug has struck."""
        self._series.counter("lsync_wal_reset_bug_total", self._db).inc()

    def set_waiting(self, *, waiting: bool) -> None:
        """Tell whether the database file is being waited for."""
        self._series.gauge("lsync_waiting_for_database", self._db).set(waiting)

    def set_disk_full(self, *, full: bool) -> None:
        """Tell whether the local disk stops replication."""
        self._series.gauge("lsync_disk_full", self._db).set(full)

    def remove(self) -> None:
        """Take every series of this database away, its replicas' too."""
        self._series.remove(db=self._db)


class ReplicaMetrics:
    """What is told about one replica of a database. Safe to call from any thread."""

    def __init__(self, series: Series, db: str, url: str) -> None:
        self._series = series
        self._labels = (db, url)

    def lag_from(self, lag_s: Callable[[], float]) -> None:
        """Have the lag asked for at each scrape: seconds, from any thread, quickly, never raising."""
        self._series.gauge("lsync_lag_seconds", *self._labels).set_function(lag_s)

    def position(self, *, replicated_txid: int, unreplicated_bytes: int) -> None:
        """Tell how far the replica is confirmed, and what is waiting."""
        self._series.gauge("lsync_replicated_txid", *self._labels).set(replicated_txid)
        self._series.gauge("lsync_unreplicated_bytes", *self._labels).set(unreplicated_bytes)

    def uploaded(self, *, kind: UploadKind, size: int, seconds: float, now_s: float) -> None:
        """Tell of a confirmed upload of `size` bytes; `now_s` is Unix time."""
        self._series.counter("lsync_uploads_total", *self._labels, kind, "ok").inc()
        self._series.counter("lsync_upload_bytes_total", *self._labels, kind).inc(size)
        self._series.histogram("lsync_upload_seconds", *self._labels).observe(seconds)
        self._series.gauge("lsync_last_upload_success_timestamp_seconds", *self._labels).set(now_s)
        if kind == "snapshot":
            self._series.counter("lsync_snapshot_total", *self._labels).inc()

    @property
    def url(self) -> str:
        """The replica's URL without secrets."""
        return self._labels[1]

    def verified(self, outcome: str, *, now_s: float) -> None:
        """Tell what a verification found (`Verdict.outcome`)."""
        self._series.counter("lsync_verify_total", *self._labels, outcome).inc()
        if outcome != "inconclusive":
            self._series.gauge("lsync_verify_ok", *self._labels).set(outcome == "ok")
        if outcome == "ok":
            self._series.gauge("lsync_verify_last_success_timestamp_seconds", *self._labels).set(now_s)

    def compacted(self, *, level: int, size: int) -> None:
        """Tell of a file of `size` bytes merged into a level."""
        self._series.counter("lsync_compaction_total", *self._labels, str(level)).inc()
        self._series.counter("lsync_compaction_bytes_total", *self._labels, str(level)).inc(size)

    def snapshotted(self, size: int) -> None:
        """Tell of a snapshot of `size` bytes at level 9."""
        self._series.counter("lsync_uploads_total", *self._labels, "snapshot", "ok").inc()
        self._series.counter("lsync_upload_bytes_total", *self._labels, "snapshot").inc(size)
        self._series.counter("lsync_snapshot_total", *self._labels).inc()

    def deleted(self, files: int) -> None:
        """Tell of files that retention deleted."""
        self._series.counter("lsync_retention_deleted_files_total", *self._labels).inc(files)

    def maintenance_failed(self, error: ErrorKind) -> None:
        """Tell that a compaction, a snapshot or retention failed."""
        self._series.counter("lsync_maintenance_errors_total", *self._labels, str(error)).inc()

    def upload_failed(self, kind: UploadKind, error: ErrorKind) -> None:
        """Tell of an upload that failed."""
        self._series.counter("lsync_uploads_total", *self._labels, kind, str(error)).inc()
