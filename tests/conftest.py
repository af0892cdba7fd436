"""Fixtures of all tests; each is defined in the module of `tests.support` that it belongs to."""

from __future__ import annotations

pytest_plugins = ["tests.support.lab", "tests.support.minio", "tests.support.replicas", "tests.support.stubhttp"]
