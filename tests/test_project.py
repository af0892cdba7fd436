"""The packaging: everything that is installed is pinned, and what is declared is what the code imports."""

from __future__ import annotations

import os
import re
import stat
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from litestream_py import __version__
from tests.support.tidy import PACKAGE, ROOT, imports, modules

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULE_OF = {"prometheus-client": "prometheus_client", "pyyaml": "yaml", "inotify-simple": "inotify_simple"}


def pinned(name: str) -> dict[str, str]:
    """Return the versions that a constraints file names."""
    lines = (line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("==") for line in lines)


def closure(requirements: list[str]) -> Iterator[str]:
    """Yield the names of requirements and all that they require in turn, as installed here."""
    seen: set[str] = set()
    left = [Requirement(text) for text in requirements]
    while left:
        requirement = left.pop()
        key = f"{canonicalize_name(requirement.name)}{sorted(requirement.extras)}"
        if key in seen:
            continue
        seen.add(key)
        yield canonicalize_name(requirement.name)
        try:
            further = metadata.requires(requirement.name) or []
        except metadata.PackageNotFoundError:
            continue  # not for this platform, or of another extra; named above all the same
        for text in further:
            found = Requirement(text)
            extras = requirement.extras or {""}
            if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in extras):
                left.append(found)


def test_everything_installed_is_pinned() -> None:
    """Each dependency, direct or not, has its exact version in constraints.txt."""
    extras = PROJECT["project"]["optional-dependencies"]
    declared = [*PROJECT["project"]["dependencies"], *extras["test"], *extras["dev"]]
    wanted = [text for text in declared if not text.startswith("litestream-py")]
    missing = {name for name in closure(wanted) if name not in pinned("constraints.txt")}
    assert missing == set()
    assert "setuptools" in pinned("constraints.txt")


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-moto.txt"])
def test_pins_are_versions_and_nothing_else(name: str) -> None:
    """No address of a package index, no ranges, sorted, nothing twice."""
    lines = (ROOT / name).read_text().splitlines()[1:]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.+]*", line)] == []
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))
    if name != "constraints.txt":
        assert not set(names) & set(pinned("constraints.txt"))


def test_pins_are_within_what_is_declared() -> None:
    """A pinned version satisfies the bound in pyproject.toml."""
    versions = pinned("constraints.txt")
    for text in PROJECT["project"]["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), text


def test_dependencies_are_what_the_package_imports() -> None:
    """Nothing is imported that is not declared, but for what comes with boto3; nothing is declared for nothing."""
    named = [canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]]
    declared = {MODULE_OF.get(name, name) for name in named}
    imported = {name.split(".")[0] for module in modules() if module.part is not None for _, name in imports(module)}
    third_party = imported - set(sys.stdlib_module_names) - {PACKAGE, ""}
    assert third_party - {"botocore", "s3transfer", "urllib3", "mypy_boto3_s3"} == declared


def test_the_console_script_is_installed() -> None:
    """Where the package is installed, `lsync` is the main function and the version is the package's."""
    assert PROJECT["project"]["scripts"] == {"lsync": "litestream_py.cli.main:main"}
    try:
        installed = metadata.version("litestream-py")
    except metadata.PackageNotFoundError:
        pytest.skip("run from the checkout, not installed")
    assert installed == __version__


@pytest.mark.parametrize("script", [".ci/run", "tools/make-venv", "tools/s3-test-server"])
def test_scripts_can_be_run_and_stop_at_the_first_error(script: str) -> None:
    """They are executable, and bash is told to be strict."""
    path = ROOT / script
    assert path.stat().st_mode & stat.S_IXUSR
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text()
