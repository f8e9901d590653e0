"""What can be set: whether eager calls use kernels, and where files live."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tinygrad_ai.errors import ValueRangeError


def _named(variable: str, valid: Callable[[str], bool], wanted: str) -> str:
    """The environment's ``variable``, or nothing; ValueRangeError unless it is ``valid``."""
    value = os.environ.get(variable, "")
    if value and not valid(value):
        raise ValueRangeError(
            f"{variable} must be {wanted}, not {value!r}",
            f"   help: {variable} is a variable of the environment; unset it for the default",
        )
    return value


#: Whether large eager operations and updates of optimisers are done by kernels on the CPU
#: (``TINYGRAD_AI_KERNELS=0``: no).
kernels: bool = _named("TINYGRAD_AI_KERNELS", ("0", "1").__contains__, "0 or 1") != "0"
_inside = threading.local()  # blocks without kernels, in this thread


def uses_kernels() -> bool:
    """Whether :data:`kernels` is set, and this is no block :func:`without_kernels`."""
    return kernels and not getattr(_inside, "blocks", 0)


@contextmanager
def without_kernels() -> Iterator[None]:
    """A block in which NumPy does everything, in this thread, as with :data:`kernels` False."""
    _inside.blocks = getattr(_inside, "blocks", 0) + 1
    try:
        yield
    finally:
        _inside.blocks -= 1


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
    named = _named("TINYGRAD_AI_NUM_THREADS", _positive, "a whole number of at least 1")
    return int(named) if named else None


def _positive(text: str) -> bool:
    return text.isdecimal() and int(text) > 0


def threads() -> int:
    """How many threads compiled steps may use: as wanted, or one for each core of this process.

    What is computed does not depend on it.
    """
    if wanted := wanted_threads():
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
