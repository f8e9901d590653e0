"""Step time against batch, width, depth, sequence length and cores."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.adapters import ADAPTERS
from benchmarks.crew import Crew, cores
from benchmarks.measure import Effort, Result, steady
from benchmarks.report import grid, plain_numbers, seconds
from benchmarks.workloads import WORKLOADS, Workload

#: the choice of frameworks unless told otherwise: torch.compile and tinygrad compile every size
ADAPTERS_SCALED = ("ours_jit", "torch_eager", "jax_jit")


@dataclass(frozen=True)
class Axis:
    """One thing that grows while everything else stays."""

    name: str
    workload: str
    sizes: Mapping[int, Mapping[str, Any]]  #: the value on the axis -> the sizes that it means

    def workloads(self) -> dict[int, Workload]:
        """By the value on the axis."""
        return {at: WORKLOADS[self.workload].sized(**s) for at, s in self.sizes.items()}


AXES = (
    Axis("batch", "mlp", {n: {"batch": n} for n in (8, 32, 128, 512)}),
    Axis("width", "mlp", {n: {"layers": (784, n, 10)} for n in (32, 128, 512, 1024)}),
    Axis("depth", "mlp", {n: {"layers": (784, *[128] * n, 10)} for n in (1, 2, 4, 8)}),
    Axis("sequence length", "rnn", {n: {"time": n} for n in (10, 25, 50, 100)}),
)
ON_CORES = ("autoencoder", "transformer")

#: axis (with its workload) -> value -> adapter -> result
Curves = dict[str, dict[int, dict[str, Result]]]


def curves(adapters: Sequence[str], effort: Effort, tell: Callable[[str], None]) -> Curves:
    """Everything on one core; the workloads of ``ON_CORES`` on 1, 2, 4 … cores."""
    found: Curves = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with Crew(list(adapters), 1, Path(folder)) as crew:
            for axis in AXES:
                rows = {at: steady(w, crew, effort, tell) for at, w in axis.workloads().items()}
                found[f"{axis.name} ({axis.workload})"] = rows
        counts = sorted({min(1 << k, cores()) for k in range(cores().bit_length() + 1)})
        for count in counts:
            with Crew(list(adapters), count, Path(folder)) as crew:
                for name in ON_CORES:
                    row = steady(WORKLOADS[name], crew, effort, tell)
                    found.setdefault(f"cores ({name})", {})[count] = row
    return found


def table(found: Curves) -> str:
    """Minima, a line for each point."""
    names = list(dict.fromkeys(n for row in found.values() for r in row.values() for n in r))
    rows = [
        [f"{axis} = {at}", *(_minimum(results[n]) for n in names)]
        for axis, row in found.items()
        for at, results in row.items()
    ]
    return grid(["one step, minimum", *(ADAPTERS[n].title for n in names)], rows)


def _minimum(r: Result) -> str:
    return r.refused[:40] if r.timing is None else seconds(r.timing.minimum)


def plot(found: Curves, path: Path) -> None:
    """A panel an axis, both scales logarithmic."""
    import matplotlib  # noqa: PLC0415 - heavy, and only for pictures

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of a backend

    rows = -(-len(found) // 3)
    figure, panels = plt.subplots(rows, 3, figsize=(13, 3.6 * rows), squeeze=False)
    for panel in panels.flat[len(found) :]:
        panel.set_visible(False)
    for panel, (axis, row) in zip(panels.flat, found.items(), strict=False):
        for name in dict.fromkeys(name for results in row.values() for name in results):
            points = [
                (at, results[name].timing.minimum * 1e3)
                for at, results in row.items()
                if results[name].timing is not None
            ]
            if points:
                panel.plot(*zip(*points, strict=True), "o-", label=ADAPTERS[name].title)
        panel.set(xscale="log", yscale="log", xlabel=axis, ylabel="ms a step")
        panel.set_xticks(list(row), list(map(str, row)))
        panel.minorticks_off()
        plain_numbers(panel.yaxis)
        panel.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
