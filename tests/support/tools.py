"""Programs that the tests need and the package does not: found, or installed once outside of the checkout.

``python -m tests.support.tools minio`` prints the path of a MinIO server; the exit code is 1 where there is none and it
cannot be installed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MINIO_MODULE = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
INSTALL_TIMEOUT_S = 1800


def tools_folder() -> Path:
    """Return the folder that keeps installed tools between checkouts."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lsync" / "tools" / "bin"


def find_minio() -> Path | None:
    """Return a MinIO server: $LSYNC_MINIO, one on PATH, or the cached one; None if there is none.

    Raises RuntimeError if $LSYNC_MINIO names something that cannot be run.
    """
    named = os.environ.get("LSYNC_MINIO")
    if named:
        if not os.access(named, os.X_OK):
            raise RuntimeError(f"LSYNC_MINIO={named} is not a program")
        return Path(named)
    found = shutil.which("minio")
    if found:
        return Path(found)
    cached = tools_folder() / "minio"
    return cached if os.access(cached, os.X_OK) else None


def install_minio() -> Path:
    """Build the pinned MinIO with Go (some four minutes) into the tools folder; raises RuntimeError.

    A file lock lets one process build while others wait for it.
    """
    if shutil.which("go") is None:
        raise RuntimeError("no Go tool-chain to build MinIO with")
    folder = tools_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "minio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = folder / "minio"
        if os.access(target, os.X_OK):
            return target
        print(f"installing MinIO into {folder}, once; this takes some four minutes", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = subprocess.run(
                ["go", "install", MINIO_MODULE],
                env=os.environ | {"GOBIN": scratch, "CGO_ENABLED": "0"},
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
                check=False,
            )
            if built.returncode != 0:
                raise RuntimeError(f"go install {MINIO_MODULE} failed: {built.stderr.strip()[-500:]}")
            (Path(scratch) / "minio").replace(target)
        return target


def get_minio() -> Path:
    """Return a MinIO server, installed if need be; raises RuntimeError."""
    return find_minio() or install_minio()


def main(arguments: list[str]) -> int:
    """Print the path of a tool; the arguments are its name."""
    if arguments != ["minio"]:
        print("usage: python -m tests.support.tools minio", file=sys.stderr)
        return 2
    try:
        print(get_minio())
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        print(f"no MinIO: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
