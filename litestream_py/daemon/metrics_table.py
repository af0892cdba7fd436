"""Every metric that lsync exports, declared once: the contract with dashboards and alerts.

`docs/metrics.md` is generated from `TABLE` (`make docs`). Units are base units (seconds, bytes, Unix seconds). Label
`db` is the database's full path, `replica` the URL without secrets. TXIDs are numbers here, since a gauge is one;
everywhere else they are 16 hex digits.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple


class Metric(NamedTuple):
    """One metric: its name as it is scraped, type, labels and help."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


_DB: Final = ("db",)
_REPLICA: Final = ("db", "replica")

TABLE: Final = (
    Metric("lsync_build_info", "gauge", ("version",), "1, with the version of lsync as a label."),
    Metric("lsync_databases", "gauge", (), "Databases that are replicated or waited for."),
    Metric("lsync_db_bytes", "gauge", _DB, "Size of the database at the last applied transaction."),
    Metric("lsync_wal_bytes", "gauge", _DB, "Size of the WAL file in bytes."),
    Metric("lsync_local_txid", "gauge", _DB, "Newest TXID captured in a local L0 file."),
    Metric("lsync_waiting_for_database", "gauge", _DB, "1 while the database file is missing or empty, else 0."),
    Metric("lsync_disk_full", "gauge", _DB, "1 while the local disk has no room for new L0 files, else 0."),
    Metric("lsync_sync_total", "counter", ("db", "outcome"), "Syncs that had work to do, by outcome: changed, failed."),
    Metric("lsync_sync_errors_total", "counter", ("db", "kind"), "Failed syncs, by kind of error."),
    Metric("lsync_sync_seconds", "histogram", _DB, "Time of a sync that found changes, reading to durable L0 file."),
    Metric("lsync_sync_wal_bytes_total", "counter", _DB, "Bytes of WAL copied."),
    Metric(
        "lsync_checkpoint_total",
        "counter",
        ("db", "mode", "outcome"),
        "Checkpoints that SQLite answered, by mode (passive, truncate) and outcome (complete, partial, busy).",
    ),
    Metric("lsync_checkpoint_errors_total", "counter", ("db", "kind"), "Failed checkpoints, by kind of error."),
    Metric("lsync_checkpoint_seconds", "histogram", ("db", "mode"), "Time of a checkpoint."),
    Metric("lsync_resync_total", "counter", ("db", "reason"), "Comparisons of the whole database, by reason."),
    Metric("lsync_sick_wal_total", "counter", _DB, "WALs that SQLite's savepoint bug had cut short (healed)."),
    Metric("lsync_wal_reset_bug_total", "counter", _DB, "Times that SQLite's WAL-reset bug has struck the database."),
    Metric("lsync_rejected_total", "counter", ("db", "reason"), "Files refused as a database, by reason."),
    Metric("lsync_replicated_txid", "gauge", _REPLICA, "Newest TXID whose upload, and all before it, is confirmed."),
    Metric("lsync_lag_seconds", "gauge", _REPLICA, "Age of the oldest change that is not on the replica; 0 if none."),
    Metric("lsync_unreplicated_bytes", "gauge", _REPLICA, "Bytes of local L0 files that are not on the replica."),
    Metric(
        "lsync_last_upload_success_timestamp_seconds",
        "gauge",
        _REPLICA,
        "When an upload was last confirmed, in Unix time.",
    ),
    Metric(
        "lsync_uploads_total",
        "counter",
        ("db", "replica", "kind", "outcome"),
        "Uploads by kind (l0, snapshot) and outcome: ok, or the kind of error.",
    ),
    Metric("lsync_upload_bytes_total", "counter", ("db", "replica", "kind"), "Bytes of confirmed uploads."),
    Metric("lsync_upload_seconds", "histogram", _REPLICA, "Time of a confirmed upload."),
    Metric("lsync_compaction_total", "counter", ("db", "replica", "level"), "Files merged into a level."),
    Metric("lsync_compaction_bytes_total", "counter", ("db", "replica", "level"), "Bytes of files merged so."),
    Metric("lsync_retention_deleted_files_total", "counter", _REPLICA, "Files that retention deleted."),
    Metric(
        "lsync_maintenance_errors_total",
        "counter",
        ("db", "replica", "kind"),
        "Failed compactions, snapshots and deletions, by kind of error (auth: the store denies them).",
    ),
    Metric(
        "lsync_verify_total",
        "counter",
        ("db", "replica", "outcome"),
        "Verifications that `validation.interval` asked for, by outcome: ok, failed, inconclusive.",
    ),
    Metric("lsync_verify_ok", "gauge", _REPLICA, "1 if the last verification proved the replica restorable, else 0."),
    Metric(
        "lsync_verify_last_success_timestamp_seconds",
        "gauge",
        _REPLICA,
        "When a verification last proved the replica restorable, in Unix time.",
    ),
    Metric("lsync_snapshot_total", "counter", _REPLICA, "Snapshots of the whole database uploaded."),
)
"""All metrics, in the order of the documentation."""


def metrics_table() -> str:
    """Return the table of all metrics in Markdown, for the documentation."""
    rows = ["| name | type | labels | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{metric.name}` | {metric.type} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in TABLE
    ]
    return "\n".join(rows) + "\n"
