"""What the figures belong to: the processor, its cores and vectors, versions, the load."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from benchmarks.crew import cores

#: of /proc/cpuinfo's flags, those that decide which kernels a library takes
VECTORS = re.compile(r"^(sse4_2|avx.*|fma|f16c|amx.*|neon|asimd.*|sve.*)$")


def machine() -> dict[str, Any]:
    """Recorded with every run."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = facts.get("flags", facts.get("Features", "")).split()
    return {
        "processor": facts.get("model name", platform.processor() or platform.machine()),
        "vectors": sorted(filter(VECTORS.match, flags)),
        "cores": cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load": [round(x, 1) for x in os.getloadavg()] if hasattr(os, "getloadavg") else [],
        "versions": {
            name: version
            for name in ("numpy", "numba", "llvmlite", "jaxlib")
            if (version := _version(name))
        },
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
