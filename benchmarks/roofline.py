"""The least that a step can take: its arithmetic at the machine's peak, its bytes at its bandwidth.

The step is our captured program, counted as :mod:`tinygrad_ai.jit.cost` does. Only what comes from
outside and what must be there afterwards is moved: a perfect compiler keeps the rest in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai import Tensor, matmul
from tinygrad_ai.jit import jit
from tinygrad_ai.jit.cost import flops


def cost(program: Any) -> tuple[float, float]:
    """FLOPs and bytes of a :class:`tinygrad_ai.jit.program.Program`."""
    arithmetic = sum(map(flops, program.equations))
    arrays = {id(v): v.nbytes for v in [i.var for i in program.inputs] + program.outputs}
    written = sum(v.nbytes for v in {id(v): v for v in program.outputs}.values())
    read = sum(arrays.values()) - written
    return float(arithmetic), float(read + written)


def probe(seconds: float = 0.5) -> tuple[float, float]:
    """Peak FLOP/s and bytes/s of this process: the best of products (NumPy's, ours), of copies."""
    rng = np.random.default_rng(0)
    peak = 0.0
    ours = jit(matmul)
    for n in (256, 512, 768):
        a, b = (rng.standard_normal((n, n), np.float32) for _ in range(2))
        out, x, y = np.empty_like(a), Tensor(a), Tensor(b)
        for product in (partial(np.matmul, a, b, out), partial(ours, x, y)):
            peak = max(peak, 2 * n**3 / best(product, seconds))
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    return peak, 2 * source.nbytes / best(partial(np.copyto, target, source), 4 * seconds)


def best(call: Callable[[], Any], seconds: float) -> float:
    """The shortest of as many calls as fit into ``seconds``, at least five."""
    found, start = [], time.perf_counter()
    while len(found) < 5 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        found.append(time.perf_counter() - before)
    return min(found)
