"""What a compiled step is made of, as a table: its kernels, what they take, and why not fewer.

Launches that are equal share a line, so a hundred time steps are as short as one. Bytes are what a
launch touches of each array, once, wherever it lies; FLOPs are those of the equations that were
fused (:mod:`tinygrad_ai.jit.cost`). A line's numbers are those of all its launches together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from textwrap import wrap
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.jit.cost import contraction, flops
from tinygrad_ai.jit.fuse import Fused, Single
from tinygrad_ai.jit.launches import Call, Launch, Work

WIDTH = 100  # columns of a terminal
LEAST = 16  # of them for the names

FEWEST, MOST = 3, 100  # times that all launches are measured in order
PATIENCE = 0.5  # seconds, after which it is not begun again
REPEATS = 128  # of a launch at once, at most
AT_ONCE = 10e-6  # seconds that these take, so that the call counts little


class Line(NamedTuple):
    """Equal launches, and the bytes, FLOPs and seconds that they take together."""

    name: str
    size: str  #: the elements that it works through; of a sum of products also how many (Σ)
    launches: int
    read: int
    written: int
    flops: int
    seconds: float = 0.0  #: 0 where that is not known


def lines(launches: Sequence[Work], times: Sequence[float]) -> list[Line]:
    """The launches in order, equal ones as one line where the first of them is."""
    found: dict[tuple[str, str, int, int, int], list[float]] = {}
    for work, seconds in zip(launches, times, strict=True):
        name = f"numpy {work.name}" if isinstance(work, Call) else work.name
        read, written = work.moved()
        facts = name, _size(work), read, written, sum(map(flops, work.equations))
        found.setdefault(facts, []).append(seconds)
    return [
        Line(name, size, len(t), len(t) * read, len(t) * written, len(t) * done, sum(t))
        for (name, size, read, written, done), t in found.items()
    ]


def least(runs: Sequence[Callable[[int], Any]]) -> list[float]:
    """The least seconds of each of ``runs``, which do something a number of times.

    They are done in order, again and again, short ones many times at once. 0 for one that fails:
    NumPy may refuse the numbers that stand for a step's arguments.
    """
    best = [math.inf] * len(runs)
    counts = [1] * len(runs)
    began = perf_counter()
    for done in range(MOST):
        if done >= FEWEST and perf_counter() - began > PATIENCE:
            break
        for k, run in enumerate(runs):
            with np.errstate(all="ignore"), suppress(Exception):
                start = perf_counter()
                run(counts[k])
                best[k] = min(best[k], (perf_counter() - start) / counts[k])
                counts[k] = min(int(AT_ONCE / best[k]) + 1, REPEATS)
    return [seconds if seconds < math.inf else 0.0 for seconds in best]


def report(
    title: str, fused: Fused, launches: Sequence[Work], arena: int, times: Sequence[float] | None
) -> str:
    """The table of ``launches``, of ``fused`` in memory of ``arena`` bytes, and what it says.

    ``times`` are the seconds of each launch, if they are to be shown.
    """
    listed = lines(launches, times or [0.0] * len(launches))
    done = [e for kernel in fused.kernels for e in kernel.equations if e.outputs]
    views = sum(bool(e.outputs) for e in fused.program.equations) - len(done)
    codes = {id(work.native) for work in launches if isinstance(work, Launch)}
    calls = sum(isinstance(work, Call) for work in launches)
    facts = [
        f"operations: {len(done)}, and {views} that are views",
        f"launches: {len(launches) - calls} of {len(codes)} kernels",
        f"NumPy calls: {calls}",
        f"arena: {short(arena)}B",
    ]
    notes = ["", *wrap("; ".join(facts), WIDTH), *_reasons(fused)]
    return "\n".join([title, *table(listed, timed=bool(times)), *notes])


def table(listed: Sequence[Line], timed: bool) -> list[str]:
    """The lines as text with aligned columns, the sums at the end."""
    head = ["", "", "×", "read B", "wrote B", "FLOP"]
    head += ["µs", "GFLOP/s", "GB/s", "share"] if timed else []
    sums = (sum(getattr(x, field) for x in listed) for field in Line._fields[2:])
    total = Line("total", "", *sums)
    rows = [head, *(_cells(x, total.seconds, timed) for x in [*listed, total])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names = max(min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(widths[1:])), LEAST)
    text = []
    for name, size, *numbers in rows:
        first, *more = wrap(name.replace("+", "+ "), names, subsequent_indent="  ") or [""]
        cells = [first.replace("+ ", "+").ljust(names), size.ljust(widths[1])]
        cells += (n.rjust(w) for n, w in zip(numbers, widths[2:], strict=True))
        text += ["  ".join(cells).rstrip(), *(part.replace("+ ", "+") for part in more)]
    return text


def _cells(x: Line, whole: float, timed: bool) -> list[str]:
    cells = [x.name, x.size, str(x.launches), *map(short, (x.read, x.written, x.flops))]
    if not timed:
        return cells
    if not x.seconds:
        return [*cells, "–", "–", "–", "–"]
    moved = x.read + x.written
    numbers = 1e6 * x.seconds, 1e-9 * x.flops / x.seconds, 1e-9 * moved / x.seconds
    return [
        *cells,
        *(f"{n:.{2 if n < 1 else 1 if n < 1000 else 0}f}" for n in numbers),
        f"{x.seconds / whole:.0%}",
    ]


def _reasons(fused: Fused) -> list[str]:
    """What begins kernels of its own, or is left to NumPy: each reason, and whose it is."""
    text = []
    for what, calls in (("not fused with what comes before:", False), ("left to NumPy:", True)):
        found: dict[str, Counter[str]] = {}
        for kernel in fused.kernels:
            if kernel.reason and calls is (isinstance(kernel, Single) and kernel.kind == "call"):
                found.setdefault(kernel.reason, Counter())[kernel.equations[0].label] += 1
        text += [what] if found else []
        for reason, names in found.items():
            whose = ", ".join(f"{name}×{n}" if n > 1 else name for name, n in names.items())
            text += wrap(f"  {reason}: {whose}", WIDTH, subsequent_indent="    ")
    return text


def _size(work: Work) -> str:
    made = [e for e in work.equations if e.outputs]
    if not made:
        return str(work.touched.get(0, work.operands[0].size))
    for e in made:
        if e.operation.kind == "contraction":
            shape, products = contraction(e)
            return f"{_by(shape)} Σ{products}"
    return _by(max(map(_loops, made), key=math.prod))


def _loops(e: Any) -> tuple[int, ...]:
    return next(e.reads()).shape if e.operation.kind == "reduction" else e.outputs[0].shape


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "1"


def short(n: float) -> str:
    """Three digits and a prefix: 401408 is 401k."""
    for prefix in ("", "k", "M", "G"):
        if n < 999.5:
            return f"{n:.3g}{prefix}"
        n /= 1000
    return f"{n:.3g}T"
