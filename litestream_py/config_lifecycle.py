"""The keys that say what becomes of files once they are uploaded: `levels`, `snapshot`, retention, `validation`.

All stand at the top level and hold for every database; a database may have its own `snapshot`, key by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestream_py.config_model import L0Keys, LevelKeys, RetentionKeys, SnapshotKeys, ValidationKeys
from litestream_py.config_sections import check_keys, entries, keys_of, read_model, section
from litestream_py.config_yaml import Scalar, Section, Source
from litestream_py.core.levels import LEVELS_DEFAULT, LevelConfig, ladder
from litestream_py.core.retention import RetentionPolicy
from litestream_py.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What the top level says, before a database's own `snapshot` is laid over it."""

    levels: tuple[LevelConfig, ...]
    snapshot: Section
    l0: L0Keys
    retention_enabled: bool
    validation_interval_s: float | None

    def of_database(self, entry: Section, source: Source) -> dict[str, Any]:
        """Return the fields of `DbConfig` that belong here, for one entry of `dbs`; raises ConfigError."""
        own = _section(entry, "snapshot", source)
        check_keys(own, keys_of(SnapshotKeys), {}, source)
        said = {key: node for key, node in own.values.items() if not (isinstance(node, Scalar) and not node.text)}
        values, lines = {**self.snapshot.values, **said}, {**self.snapshot.lines, **own.lines}
        keys = read_model(SnapshotKeys, Section(values, lines, own.line), source)
        return {
            "levels": self.levels,
            "snapshot_interval_s": keys.interval_s,
            "retention": RetentionPolicy(window_s=keys.retention_s, l0_s=self.l0.l0_s, snapshots_min=keys.minimum),
            "retention_enabled": self.retention_enabled,
            "retention_check_s": self.l0.check_s,
        }


def read_lifecycle(root: Section, source: Source) -> Lifecycle:
    """Return what the top level of a configuration says; raises ConfigError with the line."""
    snapshot, retention, validation = (_section(root, key, source) for key in ("snapshot", "retention", "validation"))
    check_keys(snapshot, keys_of(SnapshotKeys), {}, source)
    check_keys(retention, keys_of(RetentionKeys), {}, source)
    check_keys(validation, keys_of(ValidationKeys), {}, source)
    # Checked here as well: a bad default is an error even if no database comes to use it.
    read_model(SnapshotKeys, snapshot, source)
    return Lifecycle(
        levels=_read_levels(root, source),
        snapshot=snapshot,
        l0=read_model(L0Keys, root, source),
        retention_enabled=read_model(RetentionKeys, retention, source).enabled,
        validation_interval_s=read_model(ValidationKeys, validation, source).interval_s,
    )


def _section(parent: Section, key: str, source: Source) -> Section:
    return section(parent.values[key], key, source) if key in parent.values else Section(line=parent.line)


def _read_levels(root: Section, source: Source) -> tuple[LevelConfig, ...]:
    if "levels" not in root.values:
        return LEVELS_DEFAULT
    found = entries(root.values["levels"], "levels", source)
    for entry in found:
        check_keys(entry, keys_of(LevelKeys), {}, source)
    intervals = [read_model(LevelKeys, entry, source).interval_s for entry in found]
    try:
        return ladder(intervals)
    except ConfigError as error:
        raise source.error(root.lines["levels"], f"'levels': {error.cause}", error.hint) from error
