"""Fixtures of the integration tests: real processes, a real MinIO."""

from __future__ import annotations

pytest_plugins = ["tests.support.minio", "tests.support.nursery", "tests.support.daemon"]
