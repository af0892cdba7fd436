"""What this machine can do at best, measured in the same run: memory, disk, loopback; and what it is."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import median

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """copy: bytes copied in memory. write: sequential file with one fsync at its end. fsync: a 4 KiB append and fsync.

    loopback: bytes through a TCP connection of 127.0.0.1, both ends in Python; rtt: one byte there and back.
    """

    copy_mb_s: float
    write_mb_s: float
    fsync_ms: float
    loopback_mb_s: float
    rtt_ms: float

    def __str__(self) -> str:
        return (
            f"memcpy {self.copy_mb_s / 1000:.1f} GB/s, write and fsync {self.write_mb_s:,.0f} MB/s, fsync "
            f"{self.fsync_ms:.2f} ms, loopback {self.loopback_mb_s:,.0f} MB/s, there and back {self.rtt_ms:.3f} ms"
        )


def measure_limits(folder: Path) -> Limits:
    """Measure, in some seconds."""
    loopback_mb_s, rtt_ms = _loopback()
    return Limits(
        copy_mb_s=_copy(),
        write_mb_s=median([_write(folder) for _ in range(3)]),
        fsync_ms=_fsync(folder),
        loopback_mb_s=loopback_mb_s,
        rtt_ms=rtt_ms,
    )


def _copy() -> float:
    source = np.ones(256 * MIB, np.uint8)
    target = np.empty_like(source)
    seconds = []
    for _ in range(5):
        started_s = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - started_s)
    return source.nbytes / 1e6 / median(seconds)


def _write(folder: Path) -> float:
    block = os.urandom(4 * MIB)
    path = folder / "write"
    started_s = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(64):
            file.write(block)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started_s
    path.unlink()
    return 64 * len(block) / 1e6 / seconds


def _fsync(folder: Path) -> float:
    path = folder / "fsync"
    seconds = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            started_s = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - started_s)
    path.unlink()
    return median(seconds) * 1e3


def _loopback() -> tuple[float, float]:
    """Return MB/s one way, and the milliseconds of one byte there and back."""
    total = 512 * MIB
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(200):
                    connection.sendall(connection.recv(1))
                buffer = bytearray(MIB)
                left = total
                while left:
                    left -= connection.recv_into(buffer)
                connection.sendall(b"!")

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(server.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            trips = []
            for _ in range(200):
                started_s = time.perf_counter()
                client.sendall(b".")
                client.recv(1)
                trips.append(time.perf_counter() - started_s)
            block = bytes(MIB)
            started_s = time.perf_counter()
            for _ in range(total // MIB):
                client.sendall(block)
            client.recv(1)
            seconds = time.perf_counter() - started_s
        thread.join()
    return total / 1e6 / seconds, median(trips) * 1e3


def describe() -> dict[str, str | int | float]:
    """Return what this machine is, and which commit is measured."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=here
    )
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "load_1m": os.getloadavg()[0],
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
