"""Times and what follows from them: interleaved rounds, minimum, median, intervals of ratios."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, one number a round: the machine drifts from round to round for all."""

    rounds: tuple[float, ...]

    @property
    def minimum(self) -> float:
        """The smallest of all rounds."""
        return min(self.rounds)

    @property
    def median(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.rounds)


@dataclass(frozen=True)
class Ratio:
    """How many times as long one takes as another: of the minima, of the medians, 95 % interval."""

    minima: float
    medians: float
    low: float
    high: float


def ratio(one: Timing, other: Timing, seed: int = 0) -> Ratio:
    """``one`` over ``other``, timed in the same rounds.

    The interval is the percentile bootstrap (Efron, 1979) of the ratio of medians; rounds are drawn
    in pairs, because what slows one down in a round slows down the other as well. Raises ValueError
    for different numbers of rounds.
    """
    a, b = np.array(one.rounds), np.array(other.rounds)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} rounds against {len(b)}: they were not timed side by side")
    picks = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    found = np.median(a[picks], axis=1) / np.median(b[picks], axis=1)
    low, high = np.quantile(found, (0.025, 0.975))
    minima, medians = one.minimum / other.minimum, one.median / other.median
    return Ratio(minima, medians, float(low), float(high))


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios: that of the inverse ratios is its inverse."""
    return math.exp(statistics.fmean(map(math.log, values)))


def clock(
    call: Callable[[], object], calls: int, wait: Callable[[], object] | None = None
) -> float:
    """Seconds of one call, from ``calls`` in a row and what they started ended by ``wait``."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    if wait is not None:
        wait()
    return (time.perf_counter() - start) / calls


def race(
    contenders: Mapping[str, Callable[[], object]], rounds: int = 200, calls: int = 1
) -> dict[str, Timing]:
    """Time every contender in turn, ``rounds`` times ``calls`` calls each, after a warm-up."""
    for call in contenders.values():
        clock(call, max(3, calls))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            seconds[name].append(clock(call, calls))
    return {name: Timing(tuple(s)) for name, s in seconds.items()}
