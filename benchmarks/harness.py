"""Interleaved rounds of several contenders, so that a machine that drifts drifts for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the smallest and the median over the rounds."""

    minimum: float
    median: float


def race(
    contenders: Mapping[str, Callable[[], object]], rounds: int = 200, calls: int = 1
) -> dict[str, Timing]:
    """Time every contender in turn, ``rounds`` times ``calls`` calls each, after a warm-up."""
    for call in contenders.values():
        for _ in range(max(3, calls)):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            for _ in range(calls):
                call()
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: Timing(min(s), statistics.median(s)) for name, s in seconds.items()}


def table(
    timings: Mapping[str, Timing], against: str, unit: float = 1e-3, label: str = "ms"
) -> str:
    """The timings as lines, with each contender's time as a multiple of ``against``'s."""
    base = timings[against]
    lines = [f"{'':24}{'min ' + label:>12}{'median ' + label:>12}{'× min':>8}{'× median':>10}"]
    for name, t in timings.items():
        lines.append(
            f"{name:24}{t.minimum / unit:12.3f}{t.median / unit:12.3f}"
            f"{t.minimum / base.minimum:8.2f}{t.median / base.median:10.2f}"
        )
    return "\n".join(lines)
