"""What can be set: whether eager calls use kernels, and where files live."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Whether large eager operations and updates of optimisers are done by kernels on the CPU
#: (``TINYGRAD_AI_KERNELS=0``: no).
kernels: bool = os.environ.get("TINYGRAD_AI_KERNELS", "1") != "0"


@contextmanager
def without_kernels() -> Iterator[None]:
    """A block in which NumPy does everything, as with :data:`kernels` False."""
    global kernels
    before, kernels = kernels, False
    try:
        yield
    finally:
        kernels = before


def cache_folder() -> Path:
    """``TINYGRAD_AI_CACHE``, or the platform's cache folder; it may not exist yet."""
    if named := os.environ.get("TINYGRAD_AI_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "tinygrad_ai"


def data_folder() -> Path | None:
    """The folder named by ``TINYGRAD_AI_DATA``, which holds full data sets; None without it."""
    named = os.environ.get("TINYGRAD_AI_DATA")
    return Path(named).expanduser() if named else None


def wanted_threads() -> int | None:
    """``TINYGRAD_AI_NUM_THREADS``, how many threads compiled steps are to use; None without it."""
    named = os.environ.get("TINYGRAD_AI_NUM_THREADS", "")
    return int(named) if named.isdecimal() and int(named) > 0 else None


def threads() -> int:
    """How many threads compiled steps may use: as wanted, or one for each core of this process.

    What is computed does not depend on it.
    """
    if wanted := wanted_threads():
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
