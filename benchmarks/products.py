"""Matrix products of this library beside NumPy's, torch's and JAX's, on one thread.

``python -m benchmarks.products [--quick] [--workloads]`` with the extra ``bench``. Squares of 32 to
2048 (``--quick``: to 256) in all four transposes, or the products of the training steps of the
other benchmarks. All contenders get the same arrays, results are compared before anything is timed,
and rounds interleave. Printed are GFLOP/s by the minimum (and the median) of the rounds;
below 64 they tell what a call costs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.crew import THREADS

ROUNDS = 30
SECONDS = 1.0  # of one contender, about
PLAIN = "N"
#: (batch, m, k, n, transposes): what steps of an MLP, an RNN, a Transformer, a CNN multiply.
WORKLOADS = [
    (1, 128, 784, 128, "NT"), (1, 128, 128, 784, "TN"), (1, 128, 128, 10, "NT"),
    (1, 32, 784, 64, "NT"), (1, 64, 32, 784, "TN"), (1, 256, 784, 256, "NT"),
    (1, 784, 256, 256, "TN"), (1, 128, 64, 64, "NN"), (1, 128, 64, 64, "NT"),
    (1, 128, 64, 256, "NT"), (1, 64, 128, 256, "TN"), (1, 2048, 128, 128, "NT"),
    (1, 2048, 128, 384, "NT"), (1, 2048, 128, 512, "NT"), (1, 2048, 512, 128, "NN"),
    (1, 128, 2048, 384, "TN"), (128, 64, 32, 64, "NT"), (128, 64, 64, 32, "NN"),
    (1, 16, 9, 50176, "NN"), (1, 32, 144, 12544, "NN"),
]  # fmt: skip


def contenders(
    batch: int, m: int, k: int, n: int, kinds: str, jax: Any
) -> dict[str, Callable[[], Any]]:
    """Calls that all make the same product, each into memory of its own."""
    import numpy as np  # noqa: PLC0415  (after the threads are set)
    import torch  # noqa: PLC0415

    from tinygrad_ai.kernels.cpu.matmul import matmul  # noqa: PLC0415

    rng = np.random.default_rng(0)

    def operand(rows: int, columns: int, kind: str) -> Any:
        shape = (rows, columns) if kind == PLAIN else (columns, rows)
        x = rng.standard_normal((batch, *shape) if batch > 1 else shape, dtype=np.float32)
        return x if kind == PLAIN else x.swapaxes(-1, -2)

    a, b = operand(m, k, kinds[0]), operand(k, n, kinds[1])
    shape = (batch, m, n) if batch > 1 else (m, n)
    ours, numpys = np.empty(shape, np.float32), np.empty(shape, np.float32)
    ta, tb, tc = torch.from_numpy(a), torch.from_numpy(b), torch.empty(shape)
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: matmul(a, b, ours),
        "numpy": lambda: np.matmul(a, b, out=numpys),
        "torch": lambda: torch.matmul(ta, tb, out=tc),
    }
    if jax is not None:
        ja, jb = (
            jax.numpy.asarray(x if kind == PLAIN else x.swapaxes(-1, -2))
            for x, kind in ((a, kinds[0]), (b, kinds[1]))
        )

        def product(x: Any, y: Any) -> Any:
            x, y = (
                v if kind == PLAIN else v.swapaxes(-1, -2)
                for v, kind in ((x, kinds[0]), (y, kinds[1]))
            )
            return jax.numpy.matmul(x, y)

        compiled = jax.jit(product)
        calls["jax"] = lambda: compiled(ja, jb).block_until_ready()
    wanted = a.astype(np.float64) @ b
    for name, call in calls.items():
        found = np.asarray(call())
        assert np.abs(found - wanted).max() < 1e-5 * k, f"{name} is wrong"
    return calls


def compare(cases: Iterable[tuple[int, int, int, int, str]], jax: Any) -> None:
    """One line a case; then the geometric means of our speed over each of the others'."""
    from benchmarks.harness import geometric_mean, race  # noqa: PLC0415  (imports NumPy)

    ratios: dict[str, list[float]] = {}
    for batch, m, k, n, kinds in cases:
        calls = contenders(batch, m, k, n, kinds, jax)
        flops = 2e-9 * batch * m * n * k
        once = flops / 50  # seconds, at a modest 50 GFLOP/s
        several = max(1, int(2e-4 / once))
        rounds = max(5, min(ROUNDS * 10, int(SECONDS / (several * once))))
        timings = race(calls, rounds, several)
        cells = [f"{flops / t.minimum:7.0f} ({flops / t.median:4.0f})" for t in timings.values()]
        if not ratios:
            print(f"{'batch':>5} {'m × k × n':>17}     " + "".join(f"{x:>15}" for x in timings))
            ratios = {name: [] for name in timings if name != "ours"}
        for name, found in ratios.items():
            found.append(timings[name].minimum / timings["ours"].minimum)
        size = f"{m} × {k} × {n}"
        print(f"{batch:5} {size:>17}  {kinds} " + "".join(f"{c:>15}" for c in cells), flush=True)
    for name, found in ratios.items():
        mean = geometric_mean(found)
        print(f"ours over {name}: geometric mean {mean:.2f}, least {min(found):.2f}")


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no squares beyond 256")
    parser.add_argument("--workloads", action="store_true", help="shapes of training steps instead")
    given = parser.parse_args()
    os.environ |= dict.fromkeys(THREADS, "1")
    if hasattr(os, "sched_setaffinity"):  # JAX takes all the cores that it may use
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import torch  # noqa: PLC0415  (after the threads are set)

    torch.set_num_threads(1)
    sizes = [2**e for e in range(5, 9 if given.quick else 12)]
    squares = [(1, s, s, s, x + y) for s in sizes for x in "NT" for y in "NT"]
    jax = importlib.import_module("jax") if importlib.util.find_spec("jax") else None
    compare(WORKLOADS if given.workloads else squares, jax)


if __name__ == "__main__":
    main()
