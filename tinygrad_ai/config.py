"""Where files live: the cache folder and the folder with full data sets."""

from __future__ import annotations

import os
import sys
from pathlib import Path


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
