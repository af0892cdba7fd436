"""What ships beside the code agrees with it: generated pages, the commented configuration, service and image."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from litestream_py.config import load_config, parse_config
from litestream_py.config_model import (
    DbKeys,
    GlobalKeys,
    L0Keys,
    LevelKeys,
    LoggingConfig,
    ReplicaKeys,
    RetentionKeys,
    SnapshotKeys,
    ValidationKeys,
)
from litestream_py.config_sections import TOP_SECTIONS, keys_of
from litestream_py.errors import ExitCode
from tests.support.tidy import ROOT
from tools import reference_docs

EXAMPLE = ROOT / "etc" / "lsync.yml"


def test_generated_pages_are_current() -> None:
    """`make docs` would change nothing."""
    assert (ROOT / "docs" / "metrics.md").read_text() == reference_docs.render_metrics()
    assert (ROOT / "docs" / "configuration.md").read_text() == reference_docs.render_configuration()


def test_the_example_is_a_configuration_as_it_stands() -> None:
    """It loads without editing, and every setting in it is the default."""
    config = load_config(EXAMPLE, env={})
    assert [db.replica.url for db in config.dbs] == ["s3://my-bucket/app", "file:///backup/other"]
    bare = parse_config(
        "dbs: [{path: /var/lib/app/app.db, replica: {url: 's3://my-bucket/app'}},"
        " {path: /var/lib/app/other.db, replica: {path: /backup/other}}]",
        env={},
    )
    assert config.model_copy(update={"source": bare.source}) == bare


def test_the_example_has_every_key_and_none_that_does_not_exist() -> None:
    """With every comment mark before a key taken away it still loads, and no key is missing from it."""
    text = re.sub(r"^( *)#(?=[a-z])", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    config = parse_config(text, env={})
    assert str(config.addr) == "127.0.0.1:9090"
    assert str(config.dbs[1].meta_path) == "/var/lib/lsync/other"
    keys = set(re.findall(r"^[ -]*([a-z0-9-]+):", text, flags=re.MULTILINE))
    models = (
        DbKeys, GlobalKeys, L0Keys, LevelKeys, LoggingConfig, ReplicaKeys, RetentionKeys, SnapshotKeys, ValidationKeys,
    )  # fmt: skip
    assert keys == {key for model in models for key in keys_of(model)} | {*TOP_SECTIONS, "replica"}
    assert config.validation_interval_s == 168 * 3600


def test_commented_defaults_are_the_defaults() -> None:
    """What the example shows behind a comment mark for a database is what happens without it."""
    text = EXAMPLE.read_text()
    shown = re.sub(r"^( {4})#(?=[a-z])(?!meta-path)", r"\1", text, flags=re.MULTILINE)
    assert shown != text
    assert parse_config(shown, env={}).dbs == parse_config(text, env={}).dbs


def test_the_readme_lists_every_exit_code() -> None:
    """The table has a row for each code, in order."""
    rows = re.findall(r"^\| (\d+) \| ", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert [int(row) for row in rows] == [code.value for code in ExitCode]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))])
def test_links_within_the_checkout_lead_somewhere(page: str) -> None:
    """No page links to a file that is not there."""
    path = ROOT / page
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_service_runs_a_command_that_exists(tmp_path: Path) -> None:
    """The unit passes systemd's own check, and the stop time covers the final sync."""
    text = (ROOT / "etc" / "lsync.service").read_text()
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's keys have capitals
    unit.read_string(text)
    service = unit["Service"]
    assert service["ExecStart"].split()[1:] == ["replicate", "--config", "/etc/lsync.yml"]
    assert int(service["TimeoutStopSec"]) > parse_config("", env={}).shutdown_sync_timeout_s
    assert service["RestartPreventExitStatus"] == str(ExitCode.USAGE.value)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here to ask")
    copy = tmp_path / "lsync.service"
    copy.write_text(text.replace("/usr/local/bin/lsync", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_is_built_from_files_that_exist() -> None:
    """What the Dockerfile copies is there and let through by .dockerignore, and it does not run as root."""
    text = (ROOT / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, flags=re.MULTILINE) for name in line.split()}
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    passed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE))
    assert copied == passed
    assert "\nUSER 65532:65532\n" in text
