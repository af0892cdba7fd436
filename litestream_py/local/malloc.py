"""Keeping what the C library holds on to small: our buffers are large, short-lived and allocated by several threads.

glibc gives every thread an arena of its own, and raises the size from which it maps memory directly to that of the
largest block that was ever freed (up to 32 MiB). So buffers of a megabyte come to lie in eight arenas, none of which
gives back what lies below its highest live block: a restore from S3 grew from 84 to 114 MiB by this alone (measured).
"""

from __future__ import annotations

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_MMAP_BYTES: Final = 256 << 10
_ARENAS: Final = 2


def keep_heap_small() -> bool:
    """Map blocks of 256 KiB and more directly, and share two arenas; returns whether the C library knows how.

    To be called once, before threads are started. Elsewhere than with glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # macOS
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) and mallopt(_M_ARENA_MAX, _ARENAS))
